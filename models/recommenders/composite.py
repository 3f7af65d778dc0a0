"""Recommenders made of others: the members are made by name, learn together and live in folders of their own."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from data.errors import DataError, ModelFileError
from data.histories import Histories
from data.interactions import Interactions
from models.recommenders.base import Groups, Recommender

EQUAL = 1e-6
"""A row whose standard deviation is less than this share of its mean differs by rounding only."""


class Member(TypedDict, total=False):
    """How a member is made.

    Attributes:
        model: A name in `MODELS`.
        params: Its hyperparameters; those left out have their defaults.
    """

    model: str
    params: dict[str, Any]


class Composite(Recommender):
    """Base of recommenders that ask others. Members that take a seed get this one's, unless theirs is given.

    Serves strangers if any member does. What is similar to an item is the weighted sum of what those members say
    that compare items.

    Attributes:
        parts: The members, in the order in which they were named.
        weights: What each one's standardised scores weigh where they are added up.
    """

    parts: list[Recommender]
    weights: list[float]

    def __init__(self, *, members: Sequence[Member], seed: int) -> None:
        """Make the members.

        Raises:
            DataError: no member, or one whose name or hyperparameters are not known.
        """
        if not members:
            raise DataError(f"{self.name} has no members. Name at least one model.")
        self.members = list(members)
        self.seed = seed
        self._take([_made(member, seed) for member in members])

    def _take(self, parts: list[Recommender]) -> None:
        self.parts = parts
        self.serves_cold_users = any(part.serves_cold_users for part in parts)

    def knows(self, group: str | None) -> bool:
        """As `Recommender.knows`."""
        return any(part.knows(group) for part in self.parts)

    def _fit(self, interactions: Interactions) -> None:
        for number, part in enumerate(self.parts):
            file = self._checkpoint
            part.fit(interactions, checkpoint=file and file.with_name(f"{file.stem}.member{number}{file.suffix}"))

    def _said(self, histories: Histories, groups: Groups | None) -> list[np.ndarray]:
        """What each member scores: a float32 array (n_users, n_items) each."""
        return [part._scored(histories, groups) for part in self.parts]

    def _similar(self, codes: np.ndarray) -> np.ndarray:
        said = [part._similar(codes) for part in self.parts]
        for scores in said:  # how like itself an item is says nothing of the others
            scores[np.arange(len(codes)), codes] = -np.inf
        return self._added(said, [standardised(scores) for scores in said])

    def _added(
        self, said: Sequence[np.ndarray], standard: Sequence[np.ndarray], asked: Sequence[int] | None = None
    ) -> np.ndarray:
        """The weighted sum of standardised scores, float32 (n, n_items); -inf where no member says anything.

        Of all members, or only of those `asked`.
        """
        asked = range(len(self.parts)) if asked is None else asked
        total = np.zeros_like(standard[0])
        for member in asked:
            total += np.float32(self.weights[member]) * standard[member]
        total[~np.logical_or.reduce([np.isfinite(said[member]) for member in asked])] = -np.inf
        return total

    def _save_more(self, folder: Path) -> None:
        for number, part in enumerate(self.parts):
            part.save(folder / f"member{number}")

    def _load_more(self, folder: Path) -> None:
        parts = [type(part).load(folder / f"member{number}") for number, part in enumerate(self.parts)]
        for number, part in enumerate(parts):
            if part.items != self.items:
                raise ModelFileError(
                    f"{folder / f'member{number}'} knows other items ({part.items.hash[:8]}) than {self.name} "
                    f"({self.items.hash[:8]}). Fetch the version again, or train anew."
                )
            part.items = self.items
        self._take(parts)


def standardised(scores: np.ndarray) -> np.ndarray:
    """Scores of one model on the scale on which models can be added up, float32 of shape (n, n_items), all finite.

    Each row by itself: z = (s - mean) / standard deviation, over all items. Where the model has nothing to say (-inf
    or NaN) s is 0, or the row's least score if that is less: a few neighbours in a large catalogue stand out far, as
    they should, and what is said of an item is never worse than nothing said. A row in which all scores are equal,
    or of which the model says nothing at all, is 0 everywhere: it has no say there.

    Args:
        scores: Higher is better, float of shape (n, n_items).

    Example:
        >>> standardised(np.float32([[9, -np.inf], [-np.inf, -np.inf]])).tolist()
        [[1.0, -1.0], [0.0, 0.0]]
    """
    said = np.isfinite(scores)
    least = np.where(said, scores, 0).min(axis=1, keepdims=True)
    z = np.where(said, scores, least).astype(np.float32)
    mean = z.mean(axis=1, keepdims=True, dtype=np.float64)
    z -= mean.astype(np.float32)
    deviation = np.sqrt(np.einsum("ij,ij->i", z, z, dtype=np.float64)[:, None] / z.shape[1])
    z /= np.where(deviation > EQUAL * np.abs(mean), deviation, np.inf).astype(np.float32)
    return z


def _made(member: Member, seed: int) -> Recommender:
    from models.recommenders import MODELS  # noqa: PLC0415 - MODELS names the composites too

    unknown = member.keys() - {"model", "params"}
    if unknown or member.get("model") not in MODELS:
        raise DataError(f"the member {member} is none: give a model ({', '.join(MODELS)}) and its params.")
    kind = MODELS[member["model"]]
    params = dict(member.get("params", {}))
    try:
        seeded = {"seed": seed} if "seed" in inspect.signature(kind).parameters else {}
        return kind(**{**seeded, **params})
    except TypeError as error:
        raise DataError(f"the member {member}: {error}. Its params are those of {kind.name}.") from error
