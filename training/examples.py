"""Stored requests with their expected answers: what a version must still say after it was moved. Nobody's own data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.errors import ModelFileError
from data.histories import Histories, Step
from data.vocabulary import Vocabulary
from models.recommenders import Ranking, Recommender
from models.stored import StoredPropensity
from models.timing import Engagement, Timing
from models.worth import CustomerValue
from registry.folder import EXAMPLES

K = 10
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""An example customer has the same quantile of every feature: plausible, and no real person."""


def write_recommender_examples(model: Recommender, popular: Sequence[int], folder: Path) -> None:
    """Rank for a stranger, for each of a few popular items alone, and for all of them.

    Args:
        model: Fitted.
        popular: Codes of a few popular items.
        folder: The version's folder.
    """
    ids = model.items.ids(popular)
    examples = [[], *([id_] for id_ in ids), ids]
    ranking = model.recommend(histories(model.items, examples), K)
    _write(
        folder,
        {
            "histories": [{"items": items, "weights": [1.0] * len(items)} for items in examples],
            "k": K,
            "expected": ranked_ids(model.items, ranking),
        },
    )


def write_propensity_examples(model: StoredPropensity, features: pd.DataFrame, folder: Path) -> None:
    """Score customers who have the same quantile of every feature.

    Args:
        model: Fitted.
        features: A snapshot's rows, with the model's features.
        folder: The version's folder.
    """
    rows = [{name: _quantile(features[name], quantile) for name in model.features} for quantile in QUANTILES]
    _write(folder, {"rows": rows, "expected": model.predict(pd.DataFrame(rows)).tolist()})


def write_value_examples(model: CustomerValue, features: pd.DataFrame, folder: Path) -> None:
    """Ask for customers who have the same quantile of every feature.

    Args:
        model: Fitted.
        features: Of customers, with the model's features.
        folder: The version's folder.
    """
    rows = [{name: _quantile(features[name], quantile) for name in model.features} for quantile in QUANTILES]
    _write(folder, {"rows": rows, "expected": model.predict(pd.DataFrame(rows)).value.tolist()})


def check_value_examples(model: CustomerValue, folder: Path) -> None:
    """Ask a loaded value model its stored examples.

    Raises:
        ModelFileError: it answers otherwise than it did when it was saved (beyond 1e-6).
    """
    examples = _read(folder)
    _check_close(model.predict(pd.DataFrame(examples["rows"])).value, examples, folder)


def write_timing_examples(model: Timing, folder: Path) -> None:
    """Ask for a stranger, and for people who answer or shop at a few hours.

    Args:
        model: Fitted.
        folder: The version's folder.
    """
    people: list[dict[str, Any]] = [{}]
    for own in (8, 13, 20):
        hours = [8, 8, 13, 13, 20, 20]
        answered = [hour == own for hour in hours]
        people.append({"channel": [model.channels[0]] * len(hours), "hour": hours, "answered": answered})
        people.append({"active": [own] * 4})
    _write(
        folder, {"people": people, "expected": model.score(Engagement.from_lists(model.channels, people)).rate.tolist()}
    )


def check_timing_examples(model: Timing, folder: Path) -> None:
    """Ask a loaded send-time model its stored examples.

    Raises:
        ModelFileError: it answers otherwise than it did when it was saved (beyond 1e-6).
    """
    examples = _read(folder)
    _check_close(model.score(Engagement.from_lists(model.channels, examples["people"])).rate, examples, folder)


def check_recommender_examples(model: Recommender, folder: Path) -> None:
    """Ask a loaded recommender its stored examples.

    Raises:
        ModelFileError: it answers otherwise than it did when it was saved.
    """
    examples = _read(folder)
    asked = [example["items"] for example in examples["histories"]]
    weights = [example["weights"] for example in examples["histories"]]
    found = ranked_ids(model.items, model.recommend(histories(model.items, asked, weights), examples["k"]))
    if found != examples["expected"]:
        raise ModelFileError(f"{folder}: the model does not answer its stored examples as when it was saved.")


def check_propensity_examples(model: StoredPropensity, folder: Path) -> None:
    """Ask a loaded propensity model its stored examples.

    Raises:
        ModelFileError: it answers otherwise than it did when it was saved (beyond 1e-6).
    """
    examples = _read(folder)
    _check_close(model.predict(pd.DataFrame(examples["rows"])), examples, folder)


def histories(
    items: Vocabulary, ids: Iterable[Sequence[str]], weights: Iterable[Sequence[float]] | None = None
) -> Histories:
    """Lists of item ids, first to last (each with weights, 1 where none are given); unknown items are left out.

    A step's time is its place in the list, in seconds since 1970.

    Example:
        >>> found = histories(Vocabulary(["tea", "cup"]), [["cup", "hat"], []])
        >>> found.matrix.toarray().tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """
    lists = [list(row) for row in ids]
    strengths = [[1.0] * len(row) for row in lists] if weights is None else weights
    rows = [
        [Step(id_, weight, place) for place, (id_, weight) in enumerate(zip(row, strength, strict=True))]
        for row, strength in zip(lists, strengths, strict=True)
    ]
    return Histories.of_steps(items, rows, now=[len(row) for row in lists])


def ranked_ids(items: Vocabulary, ranking: Ranking) -> list[list[str]]:
    """Ids of each row's items, best first, without the empty places."""
    return [items.ids(row[row >= 0]) for row in ranking.items]


def _check_close(found: np.ndarray, examples: Mapping[str, Any], folder: Path) -> None:
    if not np.allclose(found, examples["expected"], rtol=0, atol=1e-6):
        raise ModelFileError(f"{folder}: the model does not answer its stored examples as when it was saved.")


def _quantile(values: pd.Series, quantile: float) -> float | str | None:
    """The value at a quantile; of words and yes or no the one at that place in their order, None if all are missing."""
    known = values.dropna()
    if known.empty:
        return None
    if pd.api.types.is_bool_dtype(known):
        return bool(known.astype(float).quantile(quantile) > 0.5)
    if pd.api.types.is_numeric_dtype(known):
        return float(known.astype(float).quantile(quantile))
    ordered = np.sort(known.astype(str).to_numpy(dtype=object))
    return str(ordered[int(quantile * (len(ordered) - 1))])


def _write(folder: Path, examples: dict[str, Any]) -> None:
    (folder / EXAMPLES).write_text(json.dumps(examples), encoding="utf-8")


def _read(folder: Path) -> dict[str, Any]:
    try:
        examples: dict[str, Any] = json.loads((folder / EXAMPLES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{folder / EXAMPLES} cannot be read: {error}. Train anew with `attune train`.") from error
    return examples
