"""How well people are ranked by what a treatment changes for them, and what to do with the ranking.

One arm is held against the control. Each person has a doubly robust effect, Gamma_1 - Gamma_0
(`evaluation.off_policy.action_values`), whose mean over any group estimates what the treatment changes there. A score
ranks people, the highest first; people with one score are taken together. With G(q) the extra outcome per person of
all when the top share q is treated, and nobody else:

- `gain_curve`: G(q), its best q, in outcome or, where effects are in money, in money;
- `rate`: TOC(q) = G(q) / q - G(1) is what the top q gain more than all; AUTOC is its mean over q, RATE-Qini that of
  q TOC(q) = G(q) - q G(1), the area between the curve and the diagonal (Yadlowsky et al. 2024, eq. 2.2);
- `qini`, `auuc`: the areas that other libraries print, from counts alone: over the diagonal, divided by the perfect
  curve's area over it, where "perfect" knows who did it (scikit-uplift's `qini_auc_score`, `uplift_auc_score`);
- `by_decile`, `uplift_at`: the mean effect of tenths, and of the top k;
- `calibration`: the best line from predicted to true effects (Chernozhukov et al. 2018, "BLP");
- `comparable`: scores of models that each judge a fold, made one ranking.

Every interval of an area or a curve is a bootstrap that cuts the ranking anew in each resample; noise alone makes a
Qini above zero half of the time, so that `above_random` is part of each answer. Resamples are drawn from 1,000 groups
of people formed at random (Kleiner et al. 2014 in spirit): a million people cost no more than a thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.stats import norm, rankdata

from data.errors import DataError
from evaluation.intervals import Interval, normal_mean
from evaluation.off_policy import Logged, action_values

GROUPS = 1_000
LEVEL = 0.95
"""Coverage of every interval here."""
BINS = 200
"""Of the ranking, equal in people: what the resamples know of it."""
DECILES = 10
GRID = 101
"""Shares that a curve is told at."""
MIN_ARM = 30
"""People of an arm, below which nothing is said."""


@dataclass(frozen=True, eq=False)
class Contrast:
    """One arm against the control, a row per person of the experiment; made by `contrast`.

    Attributes:
        treated: Who was in the arm, bool (n,).
        control: Who was in the control, bool (n,); people of other arms are in neither.
        outcome: What came of it, (n,).
        effect: Each person's doubly robust effect, (n,): its mean is that of the people, one value says nothing.
        average: The mean effect.
    """

    treated: np.ndarray
    control: np.ndarray
    outcome: np.ndarray
    effect: np.ndarray
    average: Interval

    def __len__(self) -> int:
        return len(self.effect)


@dataclass(frozen=True, eq=False)
class GainCurve:
    """G(q) by the share treated, and where it is highest.

    Attributes:
        share: q, from 0 to 1, (101,).
        gain: G(q), (101,).
        low: Lower ends, each point by itself, (101,).
        high: Upper ends.
        band_low: Lower ends that hold for all points at once (sup-t).
        band_high: Upper ends.
        random: The diagonal, q G(1), (101,).
        best_share: Where G is highest; between the ends lie the best shares of 95 % of the resamples.
        best_gain: G there; chosen as the highest of many, it is a little too good, and its interval holds for all.
        over_all: G at the best share minus G(1), alike: what is spared by leaving people out.
        above_random: P value of "the ranking is no better than a random one": of the area over the diagonal, one-sided.
        n: People.
    """

    share: np.ndarray
    gain: np.ndarray
    low: np.ndarray
    high: np.ndarray
    band_low: np.ndarray
    band_high: np.ndarray
    random: np.ndarray
    best_share: Interval
    best_gain: Interval
    over_all: Interval
    above_random: float
    n: int


@dataclass(frozen=True, slots=True)
class Area:
    """An area under a curve of a ranking, or the paired difference of two.

    Attributes:
        name: `qini`, the area between the Qini curve and the diagonal by that of the perfect curve (0 = random);
            `auuc`, the same of the uplift curve, whose points are differences of rates times the people so far;
            `autoc`, how much more the top share gains than everybody, averaged over all shares; `rate_qini`, the area
            between the gain curve and the diagonal, in outcome per person.
        value: With its interval.
        standard_error: Of the value.
        above_random: P value of "it is not above 0", one-sided.
        n: People.
        n_treated: Of them in the arm.
        n_control: In the control.
    """

    name: str
    value: Interval
    standard_error: float
    above_random: float
    n: int
    n_treated: int
    n_control: int


@dataclass(frozen=True, slots=True)
class UpliftGroup:
    """Some of the people, by their place in the ranking.

    Attributes:
        rank: 1 = the highest scores.
        n: People.
        n_treated: Of them in the arm.
        n_control: In the control.
        rate_treated: Mean outcome of those in the arm; NaN where there are none.
        rate_control: Of those in the control.
        predicted: Mean score.
        observed: Mean doubly robust effect.
    """

    rank: int
    n: int
    n_treated: int
    n_control: int
    rate_treated: float
    rate_control: float
    predicted: float
    observed: Interval


@dataclass(frozen=True, slots=True)
class UpliftCalibration:
    """The best line: effect = average + shift + slope (score - mean score); robust errors (HC1).

    Attributes:
        shift: Mean effect minus mean score: 0 = right on average.
        slope: 1 = right in size, below 1 = too extreme, 0 = no difference between people was found.
        differs: P value of "people do not differ as scored" (slope <= 0), one-sided.
        error: Mean over deciles of |predicted - observed|; noise only adds to it.
        n: People.
    """

    shift: Interval
    slope: Interval
    differs: float
    error: float
    n: int


def contrast(
    logged: Logged,
    probabilities: np.ndarray,
    *,
    arm: int = 1,
    predicted: np.ndarray | None = None,
) -> Contrast:
    """Everybody's doubly robust effect of one arm against the control, arm 0.

    Args:
        logged: Who got which arm (`action`), and what came of it (`reward`).
        probabilities: Of every arm, known or estimated, (n, K).
        arm: Which is held against the control.
        predicted: Outcome under each arm by a model that did not see the person, (n, K); by default each arm's mean.

    Raises:
        DataError: an arm is missing or has under 30 people, or the outcome never changes.

    Example:
        >>> log = Logged(np.tile([0, 1], 50), np.tile([0.0, 0.0, 0.0, 1.0], 25), np.full(100, 0.5))
        >>> contrast(log, np.full((100, 2), 0.5)).average.estimate
        0.5
    """
    treated, held_out = logged.action == arm, logged.action == 0
    for members, what in ((treated, f"arm {arm}"), (held_out, "the control, arm 0,")):
        if members.sum() < MIN_ARM:
            raise DataError(
                f"{what} has {members.sum()} people; an effect needs {MIN_ARM}. Leave the arm out, or wait."
            )
    if np.ptp(logged.reward[treated | held_out]) == 0:
        raise DataError(f"the outcome is {logged.reward[0]:g} for everybody. Choose one that happened to some.")
    values = action_values(logged, probabilities, predicted)
    effect = values[:, arm] - values[:, 0]
    return Contrast(treated, held_out, logged.reward, effect, normal_mean(effect))


def gain_curve(people: Contrast, score: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> GainCurve:
    """G(q) with bands, and the best share to treat.

    For money, make the contrast of profits: outcome x margin - cost of the arm.

    Args:
        people: The experiment.
        score: The ranking, (n,), by a model that did not see the person.
        resamples: How many.
        seed: Of the resamples.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> arm, score = rng.integers(2, size=4000), rng.uniform(-1, 1, 4000)
        >>> log = Logged(arm, arm * score + rng.normal(0, 0.1, 4000), np.full(4000, 0.5))
        >>> curve = gain_curve(contrast(log, np.full((4000, 2), 0.5)), score)
        >>> curve.best_share.low < 0.5 < curve.best_share.high
        True
    """
    bins = _Bins(_ranking(people, score))
    share = np.linspace(0, 1, GRID)
    sums = bins.sums(people.effect)
    drawn = [bins.drawn(values, resamples, seed) for values in (np.ones(len(score)), people.effect)]
    gain = _gains(bins.counts[None], sums[None], share)[0]
    draws = _gains(drawn[0], drawn[1], share)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    # The best share is chosen by its gain: an interval of the point alone would find too much in what noise made best.
    wide, over_wide = _simultaneous(draws), _simultaneous(draws - draws[:, -1:])
    best, bests = int(gain.argmax()), draws.argmax(axis=1)
    ends = np.quantile(share[bests], [tail, 1 - tail])
    area, areas = ((g - share * g[..., -1:]).mean(axis=-1) for g in (gain, draws))
    return GainCurve(
        share=share,
        gain=gain,
        low=low,
        high=high,
        band_low=gain - wide,
        band_high=gain + wide,
        random=share * gain[-1],
        best_share=Interval(float(share[best]), float(ends[0]), float(ends[1]), LEVEL),
        best_gain=Interval.around(gain[best], wide[best], level=LEVEL),
        over_all=Interval.around(gain[best] - gain[-1], over_wide[best], level=LEVEL),
        above_random=_p_above(float(area), areas),
        n=len(score),
    )


def rate(
    people: Contrast,
    score: np.ndarray,
    *,
    weighting: Literal["autoc", "rate_qini"] = "autoc",
    against: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Area:
    """Rank-weighted average treatment effect (Yadlowsky et al. 2024): is the ranking better than a random one?

    AUTOC looks at the top of the list, RATE-Qini at all of it.

    Args:
        people: The experiment.
        score: The ranking, (n,).
        weighting: Which.
        against: Another ranking of the same people: the answer is the paired difference.
        resamples: How many.
        seed: Of the resamples.
    """
    share = (np.arange(BINS) + 0.5) / BINS
    ones = np.ones(len(people))

    def over_diagonal(counts: np.ndarray, sums: np.ndarray) -> np.ndarray:
        over = _gains(counts, sums, share) - share * (sums.sum(axis=1) / counts.sum(axis=1))[:, None]
        mean: np.ndarray = (over / share if weighting == "autoc" else over).mean(axis=1)
        return mean

    def area(ranking: np.ndarray) -> tuple[float, np.ndarray]:
        bins = _Bins(ranking)
        estimate = over_diagonal(bins.sums(ones)[None], bins.sums(people.effect)[None])[0]
        return estimate, over_diagonal(*(bins.drawn(values, resamples, seed) for values in (ones, people.effect)))

    return _area(weighting, people, area, score=_ranking(people, score), against=against)


def qini(
    people: Contrast,
    score: np.ndarray,
    *,
    against: np.ndarray | None = None,
    kind: Literal["qini", "auuc"] = "qini",
    resamples: int = 1000,
    seed: int = 0,
) -> Area:
    """The Qini coefficient (Radcliffe 2007), or the AUUC, as scikit-uplift has them, with an interval.

    After each person of the ranking, T treated have brought y_T and C controls y_C: the Qini curve is
    y_T - y_C T / C, the uplift curve (y_T / T - y_C / C) (T + C). People of other arms are left out. The coefficient
    does not know assignment probabilities: where they differ between people, trust `rate`.

    Args:
        people: The experiment.
        score: The ranking, (n,).
        against: Another ranking of the same people: the answer is the paired difference.
        kind: Which of the two curves.
        resamples: How many.
        seed: Of the resamples.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> arm, score = rng.integers(2, size=4000), rng.random(4000)
        >>> log = Logged(arm, (rng.random(4000) < 0.2 + 0.3 * arm * score).astype(float), np.full(4000, 0.5))
        >>> found = qini(contrast(log, np.full((4000, 2), 0.5)), score)
        >>> found.value.low > 0, found.above_random < 0.01
        (True, True)
    """
    kept = people.treated | people.control
    t = people.treated[kept].astype(np.float64)
    y = people.outcome[kept]
    columns = (t, 1 - t, y * t, y * (1 - t))
    knowing = y * (2 * t - 1)
    if kind == "auuc" and np.isin(y, (0, 1)).all():  # there the best order depends on which kind of person is rarer
        few_lost = (y * (1 - t)).sum() > ((1 - y) * t).sum()
        knowing = 2.0 * (y == t) + (y if few_lost else t)

    def over_diagonal(ranking: np.ndarray) -> tuple[float, np.ndarray]:
        """On the data, and on the resamples; what the bins of those blur is put right."""
        exact, bins = _Bins(ranking, len(ranking)), _Bins(ranking)
        value, blurred = (
            float(_classical(kind, *(b.sums(column)[None] for column in columns))[0]) for b in (exact, bins)
        )
        draws = _classical(kind, *(bins.drawn(column, resamples, seed) for column in columns))
        return value, draws + value - blurred

    perfect, perfect_draws = over_diagonal(knowing)

    def area(ranking: np.ndarray) -> tuple[float, np.ndarray]:
        value, draws = over_diagonal(ranking[kept])
        return value / perfect, draws / perfect_draws

    return _area(kind, people, area, score=_ranking(people, score), against=against)


def by_decile(people: Contrast, score: np.ndarray) -> tuple[UpliftGroup, ...]:
    """The effect in tenths of the ranking, the highest scores first; equal scores share a tenth.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> arm, score = rng.integers(2, size=1000), rng.random(1000)
        >>> log = Logged(arm, arm * score, np.full(1000, 0.5))
        >>> tenths = by_decile(contrast(log, np.full((1000, 2), 0.5)), score)
        >>> len(tenths), tenths[0].observed.estimate > tenths[-1].observed.estimate
        (10, True)
    """
    where = _Bins(_ranking(people, score), DECILES).where
    return tuple(_group(people, score, where == rank, rank + 1) for rank in range(where.max() + 1))


def uplift_at(people: Contrast, score: np.ndarray, share: float) -> UpliftGroup:
    """The effect in the top share of the ranking; people with the last score are all in it.

    Raises:
        DataError: the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise DataError(f"share is {share}; give one above 0, at most 1, such as 0.3.")
    last = int(np.ceil(share * len(people))) - 1
    least = -np.partition(-_ranking(people, score), last)[last]
    return _group(people, score, score >= least, 1)


def calibration(people: Contrast, score: np.ndarray) -> UpliftCalibration:
    """Predicted against true effects: are they right on average, and in size?

    Args:
        people: The experiment.
        score: Predicted effects in units of the outcome, (n,).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> arm, effect = rng.integers(2, size=4000), rng.random(4000)
        >>> log = Logged(arm, arm * effect, np.full(4000, 0.5))
        >>> found = calibration(contrast(log, np.full((4000, 2), 0.5)), 2 * effect)
        >>> bool(found.slope.low < 0.5 < found.slope.high < 1)
        True
    """
    n = len(_ranking(people, score))
    shift = normal_mean(people.effect - score)
    parts = by_decile(people, score)
    errors = [abs(part.predicted - part.observed.estimate) for part in parts]
    error = float(np.average(errors, weights=[part.n for part in parts]))
    x = score - score.mean()
    spread = float(x @ x)
    if spread <= n * (1e-12 * max(1.0, float(np.abs(score).max()))) ** 2:  # all are scored alike
        return UpliftCalibration(shift, Interval.around(np.nan), np.nan, error, n)
    slope = float(x @ people.effect) / spread
    residual = people.effect - people.effect.mean() - slope * x
    standard_error = float(np.sqrt(x**2 @ residual**2 * n / (n - 2))) / spread
    half = norm.ppf((1 + LEVEL) / 2) * standard_error
    return UpliftCalibration(
        shift=shift,
        slope=Interval.around(slope, half),
        differs=float(norm.sf(slope / standard_error)) if standard_error else 0.0,
        error=error,
        n=n,
    )


def comparable(score: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Scores of several models, each of its own fold, on one scale: who stands alike in their folds has one score.

    It is the mean, over the folds, of the score at that place; the order within a fold stays. As they are, scores of
    different folds do not compare: a fold where effects are large is missing from what its model learnt, whose scores
    are too low and lie too close, so that ranking all together marks every model down, and most where least is to be
    found (Parker, Guenter, Bedo 2007; Forman, Scholz 2010).

    Args:
        score: By models that did not see the person, (n,).
        fold: Whose model it was, (n,).

    Example:
        >>> comparable(np.array([1.0, 2.0, 11.0, 14.0]), np.array([0, 0, 1, 1])).tolist()
        [6.0, 8.0, 6.0, 8.0]
    """
    folds = [np.flatnonzero(fold == code) for code in np.unique(fold)]
    found = np.empty(len(score))
    for members in folds:
        place = (rankdata(score[members]) - 0.5) / len(members)
        found[members] = np.mean([np.quantile(score[others], place, method="hazen") for others in folds], axis=0)
    return found


class _Bins:
    """A ranking cut into bins of about equal size, the highest first; equal scores share a bin.

    Attributes:
        where: Bin of each person, int (n,).
        counts: People in each bin, float (B,).
    """

    def __init__(self, score: np.ndarray, n_bins: int = BINS) -> None:
        _, place, counts = np.unique(-score, return_inverse=True, return_counts=True)
        middle = np.cumsum(counts) - (counts + 1) / 2
        self.where = np.unique((middle * n_bins / len(score)).astype(np.int64), return_inverse=True)[1][place]
        self.counts = np.bincount(self.where).astype(np.float64)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Of a value per person, by bin, (B,)."""
        found: np.ndarray = np.bincount(self.where, values, len(self.counts))
        return found

    def drawn(self, values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
        """The same sums in each resample, (b, B); one seed draws the same people, whatever the values."""
        n, B = len(values), len(self.counts)
        n_groups = min(GROUPS, n)
        cell = _group_of(n, n_groups, seed) * B + self.where
        of_group = np.bincount(cell, values, n_groups * B).reshape(n_groups, B)
        drawn: np.ndarray = _times_drawn(n_groups, resamples, seed) @ of_group
        return drawn


@lru_cache(maxsize=2)
def _group_of(n: int, n_groups: int, seed: int) -> np.ndarray:
    """Whom each person is drawn with, (n,)."""
    return np.random.default_rng([seed, n]).permutation(n) % n_groups


@lru_cache(maxsize=2)
def _times_drawn(n_groups: int, resamples: int, seed: int) -> np.ndarray:
    """How often each group is in each resample, (b, n_groups)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=resamples).astype(np.float64)


def _gains(counts: np.ndarray, sums: np.ndarray, share: np.ndarray) -> np.ndarray:
    """G at each share, straight between the bins: (b, B), (b, B), (m,) -> (b, m)."""
    people = counts.sum(axis=1, keepdims=True)
    at = np.pad(np.cumsum(counts, axis=1) / people, ((0, 0), (1, 0)))
    gained = np.pad(np.cumsum(sums, axis=1) / people, ((0, 0), (1, 0)))
    return np.array([np.interp(share, q, g) for q, g in zip(at, gained, strict=True)])


def _simultaneous(draws: np.ndarray) -> np.ndarray:
    """Half the width of a band that holds at all points at once (sup-t), from a curve's resamples, (b, m) -> (m,)."""
    spread = draws.std(axis=0)
    away = np.abs(draws - draws.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    found: np.ndarray = np.quantile(away.max(axis=1), LEVEL) * spread
    return found


def _classical(
    kind: str, treated: np.ndarray, control: np.ndarray, y_treated: np.ndarray, y_control: np.ndarray
) -> np.ndarray:
    """Area between the Qini or uplift curve and its diagonal, from sums by bin, each (b, B) -> (b,)."""
    T, C, yT, yC = (np.cumsum(part, axis=1) for part in (treated, control, y_treated, y_control))
    rate_T, rate_C = yT / np.maximum(T, 1), yC / np.maximum(C, 1)  # nobody so far: 0
    curve = yT - rate_C * T if kind == "qini" else (rate_T - rate_C) * (T + C)
    people, curve = (np.pad(part, ((0, 0), (1, 0))) for part in (T + C, curve))
    area: np.ndarray = np.trapezoid(curve, people, axis=1) - people[:, -1] * curve[:, -1] / 2
    return area


def _area(
    name: str,
    people: Contrast,
    area: Callable[[np.ndarray], tuple[float, np.ndarray]],
    *,
    score: np.ndarray,
    against: np.ndarray | None,
) -> Area:
    value, draws = area(score)
    if against is not None:
        other, other_draws = area(_ranking(people, against))
        value, draws = value - other, draws - other_draws
    return Area(
        name=name,
        value=_interval(value, draws),
        standard_error=float(draws.std()),
        above_random=_p_above(value, draws),
        n=len(people),
        n_treated=int(people.treated.sum()),
        n_control=int(people.control.sum()),
    )


def _group(people: Contrast, score: np.ndarray, here: np.ndarray, rank: int) -> UpliftGroup:
    treated, control = here & people.treated, here & people.control
    return UpliftGroup(
        rank=rank,
        n=int(here.sum()),
        n_treated=int(treated.sum()),
        n_control=int(control.sum()),
        rate_treated=float(people.outcome[treated].mean()) if treated.any() else np.nan,
        rate_control=float(people.outcome[control].mean()) if control.any() else np.nan,
        predicted=float(score[here].mean()),
        observed=normal_mean(people.effect[here]),
    )


def _ranking(people: Contrast, score: np.ndarray) -> np.ndarray:
    if score.shape != (len(people),) or not np.isfinite(score).all():
        raise DataError(f"score has shape {score.shape}, or gaps; give a number for each of {len(people)} people.")
    return score


def _interval(estimate: float, draws: np.ndarray) -> Interval:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate, float(low), float(high), LEVEL)


def _p_above(estimate: float, draws: np.ndarray) -> float:
    """One-sided, normal with the draws' standard deviation; 1 where nothing ever differs."""
    spread = float(draws.std())
    return float(norm.sf(estimate / spread)) if spread > 0 else 1.0
