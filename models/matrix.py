"""What models of customers' features share: the features as numbers, the reasons for a prediction, their importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from data.errors import DataError

Categories = Mapping[str, list[str]]
"""Of each feature that is words, those that the model knows."""
NO_CATEGORIES: Categories = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Reason:
    """One feature's part in one prediction.

    Attributes:
        feature: Its name.
        value: What the person has; None where it is missing.
        contribution: What that adds to the log-odds, before calibration (SHAP; Lundberg et al. 2020).
    """

    feature: str
    value: float | str | None
    contribution: float


def matrix_of(frame: pd.DataFrame, features: Sequence[str], categories: Categories = NO_CATEGORIES) -> np.ndarray:
    """The features as float64 (n, n_features); a category is its place in its list, missing or infinite is NaN.

    Raises:
        DataError: a feature is not there, or is not of its kind.

    Example:
        >>> frame = pd.DataFrame({"plan": ["year", "week"], "spend": [1.5, None]})
        >>> matrix_of(frame, ["spend", "plan"], {"plan": ["month", "year"]}).tolist()
        [[1.5, 1.0], [nan, nan]]
    """
    missing = [name for name in features if name not in frame]
    if missing:
        raise DataError(
            f"the feature {missing[0]!r} is not there (nor are {len(missing) - 1} others). "
            "Build the features again with the settings of the model, or train anew."
        )
    matrix = np.empty((len(frame), len(features)))
    kinds = dict(zip(frame.columns, frame.dtypes, strict=True))
    plain = [j for j, name in enumerate(features) if name not in categories and _is_plain(kinds[name])]
    matrix[:, plain] = frame[[features[j] for j in plain]].to_numpy(dtype=np.float64)  # one by one is slow for a person
    for j in set(range(len(features))).difference(plain):
        name = features[j]
        matrix[:, j] = _codes(frame[name], categories[name]) if name in categories else _numbers(frame[name])
    matrix[~np.isfinite(matrix)] = np.nan
    return matrix


def is_category(column: pd.Series) -> bool:
    """Whether a column is words."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return not pd.api.types.is_numeric_dtype(column.dtype.categories.dtype)
    known = column.dropna()
    if pd.api.types.is_object_dtype(column.dtype):
        return bool(len(known)) and known.map(lambda value: isinstance(value, str)).all()
    return pd.api.types.is_string_dtype(column.dtype)


def reasons_of(
    contributions: np.ndarray,
    matrix: np.ndarray,
    features: Sequence[str],
    categories: Categories = NO_CATEGORIES,
    *,
    top: int,
) -> list[list[Reason]]:
    """For each row the features that contribute most, the strongest first; those that contribute nothing are left out.

    Args:
        contributions: Of each feature, (n, n_features).
        matrix: As `matrix_of` has it.
        features: Names.
        categories: As of `matrix_of`.
        top: So many, at the most.
    """

    def value(j: int, number: float) -> float | str | None:
        if np.isnan(number):
            return None
        listed = categories.get(features[j])
        return listed[int(number)] if listed is not None else float(number)

    strongest = np.argsort(-np.abs(contributions), axis=1, kind="stable")[:, :top]
    return [
        [
            Reason(features[j], value(j, matrix[row, j]), float(contributions[row, j]))
            for j in places
            if contributions[row, j] != 0
        ]
        for row, places in enumerate(strongest)
    ]


def importance_of(parts: np.ndarray, features: Sequence[str]) -> pd.Series:
    """Each feature's share of what all of them do, the greatest first; sums to 1 (or is all 0)."""
    shares = pd.Series(shares_of(parts), index=features, name="importance")
    return shares.sort_values(ascending=False, kind="stable")


def shares_of(parts: np.ndarray) -> np.ndarray:
    """Each part of the whole; all 0 where that is nothing."""
    shares: np.ndarray = parts / max(float(parts.sum()), 1e-300)
    return shares


def _is_plain(kind: Any) -> bool:
    """Whether numpy itself keeps such numbers, without a mask of what is missing."""
    return isinstance(kind, np.dtype) and kind.kind in "biuf"


def _codes(column: pd.Series, categories: list[str]) -> np.ndarray:
    if column.notna().any() and not is_category(column):
        raise DataError(f"the feature {column.name!r} is {column.dtype}; the model learnt it as strings. Give strings.")
    codes = pd.Index(categories, dtype="object").get_indexer(pd.Index(column.astype("object")))
    return np.where(codes >= 0, codes, np.nan)


def _numbers(column: pd.Series) -> np.ndarray:
    kind = column.dtype
    try:
        numbers = None if kind.kind in "mM" else column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        numbers = None
    if numbers is None:
        raise DataError(
            f"the feature {column.name!r} is {kind} and cannot be read as numbers: give numbers (of a time, the days "
            "before the cutoff), or strings where the model learns from them."
        )
    return numbers
