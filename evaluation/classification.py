"""How good probabilities are: do they order people, and do they mean what they say.

Weights w count how often a row was drawn; y is the label, p the probability. All are computed for many weightings
at once, so that 1,000 resamples of 20,000 rows take seconds and every measure is exact on each resample.

- `roc_auc`: chance that a positive is ranked above a negative, ties half (Mann-Whitney);
- `average_precision`: sum over thresholds of (gain in recall) x precision, ties one threshold;
- `log_loss`: mean of -log of the probability given to what happened, p held 2e-16 away from 0 and 1;
- `brier`: mean of (p - y)^2;
- `calibration_error`: expected calibration error over 10 bins of equal mass, sum_b share_b |mean p - mean y|. Bins are
  cut once, on all rows; equal probabilities share a bin. Noise only adds to it: near 0 the interval lies high;
- `calibration_slope`: slope of a logistic regression of y on logit(p); below 1 = the probabilities are too extreme.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.errors import DataError
from evaluation.intervals import Interval, Statistic, bootstrap

BINS = 10
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class ProbabilityQuality:
    """Each measure of the module with its interval; from `compare`, each is a paired difference."""

    roc_auc: Interval
    average_precision: Interval
    log_loss: Interval
    brier: Interval
    calibration_error: Interval
    calibration_slope: Interval


@dataclass(frozen=True, slots=True)
class Decile:
    """A tenth of the people, the highest probabilities first.

    Attributes:
        rank: 1 = the tenth with the highest probabilities.
        n: How many people.
        mean_probability: What was predicted.
        rate: What happened.
        lift: `rate` over the rate of everybody, with its interval.
    """

    rank: int
    n: int
    mean_probability: float
    rate: float
    lift: Interval


def evaluate(
    label: np.ndarray,
    probability: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> ProbabilityQuality:
    """Every measure with its bootstrap interval; NaN where the labels have one class and it needs two.

    Args:
        label: 0 or 1, shape (n,).
        probability: In [0, 1], shape (n,).
        groups: Whom a row belongs to, where a user has several rows; users are drawn, not rows.
        level: Coverage of the intervals.
        resamples: How many.
        seed: Of the draws.

    Raises:
        DataError: shapes differ, no rows, a label that is not 0 or 1, a probability outside [0, 1].

    Example:
        >>> found = evaluate(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
        >>> found.roc_auc.estimate
        0.75
    """
    y, p = _checked(label, probability)
    statistics = {name: measure(y, p) for name, measure in MEASURES.items()}
    return _bootstrapped(statistics, len(y), groups=groups, level=level, resamples=resamples, seed=seed)


def compare(
    label: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> ProbabilityQuality:
    """Paired differences `first - second` on the same rows: higher is better for the first two measures only.

    Args and errors as `evaluate`.

    Example:
        >>> label, good = np.array([0, 1] * 50), np.array([0.2, 0.8] * 50)
        >>> compare(label, good, 1 - good).roc_auc.estimate
        1.0
    """
    y, a = _checked(label, first)
    _, b = _checked(label, second)

    def difference(measure: Measure) -> Statistic:
        of_a, of_b = measure(y, a), measure(y, b)
        return lambda weights: of_a(weights) - of_b(weights)

    statistics = {name: difference(measure) for name, measure in MEASURES.items()}
    return _bootstrapped(statistics, len(y), groups=groups, level=level, resamples=resamples, seed=seed)


def lift_by_decile(
    label: np.ndarray,
    probability: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Decile]:
    """Ten tenths of the people, the highest probabilities first; equal probabilities are split in row order.

    Args and errors as `evaluate`; fewer than ten rows give fewer tenths.

    Example:
        >>> best = lift_by_decile(np.repeat([1, 0], [10, 90]), np.linspace(1, 0, 100))[0]
        >>> best.n, best.rate, best.lift.estimate
        (10, 1.0, 10.0)
    """
    y, p = _checked(label, probability)

    def lift(tenth: np.ndarray) -> Interval:
        inside = np.zeros(len(y))
        inside[tenth] = 1

        def ratio(weights: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore", divide="ignore"):
                within = weights @ (inside * y) / (weights @ inside)
                return within / (weights @ y / weights.sum(axis=1))

        return bootstrap(ratio, len(y), groups=groups, level=level, resamples=resamples, seed=seed)

    tenths = [tenth for tenth in np.array_split(np.argsort(-p, kind="stable"), BINS) if len(tenth)]
    return [
        Decile(rank, len(tenth), float(p[tenth].mean()), float(y[tenth].mean()), lift(tenth))
        for rank, tenth in enumerate(tenths, start=1)
    ]


def calibration_bins(probability: np.ndarray) -> np.ndarray:
    """The bin of each row, int (n,) from 0: at most 10, of near equal mass, equal probabilities together."""
    edges = np.unique(np.quantile(probability, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    bins = np.searchsorted(edges, probability, side="left")
    return np.unique(bins, return_inverse=True)[1]


Measure = Callable[[np.ndarray, np.ndarray], Statistic]


def _roc_auc(y: np.ndarray, p: np.ndarray) -> Statistic:
    order = np.argsort(p, kind="stable")
    starts = np.flatnonzero(np.diff(p[order], prepend=-1))

    def statistic(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order]
        positives = np.add.reduceat(drawn * y[order], starts, axis=1)
        negatives = np.add.reduceat(drawn, starts, axis=1) - positives
        below = np.cumsum(negatives, axis=1) - negatives / 2
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return (positives * below).sum(axis=1) / pairs

    return statistic


def _average_precision(y: np.ndarray, p: np.ndarray) -> Statistic:
    order = np.argsort(-p, kind="stable")
    starts = np.flatnonzero(np.diff(p[order], prepend=2))

    def statistic(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order]
        positives = np.add.reduceat(drawn * y[order], starts, axis=1)
        shown = np.cumsum(np.add.reduceat(drawn, starts, axis=1), axis=1)
        precision = np.cumsum(positives, axis=1) / np.maximum(shown, EPSILON)
        with np.errstate(invalid="ignore"):
            return (positives * precision).sum(axis=1) / positives.sum(axis=1)

    return statistic


def _mean_of(loss: np.ndarray) -> Statistic:
    return lambda weights: weights @ loss / weights.sum(axis=1)


def _log_loss(y: np.ndarray, p: np.ndarray) -> Statistic:
    held = np.clip(p, EPSILON, 1 - EPSILON)
    return _mean_of(-np.where(y == 1, np.log(held), np.log1p(-held)))


def _brier(y: np.ndarray, p: np.ndarray) -> Statistic:
    return _mean_of((p - y) ** 2)


def _calibration_error(y: np.ndarray, p: np.ndarray) -> Statistic:
    bins = calibration_bins(p)
    gap = np.zeros((len(y), bins.max() + 1))
    gap[np.arange(len(y)), bins] = p - y
    return lambda weights: np.abs(weights @ gap).sum(axis=1) / weights.sum(axis=1)


def _calibration_slope(y: np.ndarray, p: np.ndarray) -> Statistic:
    held = np.clip(p, 1e-6, 1 - 1e-6)
    x = np.log(held / (1 - held))
    unanswerable = len(np.unique(y)) < 2 or np.ptp(x) == 0

    def newton(weights: np.ndarray, a: np.ndarray, b: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Maximum likelihood of logit P(y) = a + b x, for each row of weights."""
        for _ in range(steps):
            with np.errstate(invalid="ignore", divide="ignore"):  # separable draws have no slope: NaN
                q = 1 / (1 + np.exp(-np.clip(a[:, None] + b[:, None] * x, -30, 30)))
                score, curvature = weights * (y - q), weights * (q * (1 - q))
                g0, g1 = score.sum(axis=1), score @ x
                h00, h01, h11 = curvature.sum(axis=1), curvature @ x, curvature @ (x * x)
                determinant = h00 * h11 - h01 * h01
                a_step, b_step = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
            a, b = a + a_step, b + b_step
            if np.nanmax(np.abs(np.r_[a_step, b_step]), initial=0) < 1e-4:
                break
        return a, b

    on_all = newton(np.ones((1, len(y))), np.zeros(1), np.ones(1), 25) if not unanswerable else None

    def statistic(weights: np.ndarray) -> np.ndarray:
        if on_all is None:
            return np.full(len(weights), np.nan)
        start_a, start_b = (np.repeat(value, len(weights)) for value in on_all)
        return newton(weights, start_a, start_b, 5)[1]

    return statistic


MEASURES: dict[str, Measure] = {
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "log_loss": _log_loss,
    "brier": _brier,
    "calibration_error": _calibration_error,
    "calibration_slope": _calibration_slope,
}


def _bootstrapped(statistics: dict[str, Statistic], n: int, **options: Any) -> ProbabilityQuality:
    return ProbabilityQuality(**{name: bootstrap(statistic, n, **options) for name, statistic in statistics.items()})


def _checked(label: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, p = np.asarray(label, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape or not len(y):
        raise DataError(
            f"labels {y.shape} and probabilities {p.shape}: give one of each per row, and at least one row."
        )
    if not np.isin(y, (0, 1)).all():
        raise DataError(f"label {y[~np.isin(y, (0, 1))][0]} is neither 0 nor 1.")
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError(f"probability {p[~((p >= 0) & (p <= 1))][0]} is outside [0, 1].")
    return y, p
