"""From an experiment to judged policies: whatever judges a person comes from models that did not see them.

`cross_fit` learns in folds; what it returns is judged by `evaluation.uplift` and `evaluation.policies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data.errors import DataError
from data.progress import track
from evaluation.classification import roc_auc
from evaluation.off_policy import Logged, action_values, deterministic
from evaluation.policies import PolicyComparison, compare_policies, profit
from features.rules import Rule
from models.uplift import UpliftModel, best_arms, estimated_probabilities, fit_policy_tree
from models.uplift.model import ArmEffect

FOLDS = 5
LEAK = 0.9
"""ROC AUC of the outcome for the arm, above which one was made from the other."""
MAX_HELD = 0.05
"""Share of the people that may have had next to no chance of an arm."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """Who got what, and what came of it; made by `experiment`.

    Attributes:
        table: What was known of each person before, n rows.
        arm: Codes, 0 = control, (n,).
        outcome: A yes or a no, or money; the profit where there are costs, (n,).
        arms: Names, by code.
        probabilities: Of every arm, (n, K).
        known: Whether those are the experiment's own; else they were estimated from the table.
    """

    table: pd.DataFrame
    arm: np.ndarray
    outcome: np.ndarray
    arms: tuple[str, ...]
    probabilities: np.ndarray
    known: bool

    @property
    def logged(self) -> Logged:
        """As decisions with their probabilities."""
        return Logged(self.arm, self.outcome, self.probabilities[np.arange(len(self.arm)), self.arm])


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """What models say of people whom they did not see.

    Attributes:
        experiment: Whose.
        effects: Extra outcome of each arm over the control, (n, K); the control's column is 0.
        expected: Outcome under each arm by a response model, (n, K).
        tree: Arms by a small tree that learnt from the others, codes (n,).
        fold: Which of the folds each person is in, (n,).
        found: Of each fold's model, what it found of each arm but the control.
        weights: Of each fold's model, learner -> weight.
    """

    experiment: Experiment
    effects: np.ndarray
    expected: np.ndarray
    tree: np.ndarray
    fold: np.ndarray
    found: tuple[tuple[ArmEffect, ...], ...]
    weights: tuple[dict[str, float], ...]

    @property
    def values(self) -> np.ndarray:
        """Doubly robust outcome of each arm, (n, K)."""
        return action_values(self.experiment.logged, self.experiment.probabilities, self.expected)


def experiment(
    table: pd.DataFrame,
    arm: pd.Series | np.ndarray,
    outcome: np.ndarray,
    *,
    control: str,
    margin: float = 1.0,
    costs: Mapping[str, float] | None = None,
    probabilities: np.ndarray | None = None,
    assigned_at_random: bool = True,
    seed: int = 0,
) -> Experiment:
    """Check an experiment and give its arms codes, the control first.

    Args:
        table: What was known of each person before, whatever columns.
        arm: Names, (n,).
        outcome: A yes or a no as 1 or 0, or money, (n,).
        control: Which arm is left alone.
        margin: Share of a sale that is earned, or what one conversion is worth.
        costs: Arm -> what it costs per person, the contact and the offer together; with them the outcome that is
            learnt and judged is the profit, `evaluation.policies.profit`.
        probabilities: Of every arm in the order control, then the others by name, (n, K) or (K,), where known.
        assigned_at_random: By one draw for all: unknown probabilities are then the arms' shares; else estimated.
        seed: Of the estimate.

    Raises:
        DataError: no control or nobody treated, an outcome that tells the arm, or people who had no chance of an arm.

    Example:
        >>> table = pd.DataFrame({"age": np.arange(200.0)})
        >>> arm = np.tile(["none", "mail"], 100)
        >>> experiment(table, arm, np.arange(200) % 3 / 2, control="none").arms
        ('none', 'mail')
    """
    named = pd.Series(np.asarray(arm, dtype=object)).astype(str)
    others = sorted(set(named) - {control})
    if not (named == control).any() or not others:
        there = ", ".join(sorted(set(named)))
        raise DataError(f"arms are {there}; nobody is {'in ' + control if others else 'treated'}. Name the control.")
    arms = (control, *others)
    codes = pd.Index(arms).get_indexer(named)
    y = np.asarray(outcome, dtype=np.float64)
    if y.shape != (len(codes),) or not np.isfinite(y).all():
        raise DataError(f"outcome: give a number for each of {len(codes)} people; 0 where nothing came.")
    for code, name in enumerate(others, start=1):
        pair = np.isin(codes, (0, code))
        auc = roc_auc(codes[pair] == code, y[pair])
        if max(auc, 1 - auc) > LEAK:
            raise DataError(
                f"{name}: the outcome tells who was in it (ROC AUC {auc:.2f}): was the arm noted afterwards?"
            )
    shape = (len(codes), len(arms))
    if costs is not None or margin != 1:
        y = profit(y, codes, margin=margin, costs=[(costs or {}).get(name, 0.0) for name in arms])
    if probabilities is not None:
        p = np.broadcast_to(np.asarray(probabilities, dtype=np.float64), shape)
        return Experiment(table, codes, y, arms, p, known=True)
    if assigned_at_random:
        shares = np.bincount(codes, minlength=len(arms)) / len(codes)
        return Experiment(table, codes, y, arms, np.tile(shares, (len(codes), 1)), known=True)
    estimate = estimated_probabilities(table, codes, n_arms=len(arms), seed=seed)
    if estimate.held > MAX_HELD:
        raise DataError(
            f"{estimate.held:.0%} of the people had next to no chance of one of the arms: they cannot be compared. "
            "Leave them out, or assign at random."
        )
    return Experiment(table, codes, y, arms, estimate.probabilities, known=False)


def cross_fit(of: Experiment, *, folds: int = FOLDS, seed: int = 0) -> CrossFitted:
    """Learn on all folds but one, speak of the one; learners, penalties and shrinkage are chosen within those.

    Raises:
        DataError: an arm is too small, or the outcome never changes.
    """
    n, K = len(of.arm), len(of.arms)
    fold = np.random.default_rng(seed).permutation(n) % folds
    effects, expected, tree = np.empty((n, K)), np.empty((n, K)), np.empty(n, dtype=np.int64)
    found, weights = [], []
    for held_out in track(range(folds), "learning uplift"):
        learn, ask = fold != held_out, fold == held_out
        seen, asked = of.table[learn], of.table[ask]
        model = UpliftModel().fit(
            seen, of.arm[learn], of.outcome[learn], probabilities=of.probabilities[learn], arms=of.arms, seed=seed
        )
        effects[ask], expected[ask] = model.predict(asked), model.expected(asked)
        log = Logged(of.arm[learn], of.outcome[learn], of.probabilities[learn, of.arm[learn]])
        gamma = action_values(log, of.probabilities[learn], model.expected(seen))
        tree[ask] = fit_policy_tree(seen, gamma, names=of.arms, seed=seed)(asked)
        found.append(model.effects)
        weights.append(model.weights)
    return CrossFitted(of, effects, expected, tree, fold, tuple(found), tuple(weights))


def policies(of: CrossFitted, *, rule: Rule | None = None, max_contacts: int | None = None) -> dict[str, np.ndarray]:
    """The model's policy first, then what it must beat: a tree, the response model, a rule, each arm for all, nobody.

    The response model contacts as many people as the model does, those whose outcome with their best arm is the
    highest, whatever it would be without. Where costs are in the outcome, nothing may be the best arm.

    Args:
        of: The cross-fitted experiment.
        rule: In words, over the table's columns.
        max_contacts: How many may get anything at the most.
    """
    n, K = of.effects.shape
    arms = of.experiment.arms
    model = best_arms(of.effects, max_contacts=max_contacts)
    likeliest = np.argsort(-of.expected[:, 1:].max(axis=1), kind="stable")[: np.count_nonzero(model)]
    response = np.zeros(n, dtype=np.int64)
    response[likeliest] = of.expected[likeliest, 1:].argmax(axis=1) + 1
    told = {"model": model, "tree": of.tree, "response model": response}
    if rule is not None:
        told[rule.text] = rule.codes(of.experiment.table, arms)
    told |= {f"{name} to all" if code else "nobody": np.full(n, code) for code, name in enumerate(arms)}
    return {name: deterministic(codes, K) for name, codes in told.items()}


def compare(of: CrossFitted, *, rule: Rule | None = None, max_contacts: int | None = None) -> PolicyComparison:
    """All policies judged on everybody, the model's against each other one, paired.

    Args:
        of: The cross-fitted experiment.
        rule: In words.
        max_contacts: How many may get anything at the most.
    """
    chosen, at = policies(of, rule=rule, max_contacts=max_contacts), of.experiment
    return compare_policies(at.logged, chosen, of.expected, arms=at.arms, probabilities=at.probabilities)
