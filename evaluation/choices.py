"""What each choice is worth, from decisions logged with their probabilities in arms that were drawn; people are units.

A policy is judged by a weight for each decision: 1{arm = a} is what that arm chose, 1{choice = k} / p(k | arm) is
choice k for everybody, told by the arms alone in which it had a chance with everybody: where a rule or a model chose,
k went to those whom it suits, and what it would bring the others nobody knows. A value is the ratio
V = sum(w r) / sum(w) (Hajek 1971), so each decision contributes w (r - V) / mean(w) to its error; contributions are
added up by person, for one person's decisions are no independent witnesses. Differences are paired by person; two arms
are other people, and their difference is that of ratios (`evaluation/experiments/means.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from evaluation.experiments.means import difference_of_ratios
from evaluation.intervals import Interval, normal_mean
from evaluation.off_policy import MAX_SHARE, MIN_EFFECTIVE, Weights
from evaluation.policies import PolicyComparison, PolicyGain, PolicyRow

NOBODY = "nobody"
LEVEL = 0.95
HOLDOUT, RANDOM, NOTHING = "holdout", "random", "none"
"""What a log calls the arm that is left alone, that where chance decides evenly, and the choice that is none."""


def compare_choices(decisions: pd.DataFrame, *, first: str, by_chance: Collection[str] = (RANDOM,)) -> PolicyComparison:
    """What an arm chose beside every other arm, every single choice for all, and nobody.

    Nobody is the arm `holdout` where it was chosen nothing for; where it got something, as variants are shown to
    everybody, it is an arm like others.

    Args:
        decisions: `user_id, arm, chosen, probability` (given the arm) and `reward`, a row per decision.
        first: The arm that the others are held against.
        by_chance: Arms in which every choice had a chance with everybody; no choice is judged without one.

    Example:
        >>> rows = pd.DataFrame({"user_id": range(400), "arm": ["random", "holdout"] * 200,
        ...     "chosen": ["a", "none", "b", "none"] * 100, "probability": [0.5, 1] * 200,
        ...     "reward": [2.0, 1, 1, 1] * 100})
        >>> found = compare_choices(rows, first="random")
        >>> [(row.name, row.value.estimate) for row in found.rows]
        [('random', 1.5), ('nobody', 1.0), ('a to all', 2.0), ('b to all', 1.0)]
    """
    arm, chosen = decisions["arm"].to_numpy(object), decisions["chosen"].to_numpy(object)
    reward, chance = decisions["reward"].to_numpy(np.float64), decisions["probability"].to_numpy(np.float64)
    person = pd.factorize(decisions["user_id"])[0]
    held = arm == HOLDOUT
    treated = ~held if (chosen[held] == NOTHING).all() else np.ones(len(arm), dtype=bool)
    choices = sorted(set(chosen[treated]) - {NOTHING})
    arms = [first, *(name for name in sorted(set(arm[treated])) if name != first)]
    weight = {name: (arm == name).astype(np.float64) for name in arms}
    shares = {name: pd.Series(chosen[arm == name]).value_counts(normalize=True).to_dict() for name in arms}
    if not treated.all():
        weight[NOBODY], shares[NOBODY] = (~treated).astype(np.float64), {NOTHING: 1.0}
    drawn = {name: _by_person(made, reward, person) for name, made in weight.items()}
    dealt = np.isin(arm, list(by_chance))
    for choice in sorted(set(chosen[dealt]) - {NOTHING}):
        weight[f"{choice} to all"] = np.where(dealt & (chosen == choice), 1 / chance, 0.0)
        shares[f"{choice} to all"] = {choice: 1.0}
    all_choices = (*choices, NOTHING)
    judged = {name: _judge(w, reward, person) for name, w in weight.items()}
    rows = tuple(
        PolicyRow(name, {c: shares[name].get(c, 0.0) for c in all_choices}, value, value, weights)
        for name, (value, _, weights) in judged.items()
    )
    _, *others = judged
    gains = tuple(
        PolicyGain(first, other, gain, of_all, gain, None, _apart(shares[first], shares[other], all_choices))
        for other in others
        for gain, of_all in [_differences(judged[first], judged[other], drawn[first], drawn.get(other), len(others))]
    )
    size = np.abs(reward)
    counts = {choice: int((chosen == choice).sum()) for choice in all_choices}
    largest = float(size.max() / size.sum()) if size.any() else np.nan
    return PolicyComparison(rows, gains, all_choices, len(decisions), counts, largest)


_Judged = tuple[Interval, np.ndarray, Weights]
"""The value, what each person contributes to its error, and how far the log can speak."""


def _judge(w: np.ndarray, reward: np.ndarray, person: np.ndarray) -> _Judged:
    value = float(w @ reward / w.sum())
    by_person = np.bincount(person, w * (reward - value) / w.mean()) * (person.max() + 1) / len(w)
    weights = _weights(np.bincount(person, w), len(w))
    found = _around(value, by_person, LEVEL)
    return (Interval.around(np.nan) if weights.refused else found), by_person, weights


def _weights(w: np.ndarray, n: int) -> Weights:
    effective, share = float(w.sum() ** 2 / (w @ w)), float(w.max() / w.sum())
    refused = ""
    if effective < MIN_EFFECTIVE:
        refused = f"too few people got it: worth {effective:.0f}, at least {MIN_EFFECTIVE:.0f} are needed"
    elif share > MAX_SHARE:
        refused = f"one person carries {share:.0%} of all weight"
    return Weights(n, effective, float(w.max()), share, float(w.sum() / n), np.nan, refused)


def _by_person(made: np.ndarray, reward: np.ndarray, person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the decisions of an arm, `made` being 1, brought and how many there are, of each person who is in it."""
    decisions = np.bincount(person, made, person.max() + 1)
    return np.bincount(person, made * reward, len(decisions))[decisions > 0], decisions[decisions > 0]


def _differences(
    one: _Judged,
    other: _Judged,
    drawn: tuple[np.ndarray, np.ndarray],
    other_drawn: tuple[np.ndarray, np.ndarray] | None,
    n: int,
) -> tuple[Interval, Interval]:
    """What one policy is worth more than another, of itself and as one of n; of two arms one may have few orders."""
    estimate, levels = one[0].estimate - other[0].estimate, (LEVEL, 1 - (1 - LEVEL) / n)
    if other_drawn is None or np.isnan(estimate):
        alone, of_all = (_around(estimate, one[1] - other[1], level) for level in levels)
    else:
        found = difference_of_ratios(*drawn, *other_drawn)
        alone, of_all = (found.at(level) for level in levels)
    return alone, of_all


def _around(value: float, by_person: np.ndarray, level: float) -> Interval:
    error = normal_mean(by_person, level=level)
    return Interval.around(value, (error.high - error.low) / 2, level=level)


def _apart(one: dict[str, float], other: dict[str, float], choices: Sequence[str]) -> float:
    """What share of decisions would be otherwise; NaN where shares alone do not tell it."""
    if max(*one.values(), *other.values()) < 1:
        return np.nan
    return sum(abs(one.get(choice, 0.0) - other.get(choice, 0.0)) for choice in choices) / 2
