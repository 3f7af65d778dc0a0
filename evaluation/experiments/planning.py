"""How large an experiment must be, what it can find, and whether its machinery finds things where nothing is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from data.errors import DataError
from evaluation.experiments.means import difference_of_means
from evaluation.intervals import Interval, wilson

POWER = 0.8
"""Chance of finding an effect that is planned for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes to find an effect.

    Attributes:
        effect: To be found, in the outcome's unit per person.
        people: In both arms together.
        treated_share: Of them.
        days: Until so many have come; NaN if it was not told how many come a day.
    """

    effect: float
    people: int
    treated_share: float
    days: float


@dataclass(frozen=True, slots=True)
class Nothing:
    """How often an effect was found where there is none.

    Attributes:
        draws: Experiments tried.
        found: Share of them in which zero lay outside the interval; it should be 1 - level.
    """

    draws: int
    found: Interval


def detectable(standard_error: float, *, level: float = 0.95) -> float:
    """The smallest effect that an experiment with this standard error finds with `POWER`, in the same unit.

    (z_{(1 + level) / 2} + z_power) se (Bloom 1995).

    Example:
        >>> round(detectable(1.0), 2)
        2.8
    """
    return float((ndtri((1 + level) / 2) + ndtri(POWER)) * standard_error)


def plan(
    spread: float,
    effect: float,
    *,
    treated_share: float = 0.5,
    people_per_day: float = np.nan,
    level: float = 0.95,
) -> Plan:
    """How many people it takes to find an effect, and how long.

    n = (z_{(1 + level) / 2} + z_power)^2 spread^2 / (effect^2 s (1 - s)), s the treated share.

    Args:
        spread: Standard deviation of the outcome among people.
        effect: To be found, in the outcome's unit per person.
        treated_share: Of the people, above 0 and below 1.
        people_per_day: How many come.
        level: Of the interval that is to leave out zero.

    Raises:
        DataError: an effect of zero, or a share outside (0, 1).

    Example:
        >>> plan(spread=0.3, effect=0.01, people_per_day=1000)
        Plan(effect=0.01, people=28256, treated_share=0.5, days=28.256)
    """
    if not effect or not 0 < treated_share < 1:
        raise DataError(f"effect {effect} with {treated_share} of the people treated: give one above 0, and a share.")
    needed = (detectable(1.0, level=level) * spread / effect) ** 2 / (treated_share * (1 - treated_share))
    people = int(np.ceil(needed))
    return Plan(effect, people, treated_share, people / people_per_day)


def aa_simulation(
    values: np.ndarray, *, treated_share: float = 0.5, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Nothing:
    """Split people at random again and again, with nothing done to anybody, and count how often an effect is found.

    On the outcome of a past campaign or an ordinary week: it tells whether the intervals can be trusted on these
    amounts before an experiment is run on them.

    Args:
        values: The outcome of people treated alike, shape (n,).
        treated_share: Of the people.
        level: Of the intervals.
        draws: Experiments to try.
        seed: Of the splits.

    Example:
        >>> print(aa_simulation(np.random.default_rng(0).gamma(1, 10, 2000), draws=200).found)
        0.0450 [0.0239, 0.0833]
    """
    rng = np.random.default_rng(seed)
    treated = round(treated_share * len(values))
    found = 0
    for _ in range(draws):
        drawn = rng.permutation(values)
        found += difference_of_means(drawn[:treated], drawn[treated:], level=level).p_value < 1 - level
    return Nothing(draws, wilson(found, draws))
