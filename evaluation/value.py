"""How well a customer's value is foreseen: errors in money, deviance explained, value by decile; all with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evaluation.intervals import Interval, Statistic, bootstrap, mean_of

POWER = 1.5
"""Of the Tweedie deviance: between a count's (1) and a positive amount's (2)."""
LEAST_SHARE = 0.01
"""A forecast below so much of the mean counts as that: the deviance of 0 is infinite."""
TENTH = 0.1


@dataclass(frozen=True)
class ValueDecile:
    """A tenth of the customers.

    Attributes:
        rank: 1 for those of whom most was expected.
        n: Customers in it.
        expected: Mean of what was expected.
        came: Mean of what came, with its interval.
        share: Of all that came.
    """

    rank: int
    n: int
    expected: float
    came: Interval
    share: float


def tweedie_d2(came: np.ndarray, expected: np.ndarray) -> Statistic:
    """Share of the Tweedie deviance that a forecast explains: 1 = all, 0 = no more than the mean of what came.

    Deviance (Jorgensen 1987) is smallest in the mean for the true expectation, as the squared error is (Gneiting 2011),
    but a few who spend very much do not decide it alone. Hastie, Tibshirani and Wainwright (2015), equation 3.11.
    """
    floor = max(LEAST_SHARE * float(came.mean()), 1e-12)
    off, rooted = _deviance(came, np.maximum(expected, floor)), came ** (2 - POWER)

    def explained(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1)
        mean = weights @ came / total
        # The deviance of the mean itself: its three terms fold into two.
        of_mean = 2 * (mean ** (2 - POWER) - weights @ rooted / total) / ((POWER - 1) * (2 - POWER))
        known = of_mean > 1e-12
        return np.where(known, 1 - weights @ off / total / np.where(known, of_mean, 1.0), np.nan)

    return explained


def mae(came: np.ndarray, expected: np.ndarray) -> Statistic:
    """Mean absolute error. What is smallest in it is the median, which for most customers is nothing."""
    return mean_of(np.abs(expected - came))


def rmse(came: np.ndarray, expected: np.ndarray) -> Statistic:
    """Root mean squared error; a few who spend much decide it."""
    squared = mean_of((expected - came) ** 2)
    return lambda weights: np.sqrt(squared(weights))


def came_per_expected(came: np.ndarray, expected: np.ndarray) -> Statistic:
    """All that came over all that was expected: 1 = right in sum."""

    def ratio(weights: np.ndarray) -> np.ndarray:
        whole = weights @ expected
        return np.where(whole > 0, weights @ came / np.maximum(whole, 1e-300), np.nan)

    return ratio


def top_tenth_share(came: np.ndarray, expected: np.ndarray) -> Statistic:
    """Share of all that came which the tenth brought of whom most was expected; of equals as many as belong to it."""
    order = np.lexsort((_shuffled(len(came)), -expected))
    in_order = came[order]

    def share(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order]
        before = np.cumsum(drawn, axis=1) - drawn
        inside = np.clip(TENTH * drawn.sum(axis=1, keepdims=True) - before, 0, drawn)
        whole = drawn @ in_order
        return np.where(whole > 0, inside @ in_order / np.maximum(whole, 1e-300), np.nan)

    return share


def coverage(came: np.ndarray, low: np.ndarray, high: np.ndarray) -> Statistic:
    """Share of the customers who ended within their interval, ends included."""
    return mean_of(((low <= came) & (came <= high)).astype(np.float64))


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], Statistic]] = {
    "tweedie_d2": tweedie_d2,
    "mae": mae,
    "rmse": rmse,
    "came_per_expected": came_per_expected,
    "top_tenth_share": top_tenth_share,
}
"""Of what came and what was expected, float64 of shape (n,) each."""


def value_by_decile(
    came: np.ndarray, expected: np.ndarray, *, groups: int = 10, resamples: int = 500
) -> list[ValueDecile]:
    """Customers in tenths, those of whom most was expected first: what was expected, and what came.

    Args:
        came: Money, shape (n,).
        expected: The same.
        groups: Other than tenths; fewer where there are fewer customers.
        resamples: Behind each interval.

    Example:
        >>> tenths = value_by_decile(np.arange(100.0), np.arange(100.0))
        >>> len(tenths), tenths[0].expected, tenths[0].came.estimate, round(tenths[0].share, 3)
        (10, 94.5, 94.5, 0.191)
    """
    order = np.lexsort((_shuffled(len(came)), -expected))
    whole = max(float(came.sum()), 1e-300)
    found = []
    for rank, rows in enumerate(np.array_split(order, min(groups, len(came))), start=1):
        mean = bootstrap(mean_of(came[rows]), len(rows), resamples=resamples)
        found.append(ValueDecile(rank, len(rows), float(expected[rows].mean()), mean, float(came[rows].sum()) / whole))
    return found


def _deviance(came: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Each row's Tweedie deviance (Dunn and Smyth 2018, section 12.2)."""
    deviance: np.ndarray = 2 * (
        came ** (2 - POWER) / ((1 - POWER) * (2 - POWER))
        - came * expected ** (1 - POWER) / (1 - POWER)
        + expected ** (2 - POWER) / (2 - POWER)
    )
    return deviance


def _shuffled(n: int) -> np.ndarray:
    """An order among equals that has nothing to do with them; the same at every call."""
    return np.random.default_rng(0).permutation(n)
