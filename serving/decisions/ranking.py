"""Which items are shown in which place: pure rules over candidates; what is drawn is drawn with a known chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from data.settings import Placement

EXACT_DIGITS = 9
"""Shares times counts are rounded so before they are cut: 0.7 * 10 is 7, though floats say a little more."""


@dataclass(frozen=True)
class Choice:
    """An item that may be shown.

    Attributes:
        item_id: The item.
        score: Comparable among choices of one source only.
        source: Where it came from: a model's name, or popularity.
        because_of: The item that speaks for it most, if one does.
    """

    item_id: str
    score: float
    source: str
    because_of: str | None = None


@dataclass(frozen=True)
class Place:
    """What one place shows.

    Attributes:
        candidate: Position among the candidates.
        how: By its rank, because it is promoted, or drawn at random.
        probability: The chance of this candidate in this place, given what was placed before.
    """

    candidate: int
    how: Literal["ranked", "promoted", "explored"]
    probability: float


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


def arrange(
    order: Sequence[int],
    rules: Placement,
    *,
    k: int,
    category: Sequence[str | None],
    promoted: Sequence[int] = (),
    rng: np.random.Generator,
) -> list[Place]:
    """Fill k places, one after the other.

    A promoted place (see `promoted_places`) shows the first promoted candidate that is not shown yet, or is filled
    like any other once there is none. Any other place is, with chance `rules.explore`, drawn uniformly from the first
    `rules.explore_among` candidates that may stand there, and else shows the first of these. A candidate may stand
    there if it is not shown yet and its category is not over its limit (see `category_limit`); if all are over,
    the limit is waived for that place. So a candidate's chance is, given what was placed before, with w candidates
    to draw from: 1 - explore + explore / w for the first, explore / w for the others, 1 for what is promoted.

    Args:
        order: Candidates, best first, none twice.
        rules: The placement's.
        k: How many places.
        category: Of each candidate, by its number; None has no limit.
        promoted: Candidates, best first; they need not be in `order`.
        rng: Asked twice for a place that may be drawn, never if `rules.explore` is 0.

    Returns:
        At most k places; fewer where the candidates end.

    Example:
        >>> category = ["tea", "tea", "cup"]
        >>> rng = np.random.default_rng(0)
        >>> [place.candidate for place in arrange([0, 1, 2], Placement(), k=3, category=category, rng=rng)]
        [0, 1, 2]
        >>> [p.candidate for p in arrange([0, 1, 2], Placement(diversity=0.5), k=3, category=category, rng=rng)]
        [0, 2, 1]
    """
    left = dict.fromkeys(order)
    offered = dict.fromkeys(promoted)
    paid = promoted_places(k, rules.promoted_share)
    shown: Counter[str] = Counter()
    places: list[Place] = []
    for number in range(1, k + 1):
        if paid[number - 1] and offered:
            place = Place(next(iter(offered)), "promoted", 1.0)
        elif left:
            limit = category_limit(number, rules.diversity)
            place = _place(_window(left, category, shown, limit, rules), rules.explore, rng)
        else:
            break
        places.append(place)
        left.pop(place.candidate, None)
        offered.pop(place.candidate, None)
        if (of := category[place.candidate]) is not None:
            shown[of] += 1
    return places


def category_limit(n: int, diversity: float) -> int:
    """How many of the first n items may be of one category: (1 - diversity) n, rounded up, and at least one.

    Example:
        >>> [category_limit(n, 0.5) for n in (1, 2, 3, 4)], category_limit(10, 1), category_limit(10, 0)
        ([1, 1, 2, 2], 1, 10)
    """
    return max(1, math.ceil(round((1 - diversity) * n, EXACT_DIGITS)))


def promoted_places(k: int, share: float) -> list[bool]:
    """Which of k places are for promoted items: of the first n, share * n rounded down, for every n up to k.

    Example:
        >>> promoted_places(5, 0.4)
        [False, False, True, False, True]
    """
    until = [math.floor(round(share * n, EXACT_DIGITS)) for n in range(k + 1)]
    return [after > before for before, after in pairwise(until)]


def freshened(age_days: np.ndarray, *, freshness: float, half_life_days: float) -> np.ndarray:
    """The order of candidates, best first, once new ones are lifted.

    The candidate at rank r (from 1) stands at r / (1 + freshness * 2 ** (-age_days / half_life_days)); equal ones
    as before. Ranks, not scores, because the scores of two models have no scale in common.

    Args:
        age_days: Of the candidates, best first, shape (n,); NaN where it is not known, which is never new.
        freshness: How far a brand-new one is lifted.
        half_life_days: When the lift is half.

    Returns:
        Positions, int64 of shape (n,).

    Example:
        >>> freshened(np.array([900, 900, np.nan, 0]), freshness=1.5, half_life_days=14).tolist()
        [0, 3, 1, 2]
    """
    rank = np.arange(1, len(age_days) + 1)
    lift = np.nan_to_num(np.exp2(-np.maximum(age_days, 0) / half_life_days), nan=0.0)
    return np.argsort(rank / (1 + freshness * lift), kind="stable")


def _window(
    left: Iterable[int], category: Sequence[str | None], shown: Counter[str], limit: int, rules: Placement
) -> list[int]:
    """The first candidates that may stand in a place: one, or as many as are drawn from."""
    most = rules.explore_among if rules.explore else 1
    window: list[int] = []
    for candidate in left:
        of = category[candidate]
        if of is None or shown[of] < limit:
            window.append(candidate)
            if len(window) == most:
                break
    return window or list(left)[:most]


def _place(window: Sequence[int], explore: float, rng: np.random.Generator) -> Place:
    """The first of the window, or with chance `explore` any of it."""
    drawn = 0
    if explore and rng.random() < explore:
        drawn = int(rng.integers(len(window)))
    if drawn:
        return Place(window[drawn], "explored", explore / len(window))
    return Place(window[0], "ranked", 1.0 - explore + explore / len(window) if explore else 1.0)
