"""How likely a person is to do something: boosted trees, calibrated on later data, with a reason for every number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import lightgbm as lgb
import numpy as np
import pandas as pd

from data.errors import DataError, ModelFileError, NotFittedError
from data.files import replacing
from models.calibration import Calibration

SMALL_CELLS = 500_000
"""Rows x features below which one thread is as quick as many."""
MIN_OF_A_CLASS = 10
"""Fewer positives (or negatives) than this teach nothing that would hold."""


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


class Propensity:
    """Gradient-boosted trees for a yes or a no (LightGBM; Ke et al. 2017).

    Small trees and a low learning rate with early stopping: at a shop's size (thousands to a few million rows)
    they are better calibrated than LightGBM's defaults and no worse at ranking. Numbers may be missing; strings
    are categories, and one that training never saw counts as missing. Infinite numbers count as missing.
    The same data and seed give the same model, whatever the number of threads.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> frame = pd.DataFrame({"days_since_order": rng.uniform(0, 100, 400)})
        >>> churned = (frame.days_since_order > 50).astype(int)
        >>> model = Propensity().fit(frame[:300], churned[:300], valid=frame[300:], valid_label=churned[300:])
        >>> bool(model.predict(pd.DataFrame({"days_since_order": [90.0]}))[0] > 0.9)
        True
        >>> model.reasons(pd.DataFrame({"days_since_order": [90.0]}))[0][0].feature
        'days_since_order'
    """

    features: list[str]
    categories: dict[str, list[str]]
    calibration: Calibration

    def __init__(
        self,
        *,
        leaves: int = 15,
        learning_rate: float = 0.05,
        min_rows_in_leaf: int = 40,
        column_share: float = 0.8,
        l2: float = 5.0,
        rounds: int = 2000,
        patience: int = 50,
    ) -> None:
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.min_rows_in_leaf = min_rows_in_leaf
        self.column_share = column_share
        self.l2 = l2
        self.rounds = rounds
        self.patience = patience

    @property
    def params(self) -> dict[str, int | float]:
        """The hyperparameters by name."""
        names = ("leaves", "learning_rate", "min_rows_in_leaf", "column_share", "l2", "rounds", "patience")
        return {name: getattr(self, name) for name in names}

    def fit(
        self,
        train: pd.DataFrame,
        label: Sequence[int] | np.ndarray | pd.Series,
        *,
        valid: pd.DataFrame,
        valid_label: Sequence[int] | np.ndarray | pd.Series,
        calibration: pd.DataFrame | None = None,
        calibration_label: Sequence[int] | np.ndarray | pd.Series | None = None,
        seed: int = 0,
        monotone: Mapping[str, int] | None = None,
    ) -> Self:
        """Learn on `train`, stop by `valid`, and calibrate on `calibration`, each later than the one before.

        Args:
            train: Features, a row per person and cutoff. Every column is used.
            label: 0 or 1 per row.
            valid: Rows to stop by: boosting ends when their log loss has not fallen for `patience` rounds.
            valid_label: Theirs.
            calibration: Later rows to calibrate on; without them probabilities stay as the trees gave them.
            calibration_label: Theirs.
            seed: Of the sampled columns.
            monotone: Feature -> +1 (the probability may only rise with it) or -1 (only fall).

        Raises:
            DataError: a label other than 0 and 1; under ten of a class in `train` or none of one in the others;
                a column that is neither numbers nor strings, or that is not there; a monotone category.
        """
        y = _labels(label, train, "train", at_least=MIN_OF_A_CLASS)
        y_valid = _labels(valid_label, valid, "valid", at_least=1)
        if train.shape[1] == 0:
            raise DataError("train has no features. Build them with `attune features`.")
        self.features = [str(name) for name in train.columns]
        self.categories = {
            str(name): sorted(train[name].dropna().unique().tolist())
            for name in train.columns
            if _is_category(train[name])
        }
        options = {
            "objective": "binary",
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_rows_in_leaf,
            "feature_fraction": self.column_share,
            "lambda_l2": self.l2,
            "monotone_constraints": self._constraints(monotone or {}),
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": _threads(train),
            "verbosity": -1,
        }
        learn = lgb.Dataset(
            self._matrix(train), y, categorical_feature=[self.features.index(name) for name in self.categories]
        )
        stop = lgb.Dataset(self._matrix(valid), y_valid, reference=learn)
        self._booster = lgb.train(
            options,
            learn,
            num_boost_round=self.rounds,
            valid_sets=[stop],
            callbacks=[lgb.early_stopping(self.patience, verbose=False)],
        )
        self._booster = lgb.Booster(model_str=self._booster.model_to_string(num_iteration=self._booster.best_iteration))
        self.calibration = Calibration()
        if calibration is not None:
            later = _labels(calibration_label, calibration, "calibration", at_least=1)
            self.calibration = Calibration.fit(self._log_odds(calibration), later)
        return self

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Calibrated probabilities, float64 of shape (n,), in [0, 1]. Columns may be in any order; others are ignored.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: a feature is not there, or is no longer of its kind.
        """
        log_odds = self._log_odds(frame)
        return self.calibration(log_odds)

    def reasons(self, frame: pd.DataFrame, *, top: int = 3) -> list[list[Reason]]:
        """For each row the features that moved it most from the average person, strongest first.

        Features that moved it not at all are left out.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: a feature is not there, or is no longer of its kind.
        """
        matrix = self._matrix(frame)
        if not len(frame):
            return []
        contributions = self._booster.predict(matrix, pred_contrib=True, num_threads=_threads(frame))
        contributions = np.asarray(contributions)[:, :-1]
        strongest = np.argsort(-np.abs(contributions), axis=1, kind="stable")[:, :top]
        return [
            [
                Reason(self.features[j], self._value(j, matrix[row, j]), float(contributions[row, j]))
                for j in features
                if contributions[row, j] != 0
            ]
            for row, features in enumerate(strongest)
        ]

    def importance(self) -> pd.Series:
        """Each feature's share of the loss that all splits took away, the greatest first; sums to 1 (or is all 0)."""
        self._check_fitted()
        gain = self._booster.feature_importance("gain")
        shares = pd.Series(gain / max(gain.sum(), 1e-300), index=self.features, name="importance")
        return shares.sort_values(ascending=False, kind="stable")

    def save(self, folder: Path) -> None:
        """Write `trees.txt` (LightGBM's own text) and `model.json`; the folder appears whole or not at all."""
        self._check_fitted()
        trees = self._booster.model_to_string()
        about = {
            "name": "propensity",
            "params": self.params,
            "features": self.features,
            "categories": self.categories,
            "calibration": self.calibration.to_json(),
            "trees_sha256": hashlib.sha256(trees.encode()).hexdigest(),
        }
        with replacing(folder) as beside:
            beside.mkdir()
            (beside / "trees.txt").write_text(trees, encoding="utf-8")
            (beside / "model.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: a file is missing, cut short or changed.
        """
        try:
            about: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            trees = (folder / "trees.txt").read_text(encoding="utf-8")
            if hashlib.sha256(trees.encode()).hexdigest() != about["trees_sha256"]:
                raise ModelFileError(f"{folder / 'trees.txt'} is cut short or changed. Fetch the version again.")
            model = cls(**about["params"])
            model.features, model.categories = about["features"], about["categories"]
            model.calibration = Calibration(**about["calibration"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"{folder} is damaged: {error}. Fetch the version again, or train anew.") from error
        model._booster = lgb.Booster(model_str=trees)
        return model

    def _log_odds(self, frame: pd.DataFrame) -> np.ndarray:
        matrix = self._matrix(frame)
        if not len(frame):
            return np.zeros(0)
        return np.asarray(self._booster.predict(matrix, raw_score=True, num_threads=_threads(frame)))

    def _matrix(self, frame: pd.DataFrame) -> np.ndarray:
        """The features as float64 (n, n_features); a category is its place in the stored list, missing is NaN."""
        self._check_fitted()
        missing = [name for name in self.features if name not in frame]
        if missing:
            raise DataError(
                f"the feature {missing[0]!r} is not there (nor are {len(missing) - 1} others). "
                "Build the features again with the settings of the model, or train anew."
            )
        columns = [
            _codes(frame[name], self.categories[name]) if name in self.categories else _numbers(frame[name])
            for name in self.features
        ]
        return np.column_stack(columns)

    def _value(self, j: int, value: float) -> float | str | None:
        if np.isnan(value):
            return None
        listed = self.categories.get(self.features[j])
        return listed[int(value)] if listed is not None else float(value)

    def _constraints(self, monotone: Mapping[str, int]) -> list[int]:
        for name, direction in monotone.items():
            if name not in self.features or name in self.categories or direction not in (-1, 1):
                raise DataError(f"monotone: {name!r} = {direction}; name a numeric feature and give 1 or -1.")
        return [monotone.get(name, 0) for name in self.features]

    def _check_fitted(self) -> None:
        if not hasattr(self, "features"):
            raise NotFittedError("propensity has not learnt yet: call fit(...) or load(folder) first.")


def _threads(frame: pd.DataFrame) -> int:
    """One where threads would wait for each other longer than they work, else (0) all; the model is the same."""
    return 1 if frame.size < SMALL_CELLS else 0


def _labels(label: Any, frame: pd.DataFrame, what: str, *, at_least: int) -> np.ndarray:
    y = np.asarray(label, dtype=np.float64)
    if y.shape != (len(frame),) or not np.isin(y, (0, 1)).all():
        raise DataError(f"{what}: give a label of 0 or 1 for each of {len(frame)} rows; got shape {y.shape}.")
    positives, negatives = int(y.sum()), int(len(y) - y.sum())
    for count, kind in ((positives, "positive"), (negatives, "negative")):
        if count < at_least:
            raise DataError(
                f"{what}: {count} of {len(y)} rows are {kind}, at least {at_least} are needed. "
                "Use more or earlier cutoffs, another horizon, or a wider population."
            )
    return y


def _is_category(column: pd.Series) -> bool:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return not pd.api.types.is_numeric_dtype(column.dtype.categories.dtype)
    known = column.dropna()
    if pd.api.types.is_object_dtype(column.dtype):
        return bool(len(known)) and known.map(lambda value: isinstance(value, str)).all()
    return pd.api.types.is_string_dtype(column.dtype)


def _codes(column: pd.Series, categories: list[str]) -> np.ndarray:
    if column.notna().any() and not _is_category(column):
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
            f"the feature {column.name!r} is {kind} and cannot be read as numbers. "
            "Give numbers or strings; turn a time into days before the cutoff."
        )
    return np.where(np.isfinite(numbers), numbers, np.nan)
