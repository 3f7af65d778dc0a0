"""How good probabilities are: do they order people, do they mean what they say, and for whom.

Weights w count how often a row was drawn; y is the label, p the probability. All are computed for many weightings
at once, so that 1,000 resamples of 20,000 rows take seconds and every measure is exact on each resample. Above
50,000 rows the resamples are drawn from 2,000 bins of p and the two labels: a million rows take seconds too.

- `roc_auc`: chance that a positive is ranked above a negative, ties half (Mann-Whitney);
- `average_precision`: sum over thresholds of (gain in recall) x precision, ties one threshold;
- `log_loss`: mean of -log of the probability given to what happened, p held 2e-16 away from 0 and 1;
- `brier`: mean of (p - y)^2;
- `calibration_error`: expected calibration error over 10 bins of equal mass, sum_b share_b |mean p - mean y|. Bins are
  cut once, on all rows; equal probabilities share a bin. Noise only adds to it: near 0 the interval lies high;
- `calibration_slope`: slope of a logistic regression of y on logit(p); below 1 = the probabilities are too extreme;
- `calibration_intercept`: what must be added to logit(p), slope held at 1, for the mean to be right; below 0 = the
  probabilities are too high (Van Calster et al. 2016, "weak calibration", for both).

By group (`by_group`, `fairness`) every interval has a formula, so that a thousand groups cost no more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from data.errors import DataError
from evaluation.intervals import Interval, Statistic, bootstrap, mean_of, normal_mean, wilson

BINS = 10
MANY_ROWS = 50_000
"""Above it resamples are drawn from bins."""
FINE_BINS = 2_000
"""Of p, equal mass: an interval's ends move by less than a hundredth of its width."""
SELECTED_SHARE = 0.1
"""Of the people, the highest probabilities first, who would be chosen."""
NOISE_DRAWS = 50
"""Of labels, to see what exactly right probabilities would show."""
SMALL_GROUP = 50
"""Fewer people, or fewer than `SMALL_CLASS` of either label, say little: the group is marked and starts no gap."""
SMALL_CLASS = 10
NOT_KNOWN = "(not known)"
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
    calibration_intercept: Interval


@dataclass(frozen=True, slots=True)
class Decile:
    """A tenth of the people, the highest probabilities first.

    Attributes:
        rank: 1 = the tenth with the highest probabilities.
        n: How many people.
        mean_probability: What was predicted.
        rate: What happened.
        lift: `rate` over the rate of everybody, with its interval.
        capture: Share of all who did it that are in this tenth or one before, with its interval.
    """

    rank: int
    n: int
    mean_probability: float
    rate: float
    lift: Interval
    capture: Interval


@dataclass(frozen=True, slots=True)
class GroupQuality:
    """How good the probabilities are for some of the people; NaN where one label is missing and two are needed.

    Attributes:
        attribute: What they were told apart by: "country".
        group: Which they are: "NL".
        n: How many people.
        positives: How many of them did it.
        small: Too few to conclude from: under 50, or under ten of either label.
        rate: What happened (Wilson 1927).
        mean_probability: What was predicted.
        calibration_gap: Mean of p - y: above 0 = predicted too high.
        roc_auc: Within the group (DeLong et al. 1988, on the logit scale).
        brier: Mean of (p - y)^2.
        selection_rate: Share of them among those selected (Wilson).
        true_positive_rate: Share selected of those who did it (Wilson): equal opportunity (Hardt et al. 2016).
    """

    attribute: str
    group: str
    n: int
    positives: int
    small: bool
    rate: Interval
    mean_probability: float
    calibration_gap: Interval
    roc_auc: Interval
    brier: Interval
    selection_rate: Interval
    true_positive_rate: Interval


@dataclass(frozen=True, slots=True)
class Gap:
    """The largest difference between two groups of an attribute, small groups left out.

    Attributes:
        attribute: "country".
        measure: One of `GAPS`.
        highest: The group with the highest value.
        lowest: The group with the lowest.
        gap: Their difference. They were picked out of all pairs: each pair has its share of the error (Bonferroni).
    """

    attribute: str
    measure: str
    highest: str
    lowest: str
    gap: Interval


@dataclass(frozen=True, slots=True)
class Fairness:
    """Who is told apart how well, and the largest differences.

    Attributes:
        groups: Of every attribute, the largest group first.
        gaps: Per attribute and measure; none where fewer than two groups are large enough.
        selected_share: Of all people selected, the highest probabilities first.
    """

    groups: tuple[GroupQuality, ...]
    gaps: tuple[Gap, ...]
    selected_share: float

    def frame(self) -> pd.DataFrame:
        """A row per group: sizes, and each measure with `_low` and `_high`."""
        return group_frame(self.groups)


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
    if groups is None and len(y) > MANY_ROWS:
        return _centred(_from_bins(y, p, level=level, resamples=resamples, seed=seed))
    statistics = {name: measure(y, p) for name, measure in MEASURES.items()}
    return _centred(_bootstrapped(statistics, len(y), groups=groups, level=level, resamples=resamples, seed=seed))


def repeated(
    label: np.ndarray,
    probabilities: np.ndarray,
    *,
    against: np.ndarray | None = None,
    resamples: int = 1000,
) -> ProbabilityQuality:
    """Repeated cross-validation: each measure on all rows of a repeat, and the mean over the repeats.

    People are drawn once for all repeats, so that several looks at the same people do not pass for more people.

    Args:
        label: 0 or 1, shape (n,).
        probabilities: Out of fold, shape (repeats, n), or (n,) for one.
        against: Another model's, of the same folds: measured are then the paired differences to it, where higher is
            better for the first two measures only.
        resamples: How many.

    Raises:
        DataError: as `evaluate`.

    Example:
        >>> found = repeated(np.array([0, 0, 1, 1]), np.array([[0.1, 0.4, 0.35, 0.8], [0.1, 0.2, 0.35, 0.8]]))
        >>> found.roc_auc.estimate
        0.875
    """
    y = np.asarray(label, dtype=np.float64)
    sides = [(1.0, probabilities), *([(-1.0, against)] if against is not None else [])]
    checked = [(sign, [_checked(y, p)[1] for p in np.atleast_2d(side)]) for sign, side in sides]

    def over_repeats(measure: Measure) -> Statistic:
        parts = [(sign / len(ps), measure(y, p)) for sign, ps in checked for p in ps]
        return lambda weights: sum((share * part(weights) for share, part in parts), np.zeros(len(weights)))

    statistics = {name: over_repeats(measure) for name, measure in MEASURES.items()}
    found = _bootstrapped(statistics, len(y), resamples=resamples)
    return found if against is not None else _centred(found)


def roc_auc(label: np.ndarray, score: np.ndarray) -> float:
    """Chance that a positive has the higher score, whatever its scale, ties half; NaN where there is one class.

    Args:
        label: 0 or 1, shape (n,).
        score: Shape (n,), none missing.

    Example:
        >>> roc_auc(np.array([0, 0, 1, 1]), np.array([-3.0, 0.5, 0.5, 7.0]))
        0.875
    """
    return float(_roc_auc(label.astype(np.float64), score)(np.ones((1, len(label))))[0])


def calibration_noise(probability: np.ndarray, *, seed: int = 0) -> float:
    """The calibration error that exactly right probabilities would show on so many rows: below it nothing is told.

    Args:
        probability: In [0, 1], shape (n,).
        seed: Of the labels that are drawn, each with its probability.

    Example:
        >>> round(calibration_noise(np.linspace(0, 1, 1000)), 3)
        0.033
    """
    rng, one = np.random.default_rng(seed), np.ones((1, len(probability)))
    drawn = [(rng.random(len(probability)) < probability).astype(np.float64) for _ in range(NOISE_DRAWS)]
    return float(np.mean([_calibration_error(y, probability)(one)[0] for y in drawn]))


def lift_by_decile(
    label: np.ndarray,
    probability: np.ndarray,
    *,
    groups: np.ndarray | None = None,
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
    order = np.argsort(-p, kind="stable")
    rank = np.empty(len(y), dtype=np.int64)
    for number, tenth in enumerate(np.array_split(order, BINS)):
        rank[tenth] = number
    n = np.bincount(rank)
    rows, counts = (rank, y), None
    if groups is None:  # people of a tenth and a label are all alike
        cells = np.bincount(2 * rank + y.astype(int), minlength=2 * len(n))
        rows, counts = (np.repeat(np.arange(len(n)), 2), np.tile([0.0, 1.0], len(n))), cells
    inside = (rows[0][:, None] == np.arange(len(n))).astype(np.float64)

    def lift(tenth: int) -> Statistic:
        def ratio(weights: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore", divide="ignore"):
                within = weights @ (inside[:, tenth] * rows[1]) / (weights @ inside[:, tenth])
                return within / (weights @ rows[1] / weights.sum(axis=1))

        return ratio

    def capture(tenth: int) -> Statistic:
        def share(weights: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore"):
                return weights @ (inside[:, : tenth + 1].sum(axis=1) * rows[1]) / (weights @ rows[1])

        return share

    def interval(statistic: Statistic) -> Interval:
        return bootstrap(statistic, len(rows[1]), groups=groups, counts=counts, resamples=resamples, seed=seed)

    predicted, happened = np.bincount(rank, p) / n, np.bincount(rank, y) / n
    return [
        Decile(j + 1, int(n[j]), float(predicted[j]), float(happened[j]), interval(lift(j)), interval(capture(j)))
        for j in range(len(n))
    ]


def by_group(
    label: np.ndarray,
    probability: np.ndarray,
    group: Sequence[Any] | np.ndarray | pd.Series,
    *,
    attribute: str = "group",
    selected_share: float = SELECTED_SHARE,
    level: float = 0.95,
) -> list[GroupQuality]:
    """The quality for each group of people, the largest first: segments, bands of tenure, an attribute.

    Args:
        label: 0 or 1, shape (n,).
        probability: In [0, 1], shape (n,).
        group: Whom a row belongs to, shape (n,); missing = a group of its own.
        attribute: What the groups are called together.
        selected_share: Of all people selected, the highest probabilities first; equal ones all or none.
        level: Coverage of the intervals.

    Raises:
        DataError: as `evaluate`; not one group per row; a share outside (0, 1).

    Example:
        >>> label, probability = np.array([0, 1] * 60), np.array([0.2, 0.8] * 60)
        >>> new, old = by_group(label, probability, ["new"] * 80 + ["old"] * 40, attribute="tenure")
        >>> new.group, new.n, new.rate.estimate, old.small
        ('new', 80, 0.5, True)
    """
    y, p = _checked(label, probability)
    if len(group) != len(y):
        raise DataError(f"{attribute}: {len(group)} groups for {len(y)} rows; give one per row.")
    if not 0 < selected_share < 1:
        raise DataError(f"selected_share is {selected_share}; give a share between 0 and 1.")
    # At most that share: where many are equal at the edge, none of them is selected.
    taken = rankdata(-p, method="max") <= selected_share * len(p)
    values = pd.Series(group).reset_index(drop=True)
    codes, names = pd.factorize(values.astype("object").where(values.notna(), NOT_KNOWN).astype(str))
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(codes, minlength=len(names)))[:-1])
    found = [
        _group_quality(attribute, str(name), (y[rows], p[rows], taken[rows]), level)
        for name, rows in zip(names, parts, strict=True)
    ]
    return sorted(found, key=lambda quality: (-quality.n, quality.group))


def fairness(
    label: np.ndarray,
    probability: np.ndarray,
    attributes: Mapping[str, Sequence[Any] | np.ndarray | pd.Series],
) -> Fairness:
    """The groups of each attribute beside one another, and the largest gaps between them, with 95 % intervals.

    Args and errors as `by_group`; `attributes` is name -> whom a row belongs to.

    Example:
        >>> label, probability = np.array([0, 1] * 100), np.array([0.2, 0.8] * 100)
        >>> found = fairness(label, probability, {"country": ["NL"] * 100 + ["BE"] * 100})
        >>> [gap.gap.estimate for gap in found.gaps if gap.measure == "rate"]
        [0.0]
    """
    groups: list[GroupQuality] = []
    gaps: list[Gap] = []
    for attribute, group in attributes.items():
        of_attribute = by_group(label, probability, group, attribute=attribute)
        groups += of_attribute
        large = [quality.group for quality in of_attribute if not quality.small]
        if len(large) < 2:
            continue
        n_pairs = len(large) * (len(large) - 1) / 2
        level = 1 - 0.05 / n_pairs
        strict = by_group(label, probability, group, attribute=attribute, level=level)
        kept = [quality for quality in strict if not quality.small]
        gaps += [gap for measure in GAPS if (gap := _largest(attribute, measure, kept, level))]
    return Fairness(tuple(groups), tuple(gaps), SELECTED_SHARE)


def group_frame(groups: Sequence[GroupQuality]) -> pd.DataFrame:
    """A row per group: sizes, and each measure with `_low` and `_high`."""
    rows: list[dict[str, Any]] = []
    for quality in groups:
        row: dict[str, Any] = {}
        for name in GroupQuality.__dataclass_fields__:
            value = getattr(quality, name)
            if isinstance(value, Interval):
                row |= {name: value.estimate, f"{name}_low": value.low, f"{name}_high": value.high}
            else:
                row[name] = value
        rows.append(row)
    return pd.DataFrame(rows)


def bands(values: np.ndarray, edges: Sequence[float], *, unit: str = "") -> np.ndarray:
    """Numbers as named bands, for `by_group`: str of shape (n,), `"(not known)"` where missing.

    Args:
        values: Such as days since signing up, shape (n,).
        edges: Rising; a value on an edge belongs above it.
        unit: Of the values, for the names.

    Example:
        >>> bands(np.array([3.0, 30.0, 400.0, np.nan]), [30, 365], unit="days").tolist()
        ['under 30 days', '30 to 365 days', '365 days and more', '(not known)']
    """
    of = f" {unit}" if unit else ""
    middle = [f"{low:g} to {high:g}{of}" for low, high in pairwise(edges)]
    names = np.array([f"under {edges[0]:g}{of}", *middle, f"{edges[-1]:g}{of} and more", NOT_KNOWN])
    x = np.asarray(values, dtype=np.float64)
    return names[np.where(np.isnan(x), len(names) - 1, np.searchsorted(edges, x, side="right"))]


def calibration_bins(probability: np.ndarray) -> np.ndarray:
    """The bin of each row, int (n,) from 0: at most 10, of near equal mass, equal probabilities together."""
    edges = np.unique(np.quantile(probability, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    bins = np.searchsorted(edges, probability, side="left")
    return np.unique(bins, return_inverse=True)[1]


Measure = Callable[[np.ndarray, np.ndarray], Statistic]


def _roc_auc(y: np.ndarray, p: np.ndarray) -> Statistic:
    order = np.argsort(p, kind="stable")
    starts = np.flatnonzero(np.append(True, p[order][1:] != p[order][:-1]))

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


def _log_loss(y: np.ndarray, p: np.ndarray) -> Statistic:
    held = np.clip(p, EPSILON, 1 - EPSILON)
    return mean_of(-np.where(y == 1, np.log(held), np.log1p(-held)))


def _brier(y: np.ndarray, p: np.ndarray) -> Statistic:
    return mean_of((p - y) ** 2)


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

    def statistic(weights: np.ndarray) -> np.ndarray:
        if unanswerable:
            return np.full(len(weights), np.nan)
        together = newton(weights.sum(axis=0, keepdims=True), np.zeros(1), np.ones(1), 25)
        start_a, start_b = (np.repeat(value, len(weights)) for value in together)
        return newton(weights, start_a, start_b, 5)[1]

    return statistic


def _calibration_intercept(y: np.ndarray, p: np.ndarray) -> Statistic:
    x = logit(np.clip(p, 1e-6, 1 - 1e-6))

    def statistic(weights: np.ndarray) -> np.ndarray:
        """Newton's method for the a at which the mean of expit(a + x) is the rate."""
        n, positives = weights.sum(axis=1), weights @ y
        a = np.zeros(len(weights))
        for _ in range(25):
            q = expit(a[:, None] + x)
            step = np.clip((positives - (weights * q).sum(axis=1)) / (weights * q * (1 - q)).sum(axis=1), -2, 2)
            a += step
            if np.abs(step).max(initial=0) < 1e-6:
                break
        return np.where((positives > 0) & (positives < n), a, np.nan)

    return statistic


MEASURES: dict[str, Measure] = {
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "log_loss": _log_loss,
    "brier": _brier,
    "calibration_error": _calibration_error,
    "calibration_slope": _calibration_slope,
    "calibration_intercept": _calibration_intercept,
}
GAPS = ("rate", "calibration_gap", "roc_auc", "selection_rate", "true_positive_rate")
"""What `fairness` compares between groups."""


def _bootstrapped(statistics: dict[str, Statistic], n: int, **options: Any) -> ProbabilityQuality:
    return ProbabilityQuality(**{name: bootstrap(statistic, n, **options) for name, statistic in statistics.items()})


def _from_bins(y: np.ndarray, p: np.ndarray, **options: Any) -> ProbabilityQuality:
    """Estimates from the rows; how far the ends lie from them, from resamples of fine bins."""
    order = np.argsort(p, kind="stable")
    bins = np.empty(len(p), dtype=np.int64)
    bins[order] = np.arange(len(p)) * FINE_BINS // len(p)
    mean = np.bincount(bins, p) / np.bincount(bins)
    counts = np.bincount(2 * bins + y.astype(np.int64), minlength=2 * FINE_BINS)
    kept = counts > 0
    binned_y, binned_p = np.tile([0.0, 1.0], FINE_BINS)[kept], np.repeat(mean, 2)[kept]
    found: dict[str, Interval] = {}
    for name, measure in MEASURES.items():
        exact = float(measure(y, p)(np.ones((1, len(y))))[0])
        binned = bootstrap(measure(binned_y, binned_p), int(kept.sum()), counts=counts[kept], **options)
        moved = exact - binned.estimate
        found[name] = Interval(exact, binned.low + moved, binned.high + moved, binned.level)
    return ProbabilityQuality(**found)


def _centred(found: ProbabilityQuality) -> ProbabilityQuality:
    """With the interval of the calibration error about its estimate: chance adds to it, and in resamples once more."""
    error = found.calibration_error
    half = (error.high - error.low) / 2
    low, high = max(error.estimate - half, 0.0), error.estimate + half
    return replace(found, calibration_error=replace(error, low=low, high=high))


def _group_quality(
    attribute: str, group: str, rows: tuple[np.ndarray, np.ndarray, np.ndarray], level: float
) -> GroupQuality:
    y, p, taken = rows
    n, positives = len(y), int(y.sum())
    return GroupQuality(
        attribute=attribute,
        group=group,
        n=n,
        positives=positives,
        small=n < SMALL_GROUP or min(positives, n - positives) < SMALL_CLASS,
        rate=wilson(positives, n, level=level),
        mean_probability=float(p.mean()),
        calibration_gap=normal_mean(p - y, level=level),
        roc_auc=_delong(y, p, level),
        brier=normal_mean((p - y) ** 2, level=level),
        selection_rate=wilson(int(taken.sum()), n, level=level),
        true_positive_rate=wilson(int(taken[y == 1].sum()), positives, level=level),
    )


def _delong(y: np.ndarray, p: np.ndarray, level: float) -> Interval:
    """ROC-AUC with DeLong's variance (1988; by ranks, Sun and Xu 2014); on the logit scale, so within [0, 1]."""
    positives, negatives = p[y == 1], p[y == 0]
    m, n = len(positives), len(negatives)
    if min(m, n) < 2:
        return Interval.around(np.nan, level=level)
    rank = rankdata(np.r_[positives, negatives])
    won = (rank[:m] - rankdata(positives)) / n  # of each positive: the share of negatives below
    lost = 1 - (rank[m:] - rankdata(negatives)) / m
    auc = float(won.mean())
    error = np.sqrt(won.var(ddof=1) / m + lost.var(ddof=1) / n)
    if error == 0 or not 0 < auc < 1:
        return Interval(auc, auc, auc, level)
    half = norm.ppf((1 + level) / 2) * error / (auc * (1 - auc))
    return Interval(auc, float(expit(logit(auc) - half)), float(expit(logit(auc) + half)), level)


def _largest(attribute: str, measure: str, groups: Sequence[GroupQuality], level: float) -> Gap | None:
    """The pair that differs most, its interval from the two of the groups (Zou and Donner 2008, equation 8)."""
    values = {quality.group: getattr(quality, measure) for quality in groups}
    pairs = [
        (a, b) if values[a].estimate >= values[b].estimate else (b, a)
        for a, b in combinations([g for g, v in values.items() if not np.isnan(v.estimate)], 2)
    ]
    if not pairs:
        return None
    highest, lowest = max(pairs, key=lambda pair: values[pair[0]].estimate - values[pair[1]].estimate)
    high, low = values[highest], values[lowest]
    d = high.estimate - low.estimate
    below = np.hypot(high.estimate - high.low, low.high - low.estimate)
    above = np.hypot(high.high - high.estimate, low.estimate - low.low)
    return Gap(attribute, measure, highest, lowest, Interval(d, float(d - below), float(d + above), level))


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
