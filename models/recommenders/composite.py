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

UNSAID = 1.0
"""In standard deviations: how far below the least of what a model says lies what it says nothing of."""
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

    Serves strangers if any member does.

    Attributes:
        parts: The members, in the order in which they were named.
    """

    parts: list[Recommender]

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

    def _fit(self, interactions: Interactions) -> None:
        for part in self.parts:
            part.fit(interactions)

    def _said(self, histories: Histories, groups: Groups | None) -> list[np.ndarray]:
        """What each member scores: a float32 array (n_users, n_items) each."""
        return [part._scored(histories, groups) for part in self.parts]

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

    Each row by itself: z = (s - mean) / standard deviation over its finite scores. Where the model has nothing to
    say (-inf or NaN) it gets UNSAID less than the row's least z: less than all that is said, and not endlessly so.
    A row of which the model says nothing at all is 0 everywhere: it has no say there.

    Args:
        scores: Higher is better, float of shape (n, n_items).

    Example:
        >>> standardised(np.float32([[1, 3, -np.inf], [-np.inf] * 3])).tolist()
        [[-1.0, 1.0, -2.0], [0.0, 0.0, 0.0]]
    """
    said = np.isfinite(scores)
    n_said = np.maximum(said.sum(axis=1), 1)[:, None]
    mean = np.where(said, scores, 0).sum(axis=1, keepdims=True, dtype=np.float64) / n_said
    z = np.where(said, scores - mean.astype(np.float32), 0)
    deviation = np.sqrt(np.einsum("ij,ij->i", z, z, dtype=np.float64)[:, None] / n_said)
    z /= np.where(deviation > EQUAL * np.abs(mean), deviation, 1)
    least = z.min(axis=1, keepdims=True)
    return np.where(said, z, np.where(said.any(axis=1, keepdims=True), least - UNSAID, 0)).astype(np.float32)


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
