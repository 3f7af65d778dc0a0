"""Policies side by side on one experiment: what each earns per person, and what the first earns more than each other.

The doubly robust estimate decides; the self-normalised one stands beside it and must not contradict. Values are in the
unit of the outcome, or in money where the outcome is a profit (`profit`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data.errors import DataError
from evaluation.intervals import Interval
from evaluation.off_policy import Logged, PolicyValue, Weights, difference, doubly_robust, overlap, self_normalised

NOTABLE = 0.1
"""Share of all outcome from which one person's part is told, and the gain without that person."""


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One policy.

    Attributes:
        name: "Mens to all".
        shares: Arm -> share of the people that it would give it to.
        value: Outcome per person, doubly robust; NaN where the experiment cannot say.
        self_normalised: The same by the weighted mean of what happened.
        weights: How far the experiment can speak about it, and why not.
    """

    name: str
    shares: Mapping[str, float]
    value: Interval
    self_normalised: Interval
    weights: Weights


@dataclass(frozen=True, slots=True)
class PolicyGain:
    """What one policy earns more than another per person, paired by person.

    Attributes:
        name: The one.
        against: The other.
        gain: Doubly robust.
        of_all: The same, wider: at the level 1 - (1 - level) / gains, so that all gains together err as seldom as one
            (Bonferroni).
        self_normalised: By the weighted means.
        without_largest: `gain` without the person with the largest outcome; None where that is under a tenth of all.
        differently_treated: Share of the people whom the two would treat differently: where it is 0 so is the gain.
    """

    name: str
    against: str
    gain: Interval
    of_all: Interval
    self_normalised: Interval
    without_largest: Interval | None
    differently_treated: float


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """All of them, and the gains of the first.

    Attributes:
        rows: Each policy, in the order given.
        gains: The first against each other.
        arms: Names, by code.
        n: People.
        n_by_arm: Arm -> people who got it.
        largest_share: Part of all outcome that one person brought; NaN where there was none.
    """

    rows: tuple[PolicyRow, ...]
    gains: tuple[PolicyGain, ...]
    arms: tuple[str, ...]
    n: int
    n_by_arm: Mapping[str, int]
    largest_share: float


def compare_policies(
    logged: Logged,
    policies: Mapping[str, np.ndarray],
    predicted: np.ndarray,
    *,
    arms: Sequence[str],
    probabilities: np.ndarray | None = None,
    level: float = 0.95,
) -> PolicyComparison:
    """Judge every policy, and the first against all others.

    Args:
        logged: Who got which arm, and what it earned.
        policies: Name -> chance of each arm for each person, (n, K), by models that did not see the person.
        predicted: What each arm would earn, by a model that did not see the person, (n, K).
        arms: Names, by code.
        probabilities: Of every arm in the experiment, (n, K), where known.
        level: Coverage.

    Raises:
        DataError: shapes that do not fit, or no policy.

    Example:
        >>> arm = np.tile([0, 1], 50)
        >>> log = Logged(arm, arm + np.tile([0.0, 0.0, 0.2, 0.2], 25), np.full(100, 0.5))
        >>> everybody, nobody = np.tile([0.0, 1.0], (100, 1)), np.tile([1.0, 0.0], (100, 1))
        >>> found = compare_policies(
        ...     log, {"all": everybody, "nobody": nobody}, np.tile([0.1, 1.1], (100, 1)), arms=["none", "mail"])
        >>> round(found.gains[0].gain.estimate, 6), found.rows[0].shares
        (1.0, {'none': 0.0, 'mail': 1.0})
    """
    if not policies or predicted.shape != (len(logged), len(arms)):
        wanted = (len(logged), len(arms))
        raise DataError(f"{len(policies)} policies, predicted of shape {predicted.shape}; give some, and {wanted}.")
    judged: dict[str, tuple[PolicyValue, PolicyValue]] = {}
    rows = []
    for name, policy in policies.items():
        weights = overlap(logged, policy, probabilities=probabilities)
        judged[name] = (
            doubly_robust(logged, policy, predicted, level=level),
            self_normalised(logged, policy, level=level),
        )
        shares = dict(zip(arms, policy.mean(axis=0).tolist(), strict=True))
        rows.append(PolicyRow(name, shares, judged[name][0].value, judged[name][1].value, weights))
    size = np.abs(logged.reward)
    largest_share = float(size.max() / size.sum()) if size.any() else np.nan
    rest = np.arange(len(logged)) != size.argmax() if largest_share >= NOTABLE else None
    first, *others = policies
    gains = [
        _gain(first, other, judged, policies, logged=logged, predicted=predicted, rest=rest, level=level, n=len(others))
        for other in others
    ]
    counts = np.bincount(logged.action, minlength=len(arms)).tolist()
    return PolicyComparison(
        tuple(rows), tuple(gains), tuple(arms), len(logged), dict(zip(arms, counts, strict=True)), largest_share
    )


def profit(outcome: np.ndarray, arm: np.ndarray, *, margin: float, costs: Sequence[float]) -> np.ndarray:
    """What each person brought after cost: outcome x margin - what their arm costs, (n,).

    Args:
        outcome: Money, or a conversion whose worth is `margin`, (n,).
        arm: Codes, (n,).
        margin: Share of a sale that is earned, or what one conversion is worth.
        costs: Of each arm per person, the contact and the offer together; the control costs 0.

    Raises:
        DataError: a cost that is negative or missing.

    Example:
        >>> profit(np.array([10.0, 0.0]), np.array([0, 1]), margin=0.3, costs=[0.0, 0.1]).tolist()
        [3.0, -0.1]
    """
    told = np.asarray(costs, dtype=np.float64)
    if len(told) <= arm.max() or not (np.isfinite(told) & (told >= 0)).all() or not np.isfinite(margin):
        raise DataError(f"costs are {list(costs)}, the margin {margin}; give each arm a cost of 0 or more.")
    found: np.ndarray = outcome * margin - told[arm]
    return found


def _gain(
    name: str,
    against: str,
    judged: Mapping[str, tuple[PolicyValue, PolicyValue]],
    policies: Mapping[str, np.ndarray],
    *,
    logged: Logged,
    predicted: np.ndarray,
    rest: np.ndarray | None,
    level: float,
    n: int,
) -> PolicyGain:
    without = None
    if rest is not None:
        fewer = Logged(logged.action[rest], logged.reward[rest], logged.probability[rest])
        parts = [doubly_robust(fewer, policies[who][rest], predicted[rest], level=level) for who in (name, against)]
        without = difference(*parts)
    apart = np.abs(policies[name] - policies[against]).sum(axis=1) / 2
    pairs = [difference(judged[name][which], judged[against][which]) for which in (0, 1)]
    of_all = difference(judged[name][0], judged[against][0], level=1 - (1 - level) / n)
    return PolicyGain(name, against, pairs[0], of_all, pairs[1], without, float(apart.mean()))
