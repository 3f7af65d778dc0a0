"""How sure a number is: bootstrap intervals over users, vectorised and seeded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from data.errors import DataError

BLOCK_CELLS = 2**22
"""Resamples x units held at once: bounds memory."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""From weights, float (b, n), to a value per row, float (b,); row weights are how often each unit was drawn."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and where it lies with probability `level`; the ends, or all of it, NaN where the data cannot say.

    Attributes:
        estimate: The value on the data itself.
        low: Lower end.
        high: Upper end.
        level: Coverage, 0.95 for 95 %.
    """

    estimate: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        if np.isnan(self.estimate):
            return "not known"
        ends = "not known" if np.isnan([self.low, self.high]).any() else f"{self.low:.4f}, {self.high:.4f}"
        return f"{self.estimate:.4f} [{ends}]"

    @classmethod
    def around(cls, estimate: float, half: float = np.nan, *, level: float = 0.95) -> Interval:
        """The estimate and as much to both sides; by default a number of which it is not known how sure it is.

        Example:
            >>> str(Interval.around(2.0, 0.5)), str(Interval.around(2.0))
            ('2.0000 [1.5000, 2.5000]', '2.0000 [not known]')
        """
        return cls(float(estimate), float(estimate - half), float(estimate + half), level)

    def scaled(self, times: float, *, less: float = 0.0) -> Interval:
        """So many times it, less what is known for sure, as a share of money after cost is; `times` is not below 0.

        Example:
            >>> str(Interval(2.0, 1.0, 4.0, 0.95).scaled(0.5, less=1.0))
            '0.0000 [-0.5000, 1.0000]'
        """
        estimate, low, high = (times * end - less for end in (self.estimate, self.low, self.high))
        return Interval(estimate, low, high, self.level)


def bootstrap(
    statistic: Statistic,
    n: int,
    *,
    groups: np.ndarray | None = None,
    counts: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of a weighted statistic (Efron 1979): units are drawn with replacement.

    The same seed and number of units draw the same resamples, so that two statistics are comparable.
    Resamples in which the statistic is NaN (a class was not drawn) are left out.

    Too few units have an estimate without ends: n values lie all above their median, or all below it, with a chance of
    2^(1 - n), so that even their whole range holds too little where this is more than 1 - level. 6 units are needed
    for 95 %, 8 for 99 %, as for the sign test (Dixon and Mood 1946) to be sure of anything.

    Args:
        statistic: Computes the value for many weightings at once.
        n: Rows.
        groups: Whom a row belongs to, shape (n,); whole groups are drawn, as when a user has several rows.
        counts: How many equal units a row stands for, shape (n,), where there are no groups: the same resamples
            from far fewer rows.
        level: Coverage.
        resamples: How many.
        seed: Of the draws.

    Example:
        >>> values = np.array([1.0, 2.0, 2.0, 2.0, 2.0, 3.0])
        >>> str(bootstrap(mean_of(values), 6))
        '2.0000 [1.6667, 2.5000]'
    """
    if groups is not None and groups.shape != (n,):
        raise DataError(f"groups has shape {groups.shape}; give one per row, ({n},).")
    estimate = float(statistic(np.ones((1, n)) if counts is None else counts[None].astype(float))[0]) if n else np.nan
    if np.isnan(estimate):
        return Interval.around(np.nan, level=level)
    n_units = int(counts.sum()) if counts is not None else n if groups is None else len(np.unique(groups))
    if _too_few(n_units, level):
        return Interval.around(estimate, level=level)
    blocks = _weights(n, groups, resamples, seed) if counts is None else _multinomial(counts, resamples, seed)
    drawn = np.concatenate([statistic(weights) for weights in blocks])
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level)


def mean_of(values: np.ndarray) -> Statistic:
    """The weighted mean of a value per unit, (n,)."""

    def weighted_mean(weights: np.ndarray) -> np.ndarray:
        result: np.ndarray = weights @ values / weights.sum(axis=1)
        return result

    return weighted_mean


def difference_of(first: Statistic, second: Statistic) -> Statistic:
    """How much more the first is on the same units."""
    return lambda weights: first(weights) - second(weights)


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """A share with its score interval (Wilson 1927), good for few and for none; NaN where n is 0.

    Example:
        >>> str(wilson(0, 10))
        '0.0000 [0.0000, 0.2775]'
    """
    if n == 0:
        return Interval.around(np.nan, level=level)
    z, share = norm.ppf((1 + level) / 2), successes / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Interval(share, float(max(middle - half, 0.0)), float(min(middle + half, 1.0)), level)


def mean(
    values: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The mean of a value per user, or per row of the users in `groups` (n,); NaN, those without one, is left out.

    Example:
        >>> mean(np.array([1.0, 1.0, np.nan])).estimate
        1.0
    """
    known = ~np.isnan(values)
    of, n = None if groups is None else groups[known], int(known.sum())
    return bootstrap(mean_of(values[known]), n, groups=of, level=level, resamples=resamples, seed=seed)


def normal_mean(values: np.ndarray, *, level: float = 0.95) -> Interval:
    """The mean of n values by the central limit theorem, estimate +- z s / sqrt(n): for many values, in no time.

    One value alone has no interval, and none no mean.

    Example:
        >>> str(normal_mean(np.array([1.0, 2.0, 3.0])))
        '2.0000 [0.8684, 3.1316]'
    """
    if len(values) < 2:
        return Interval.around(values[0] if len(values) else np.nan, level=level)
    half = norm.ppf((1 + level) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return Interval.around(values.mean(), half, level=level)


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Mean of `first - second`, two values of the same users (or rows of the users in `groups`), each shape (n,).

    Where too few users for the sign test have two values that differ, the interval does not leave out zero.

    Raises:
        DataError: the shapes differ, or a user has one value and not the other.

    Example:
        >>> paired_difference(np.array([2.0, 3.0]), np.array([1.0, 2.0])).estimate
        1.0
    """
    if first.shape != second.shape or (np.isnan(first) != np.isnan(second)).any():
        raise DataError(f"{first.shape} and {second.shape} values are not of the same users; measure both on the same.")
    difference = first - second
    found = mean(difference, groups=groups, level=level, resamples=resamples, seed=seed)
    apart = np.flatnonzero(np.nan_to_num(difference))
    if _too_few(len(apart if groups is None else np.unique(groups[apart])), level):
        return Interval(found.estimate, min(found.low, 0.0), max(found.high, 0.0), level)
    return found


def _too_few(n: int, level: float) -> bool:
    """Whether so many that are all on one side are so by chance more often than `level` allows (the sign test)."""
    return bool(2.0 ** (1 - n) > 1 - level)


def _weights(n: int, groups: np.ndarray | None, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of multinomial counts, float (b, n): how often each row is in each resample."""
    rng = np.random.default_rng(seed)
    member = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_units = int(member.max()) + 1
    rows = max(1, BLOCK_CELLS // n)
    for start in range(0, resamples, rows):
        b = min(rows, resamples - start)
        drawn = rng.integers(n_units, size=(b, n_units)) + np.arange(b)[:, None] * n_units
        counts = np.bincount(drawn.ravel(), minlength=b * n_units).reshape(b, n_units).astype(np.float64)
        yield counts if groups is None else counts[:, member]


def _multinomial(counts: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of how many units of each row are in each resample of all units, float (b, n)."""
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK_CELLS // len(counts))
    for start in range(0, resamples, rows):
        b = min(rows, resamples - start)
        yield rng.multinomial(int(counts.sum()), counts / counts.sum(), size=b).astype(np.float64)
