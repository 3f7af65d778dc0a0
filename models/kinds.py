"""The kinds of registered models: how each is read from its folder, and how it answers the examples stored with it.

Stored examples are requests with their expected answers, nobody's own data: what a version must still say after it was
moved. Training writes them and the gate asks them again; so does serving before it swaps a version in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.errors import ModelFileError
from data.histories import Histories, Step
from data.vocabulary import Vocabulary
from models.offers import OfferModel
from models.recommenders import Ranking, Recommender, load
from models.saving import EXAMPLES
from models.stored import load_propensity
from models.timing import Engagement, Timing
from models.variants import VariantModel
from models.worth import CustomerValue

PROPENSITY = "propensity"
"""A registered propensity is called so, then `-` and its label."""
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Attributes:
        load: Reads a version's folder; raises `ModelFileError` where it is damaged.
        answer: What a loaded model says to stored questions: an array, or lists of ids.
    """

    load: Callable[[Path], Any]
    answer: Callable[[Any, Mapping[str, Any]], np.ndarray | list[list[str]]]


def kind_of(name: str) -> Kind:
    """The kind of a registered model.

    Raises:
        ModelFileError: there is no such kind.

    Example:
        >>> kind_of("propensity-churn") is KINDS["propensity"]
        True
    """
    kind = KINDS.get(PROPENSITY if name.startswith(f"{PROPENSITY}-") else name)
    if kind is None:
        raise ModelFileError(f"{name!r} is no kind of model here; there are {', '.join(KINDS)}.")
    return kind


def write_examples(name: str, model: Any, questions: Mapping[str, Any], folder: Path) -> None:
    """Store questions with what the model says to them.

    Args:
        name: Registered model.
        model: Fitted.
        questions: JSON values, as the kind's `answer` reads them.
        folder: The version's folder.
    """
    found = kind_of(name).answer(model, questions)
    expected = found.tolist() if isinstance(found, np.ndarray) else found
    (folder / EXAMPLES).write_text(json.dumps({**questions, "expected": expected}), encoding="utf-8")


def load_answering(name: str, folder: Path) -> Any:
    """The model in a version's folder, if it answers its stored examples as when it was saved.

    Raises:
        ModelFileError: it does not (numbers beyond 1e-6), or a file is damaged.
    """
    kind = kind_of(name)
    model = kind.load(folder)
    try:
        examples: dict[str, Any] = json.loads((folder / EXAMPLES).read_text(encoding="utf-8"))
        found, expected = kind.answer(model, examples), examples["expected"]
        if isinstance(found, np.ndarray):
            same = np.allclose(found, expected, rtol=0, atol=TOLERANCE)
        else:
            same = found == expected
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{folder / EXAMPLES} cannot be read: {error}. Train anew with `attune train`.") from error
    if not same:
        raise ModelFileError(f"{folder}: the model does not answer its stored examples as when it was saved.")
    return model


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
    return Histories.of_steps(items, rows, now=[len(row) for row in rows])


def ranked_ids(items: Vocabulary, ranking: Ranking) -> list[list[str]]:
    """Ids of each row's items, best first, without the empty places."""
    return [items.ids(row[row >= 0]) for row in ranking.items]


def _ranked(model: Recommender, asked: Mapping[str, Any]) -> list[list[str]]:
    ids, weights = ([one[name] for one in asked["histories"]] for name in ("items", "weights"))
    return ranked_ids(model.items, model.recommend(histories(model.items, ids, weights), asked["k"]))


def _open_rates(model: Timing, asked: Mapping[str, Any]) -> np.ndarray:
    return model.score(Engagement.from_lists(model.channels, asked["people"])).rate


KINDS: Mapping[str, Kind] = {
    "recommender": Kind(load, _ranked),
    PROPENSITY: Kind(load_propensity, lambda model, asked: model.predict(pd.DataFrame(asked["rows"]))),
    "value": Kind(CustomerValue.load, lambda model, asked: model.predict(pd.DataFrame(asked["rows"])).value),
    "send-time": Kind(Timing.load, _open_rates),
    "offers": Kind(OfferModel.load, lambda model, asked: model.predict(pd.DataFrame(asked["rows"])).profit),
    "variants": Kind(VariantModel.load, lambda model, asked: model.predict(pd.DataFrame(asked["rows"]))),
}
"""By registered name; a propensity's by `PROPENSITY`."""
