"""An effect group by group: corrected for how many were looked at, and shrunken towards their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import chi2, false_discovery_control

from data.errors import DataError
from evaluation.classification import NOT_KNOWN
from evaluation.experiments.means import Difference, difference_of_means
from evaluation.experiments.sequential import AlwaysValid, always_valid, always_valid_p_value, planned_of
from evaluation.intervals import Interval

FOUND = 0.05
"""The false discovery rate that is accepted."""


@dataclass(frozen=True, slots=True)
class SegmentEffect:
    """What a treatment did to one group of people.

    Attributes:
        attribute: Column of the groups.
        group: Which one.
        difference: On these people alone.
        shrunken: The best guess, drawn towards the mean of all groups as far as noise explains what they differ in;
            None for a group too small to judge, or an attribute with fewer than four groups to learn that from.
        p_adjusted: Of no effect, corrected over all groups of all attributes and arms; NaN if too small to judge.
        running: What may be read at any time; None if the planned number of people was not told.
    """

    attribute: str
    group: str
    difference: Difference
    shrunken: Interval | None
    p_adjusted: float
    running: AlwaysValid | None = None

    @property
    def interval(self) -> Interval:
        """Of the difference; of an experiment that runs, the one that holds however often one looks."""
        return (self.running or self.difference).interval

    @property
    def small(self) -> bool:
        """Whether too few of its people have an outcome to judge it."""
        return not self.difference.enough

    @property
    def found(self) -> bool:
        """Whether it surely differs from zero; exploratory all the same, and to be confirmed by another experiment."""
        return self.p_adjusted < FOUND


@dataclass(frozen=True, slots=True)
class Segments:
    """All groups, and whether they differ at all.

    Attributes:
        effects: One per group with people in both arms, in the order of attributes and names.
        differ: By attribute the p-value of the same effect in all its groups (Cochran's Q); NaN with one group. Of an
            experiment that runs it, too, is valid at every look.
    """

    effects: tuple[SegmentEffect, ...]
    differ: dict[str, float]


def segment_effects(
    treated: np.ndarray,
    control: np.ndarray,
    treated_segments: pd.DataFrame,
    control_segments: pd.DataFrame,
    *,
    arms: int = 1,
    planned_people: int | None = None,
    level: float = 0.95,
) -> Segments:
    """The difference of means in each group of each attribute.

    p-values are corrected by Benjamini and Hochberg (1995) over all groups; the shrunken estimate is empirical Bayes
    (`shrink`).

    Args:
        treated: Outcomes, shape (n,).
        control: Outcomes, shape (m,).
        treated_segments: A column per attribute, n rows; what is missing is a group of its own.
        control_segments: The same columns, m rows.
        arms: How many treated arms are looked at in this way: p-values are Bonferroni-corrected for it.
        planned_people: In these two arms, of an experiment that still runs: p-values and intervals are always-valid,
            a group being planned to have as large a part of them as it has of the people so far.
        level: Coverage of each interval on its own.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> country = pd.DataFrame({"country": np.repeat(["AT", "DE"], 500)})
        >>> found = segment_effects(rng.normal(1, 1, 1000), rng.normal(0, 1, 1000), country, country)
        >>> [(effect.group, effect.found) for effect in found.effects], found.differ["country"] > 0.05
        ([('AT', True), ('DE', True)], True)
    """
    if (len(treated), len(control)) != (len(treated_segments), len(control_segments)):
        raise DataError("outcomes and segments are not of the same people; give a row of segments for each outcome.")
    found: list[tuple[str, str, Difference]] = []
    for attribute in treated_segments:
        ours, theirs = _by_group(treated, treated_segments[attribute]), _by_group(control, control_segments[attribute])
        found += [
            (str(attribute), group, difference_of_means(ours[group], theirs[group], level=level))
            for group in sorted(ours.keys() & theirs.keys())
        ]
    people = len(treated) + len(control)
    running = [
        None
        if planned_people is None
        else always_valid(
            difference,
            planned_people=planned_of(planned_people, difference.n_treated + difference.n_control, people),
            level=level,
        )
        for _, _, difference in found
    ]
    judged = [i for i, (_, _, difference) in enumerate(found) if difference.enough]
    p_adjusted = np.full(len(found), np.nan)
    if judged:
        p_values = [(running[i] or found[i][2]).p_value for i in judged]
        p_adjusted[judged] = np.minimum(1, arms * false_discovery_control(p_values))
    shrunken: dict[int, Interval] = {}
    differ: dict[str, float] = {}
    for attribute in dict.fromkeys(name for name, _, _ in found):
        rows = [i for i in judged if found[i][0] == attribute]
        estimate = np.array([found[i][2].interval.estimate for i in rows])
        error = np.array([found[i][2].standard_error for i in rows])
        q, degrees = _cochran(estimate, error)
        differ[attribute] = (
            float(chi2.sf(q, degrees))
            if planned_people is None or not degrees
            else always_valid_p_value(q, degrees, people, planned_people=planned_people, level=level)
        )
        shrunken |= dict(zip(rows, shrink(estimate, error, level=level), strict=False))
    return Segments(
        tuple(
            SegmentEffect(attribute, group, difference, shrunken.get(i), float(p_adjusted[i]), running[i])
            for i, (attribute, group, difference) in enumerate(found)
        ),
        differ,
    )


def shrink(
    estimate: Sequence[float] | np.ndarray, error: Sequence[float] | np.ndarray, *, level: float = 0.95
) -> list[Interval]:
    """Effects drawn towards their mean: empirical Bayes with Morris's intervals (Morris 1983, section 5).

    Effects are taken to lie around their mean with a variance A that is the root of sum((e - mean)^2 / (V + A)) = k - 1
    (Paule and Mandel 1982), 0 if there is none. Each keeps 1 - B of its distance, B = V / (V + A) (k - 3) / (k - 1);
    intervals know that A and the mean are estimates.

    Args:
        estimate: Of k groups.
        error: Standard errors, all above 0.
        level: Coverage, on average over groups.

    Returns:
        One per group; none where k < 4, as nothing can be learnt of A.

    Example:
        >>> noise = shrink([1.0, -1.0, 0.5, -0.5, 0.2], [1.0] * 5)
        >>> print(noise[0])
        0.5200 [-1.2660, 2.3060]
    """
    e, v = np.asarray(estimate, dtype=np.float64), np.asarray(error, dtype=np.float64) ** 2
    k = len(e)
    if k < 4:
        return []

    def excess(a: float) -> float:
        w = 1 / (v + a)
        return float((w * (e - w @ e / w.sum()) ** 2).sum() - (k - 1))

    top = float(np.ptp(e) ** 2 + v.max())
    a = brentq(excess, 0.0, top) if excess(0.0) > 0 > excess(top) else 0.0
    w = 1 / (v + a)
    middle = float(w @ e / w.sum())
    b = (k - 3) / (k - 1) * v / (v + a)
    known = 2 / (k - 3) * b**2 * ((w @ v / w.sum() + a) / (v + a))
    variance = v * (1 - (1 - w / w.sum()) * b) + known * (e - middle) ** 2
    half = ndtri((1 + level) / 2) * np.sqrt(variance)
    best = middle + (1 - b) * (e - middle)
    return [Interval.around(m, h, level=level) for m, h in zip(best, half, strict=True)]


def _by_group(outcome: np.ndarray, group: pd.Series) -> dict[str, np.ndarray]:
    """The outcomes of each group; what is missing is one."""
    codes, names = pd.factorize(group.astype("object").where(group.notna(), NOT_KNOWN).astype(str))
    ends = np.bincount(codes, minlength=len(names)).cumsum()[:-1]
    return dict(zip(names, np.split(outcome[np.argsort(codes, kind="stable")], ends), strict=True))


def _cochran(estimate: np.ndarray, error: np.ndarray) -> tuple[float, int]:
    """Q and its degrees of freedom; NaN and none with one group."""
    if len(estimate) < 2:
        return np.nan, 0
    w = error**-2
    return float((w * (estimate - w @ estimate / w.sum()) ** 2).sum()), len(estimate) - 1
