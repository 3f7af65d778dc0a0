"""Which items are shown in which place: pure rules over candidates; what is drawn is drawn with a known chance."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Literal, NamedTuple

import numpy as np

from data.settings import Placement

EXACT_DIGITS = 9
"""Shares times counts are rounded so before they are cut: 0.7 * 10 is 7, though floats say a little more."""


class Choice(NamedTuple):
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


class Place(NamedTuple):
    """What one place shows.

    Attributes:
        item_id: The item.
        how: By its rank, because it is promoted, or drawn at random.
        probability: The chance of this item in this place, given what was placed before.
    """

    item_id: str
    how: Literal["ranked", "promoted", "explored"]
    probability: float


def choose(rankings: Iterable[Iterable[Choice]], *, k: int, excluded: Collection[str] = ()) -> Iterator[Choice]:
    """The first k items of the rankings, one ranking after the other, none twice and none of `excluded`.

    Nothing is asked of a ranking before the choices of those before it are used up.

    Example:
        >>> popular = [Choice("tea", 5, "popularity"), Choice("cup", 4, "popularity")]
        >>> [choice.item_id for choice in choose([[Choice("tea", 0.9, "als")], popular], k=2)]
        ['tea', 'cup']
    """
    seen = set(excluded)
    left = k
    for choice in chain.from_iterable(rankings):
        if choice.item_id not in seen:
            seen.add(choice.item_id)
            yield choice
            left -= 1
            if not left:
                return


def arrange(
    order: Iterable[str],
    rules: Placement,
    *,
    k: int,
    category: Callable[[str], str | None],
    promoted: Sequence[str] = (),
    rng: Callable[[], np.random.Generator],
) -> list[Place]:
    """Fill k places, one after the other.

    A promoted place (see `promoted_places`) shows the first promoted candidate that is not shown yet, or is filled
    like any other once there is none. Any other place is, with chance `rules.explore`, drawn uniformly from the first
    `rules.explore_among` candidates that may stand there, and else shows the first of these. A candidate may stand
    there if it is not shown yet and its category is not over its limit (see `category_limit`); if all are over,
    the limit is waived for that place. So a candidate's chance is, given what was placed before, with w candidates
    to draw from: 1 - explore + explore / w for the first, explore / w for the others, 1 for what is promoted.

    Args:
        order: Ids of candidates, best first, none twice; taken only as far as places need them.
        rules: The placement's.
        k: How many places.
        category: Of a candidate; None has no limit.
        promoted: Ids of candidates, best first; they need not be in `order`.
        rng: Makes what draws, twice for a place that may be drawn; not called if `rules.explore` is 0.

    Returns:
        At most k places; fewer where the candidates end.

    Example:
        >>> category = {"green": "tea", "black": "tea", "mug": "cup"}
        >>> rng = np.random.default_rng
        >>> [place.item_id for place in arrange(category, Placement(), k=3, category=category.get, rng=rng)]
        ['green', 'black', 'mug']
        >>> [p.item_id for p in arrange(category, Placement(diversity=0.5), k=3, category=category.get, rng=rng)]
        ['green', 'mug', 'black']
    """
    coming, offered = iter(order), iter(promoted)
    draws = rng() if rules.explore else None
    most = rules.explore_among if rules.explore else 1
    waiting: dict[str, str | None] = {}  # the categories of those that were looked at and are not shown
    shown: set[str] = set()
    count: defaultdict[str | None, int] = defaultdict(int)
    places: list[Place] = []

    def window(limit: int) -> list[str]:
        """The first candidates that may stand in a place: one, or as many as are drawn from."""
        found = [item_id for item_id, own in waiting.items() if own is None or count[own] < limit][:most]
        while len(found) < most and (item_id := next(coming, None)) is not None:
            if item_id not in shown:
                waiting[item_id] = own = category(item_id)
                if own is None or count[own] < limit:
                    found.append(item_id)
        return found or list(waiting)[:most]

    paid_places = promoted_places(k, rules.promoted_share) if promoted else [False] * k
    for number, paid in enumerate(paid_places, 1):
        item_id = next((item_id for item_id in offered if item_id not in shown), None) if paid else None
        if item_id is not None:
            place = Place(item_id, "promoted", 1.0)
        elif candidates := window(category_limit(number, rules.diversity)):
            place = _place(candidates, rules.explore, draws)
        else:
            break
        places.append(place)
        shown.add(place.item_id)
        count[waiting.pop(place.item_id) if place.item_id in waiting else category(place.item_id)] += 1
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


def _place(window: Sequence[str], explore: float, draws: np.random.Generator | None) -> Place:
    """The first of the window, or with chance `explore` any of it."""
    if draws is None:
        return Place(window[0], "ranked", 1.0)
    if draws.random() < explore and (drawn := int(draws.integers(len(window)))):
        return Place(window[drawn], "explored", explore / len(window))
    return Place(window[0], "ranked", 1.0 - explore + explore / len(window))
