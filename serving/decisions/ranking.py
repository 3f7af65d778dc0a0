"""Which items are shown: the model's, then the popular ones where the model has nothing more to say."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """An item that is shown.

    Attributes:
        item_id: The item.
        score: Comparable among choices of one source only.
        source: Where it came from: a model's name, or popularity.
        because_of: The item of the person's history that speaks for it most, if one does.
    """

    item_id: str
    score: float
    source: str
    because_of: str | None = None


def choose(rankings: Iterable[Iterable[Choice]], *, k: int, excluded: Collection[str] = ()) -> list[Choice]:
    """The first k items of the rankings, one ranking after the other, none twice and none of `excluded`.

    Example:
        >>> popular = [Choice("tea", 5, "popularity"), Choice("cup", 4, "popularity")]
        >>> [choice.item_id for choice in choose([[Choice("tea", 0.9, "als")], popular], k=2)]
        ['tea', 'cup']
    """
    chosen: dict[str, Choice] = {}
    for ranking in rankings:
        for choice in ranking:
            if len(chosen) == k:
                return list(chosen.values())
            if choice.item_id not in excluded:
                chosen.setdefault(choice.item_id, choice)
    return list(chosen.values())
