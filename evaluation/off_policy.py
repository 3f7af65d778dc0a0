"""What a policy would have earned, from decisions that another policy made and logged with their probabilities.

n decisions over K actions: action a_i was taken with probability p_i and earned r_i. A policy pi(k | x_i) is judged by
w_i = pi(a_i | x_i) / p_i and by q(x_i, k), the reward that a model fitted on other rows expects:

- `direct_method`: mean of sum_k pi_k q_k; as right as the model;
- `inverse_probability` (IPW): mean of w r (Horvitz, Thompson 1952);
- `self_normalised`: sum of w r / sum of w (Hajek 1971; Swaminathan, Joachims 2015);
- `doubly_robust`: mean of sum_k pi_k q_k + w (r - q_a) (Dudik, Langford, Li 2011, eq. 4);
- `doubly_robust_shrunk`: the same with lambda w / (w^2 + lambda) for w (Su et al. 2020, section 3.2, "optimistic").

Each keeps what every decision contributed; the estimate is their mean, its interval that of a mean, and the difference
of two policies on the same decisions is paired. Where the log cannot say, the value is NaN and `refused` says why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.errors import DataError
from evaluation.intervals import Interval, normal_mean

MIN_EFFECTIVE = 30.0
"""Decisions' worth of evidence below which nothing is said."""
MAX_SHARE = 0.2
"""Of all weight that one decision may carry."""
MAX_UNSUPPORTED = 0.01
"""Of the policy's choices that the log may be unable to judge."""
FAR_OFF, FAR_OFF_ERRORS = 0.1, 5.0
"""The mean weight must be one: off by more than both, in itself and in standard errors, the probabilities are wrong."""
SHRINKAGES = np.concatenate([np.geomspace(1e-2, 1e6, 33), [np.inf]])
"""Lambdas that are tried; the last does not shrink."""


@dataclass(frozen=True, eq=False)
class Logged:
    """Decisions that were made, with the chance that each had.

    Attributes:
        action: Which was taken, codes 0 to K - 1, int (n,).
        reward: What it earned, (n,).
        probability: Of the taken action, given all that the logging policy looked at, (n,).

    Raises:
        DataError: nothing, not one of each, or a probability or reward that is missing or impossible.
    """

    action: np.ndarray
    reward: np.ndarray
    probability: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.action)
        if not n or self.reward.shape != (n,) or self.probability.shape != (n,):
            raise DataError(
                f"{n} actions, {len(self.reward)} rewards, {len(self.probability)} probabilities; give one each."
            )
        bad = ~(np.isfinite(self.probability) & (self.probability > 0) & (self.probability <= 1))
        if bad.any():
            raise DataError(
                f"probability: {bad.sum()} of {n} are missing or outside (0, 1] (first: row {bad.argmax()}). "
                "Log the probability of each choice when it is made, or estimate it."
            )
        if not np.isfinite(self.reward).all():
            raise DataError(
                f"reward: {(~np.isfinite(self.reward)).sum()} of {n} are missing. Put 0 where nothing came."
            )
        if self.action.min() < 0:
            raise DataError("action: a code is negative. Give codes from 0 on.")

    def __len__(self) -> int:
        return len(self.action)


@dataclass(frozen=True, slots=True)
class Weights:
    """How far a log can speak about a policy.

    Attributes:
        n: Decisions.
        effective: (sum w)^2 / sum w^2 (Kish 1965): as many decisions made by the policy itself would say as much.
        largest: The largest weight.
        largest_share: Its share of all weight.
        mean: Of the weights; one, but for chance, where the probabilities are right and the log covers the policy.
        unsupported: Share of the policy's choices that were impossible or never seen in the log; NaN = not known.
        refused: Why the log cannot judge the policy; "" where it can.
    """

    n: int
    effective: float
    largest: float
    largest_share: float
    mean: float
    unsupported: float
    refused: str


@dataclass(frozen=True, eq=False)
class PolicyValue:
    """What a policy earns per decision.

    Attributes:
        method: `doubly robust`, ...
        value: With its interval; NaN where it was refused.
        contributions: Of each decision, (n,); their mean is the estimate, refused or not.
        weights: How far the log can speak about it.
    """

    method: str
    value: Interval
    contributions: np.ndarray
    weights: Weights


def deterministic(choice: np.ndarray, n_actions: int) -> np.ndarray:
    """A policy that takes one action per row, as probabilities (n, K).

    Example:
        >>> deterministic(np.array([1, 0]), 2).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    if len(choice) and not (choice.min() >= 0 and choice.max() < n_actions):
        raise DataError(f"a choice is {choice.max()}; give codes from 0 to {n_actions - 1}.")
    return np.eye(n_actions)[choice]


def overlap(logged: Logged, policy: np.ndarray, *, probabilities: np.ndarray | None = None) -> Weights:
    """Whether the log can judge the policy at all.

    It cannot where its evidence is worth under 30 decisions, one decision carries a fifth of all weight, over 1 % of
    the policy's choices could not have been logged, or the mean weight is far from one.

    Args:
        logged: The decisions.
        policy: (n, K), rows summing to one.
        probabilities: Of every action under the logging policy, (n, K), where known; else an action that was never
            taken counts as one that could not be.

    Example:
        >>> log = Logged(np.tile([0, 1], 100), np.ones(200), np.full(200, 0.5))
        >>> overlap(log, deterministic(np.zeros(200, dtype=int), 2)).effective
        100.0
    """
    n, K = _checked(logged, policy).shape
    w = _weights(logged, policy)
    covered = np.isin(np.arange(K), logged.action)[None, :] if probabilities is None else probabilities > 0
    unsupported = float((policy * ~covered).sum(axis=1).mean())
    total, mean = float(w.sum()), float(w.mean())
    effective = total**2 / float((w**2).sum()) if total else 0.0
    largest_share = float(w.max()) / total if total else 0.0
    off = abs(mean - 1)
    refused = ""
    if unsupported > MAX_UNSUPPORTED:
        refused = f"{unsupported:.1%} of its choices could not have been logged; log some, or leave those actions out"
    elif largest_share > MAX_SHARE:
        refused = f"one decision carries {largest_share:.0%} of the weight; log with larger probabilities"
    elif effective < MIN_EFFECTIVE:
        refused = f"the log is worth {effective:.0f} of its decisions, under {MIN_EFFECTIVE:.0f}; log more at random"
    elif off > FAR_OFF and off > FAR_OFF_ERRORS * float(w.std()) / np.sqrt(n):
        refused = f"its weights average {mean:.2f}, not 1: the logged probabilities are not those of the choices"
    return Weights(n, effective, float(w.max()), largest_share, mean, unsupported, refused)


def direct_method(logged: Logged, policy: np.ndarray, predicted: np.ndarray, *, level: float = 0.95) -> PolicyValue:
    """The mean reward that a model expects of the policy; its interval knows nothing of the model's bias.

    Args:
        logged: The decisions.
        policy: (n, K).
        predicted: Reward of each action, by a model that did not see the row, (n, K).
        level: Coverage.
    """
    _checked(logged, policy, predicted)
    return _value("direct method", logged, policy, (policy * predicted).sum(axis=1), level)


def inverse_probability(logged: Logged, policy: np.ndarray, *, level: float = 0.95) -> PolicyValue:
    """The mean of w r: unbiased, and wide.

    Example:
        >>> log = Logged(np.tile([0, 1], 50), np.tile([0.0, 1.0], 50), np.full(100, 0.5))
        >>> inverse_probability(log, deterministic(np.ones(100, dtype=int), 2)).value.estimate
        1.0
    """
    _checked(logged, policy)
    return _value("inverse probability", logged, policy, _weights(logged, policy) * logged.reward, level)


def self_normalised(logged: Logged, policy: np.ndarray, *, level: float = 0.95) -> PolicyValue:
    """The weighted mean of the rewards: between the least and the greatest, whatever the weights.

    Contributions are v + w (r - v) / mean w, linear in the decisions (the delta method on a ratio).
    """
    _checked(logged, policy)
    w = _weights(logged, policy)
    mean = float(w.mean())
    v = float(w @ logged.reward) / float(w.sum()) if mean else np.nan
    return _value("self-normalised", logged, policy, v + w * (logged.reward - v) / (mean or np.nan), level)


def doubly_robust(logged: Logged, policy: np.ndarray, predicted: np.ndarray, *, level: float = 0.95) -> PolicyValue:
    """The model's expectation, and its errors on what was done, weighted: right if the model or p is.

    Args:
        logged: The decisions.
        policy: (n, K).
        predicted: Reward of each action, by a model that did not see the row, (n, K).
        level: Coverage.

    Example:
        >>> log = Logged(np.tile([0, 1], 50), np.tile([0.0, 1.0], 50), np.full(100, 0.5))
        >>> always = deterministic(np.ones(100, dtype=int), 2)
        >>> doubly_robust(log, always, np.full((100, 2), 0.9)).value.estimate
        1.0
    """
    _checked(logged, policy, predicted)
    contributions = _corrected(logged, policy, predicted, _weights(logged, policy))
    return _value("doubly robust", logged, policy, contributions, level)


def doubly_robust_shrunk(
    logged: Logged, policy: np.ndarray, predicted: np.ndarray, *, level: float = 0.95
) -> PolicyValue:
    """`doubly_robust` with large weights shrunk, as far as the estimated mean squared error falls.

    That error is (mean of (w_lambda - w) (r - q_a))^2 plus the variance of the mean; lambda is the best of
    `SHRINKAGES`. Its interval takes lambda as given and knows the variance alone.
    """
    _checked(logged, policy, predicted)
    w, residual = _weights(logged, policy), logged.reward - _taken(logged, predicted)
    best, least = w, np.inf
    for shrinkage in SHRINKAGES:
        shrunk = w if np.isinf(shrinkage) else shrinkage * w / (w**2 + shrinkage)
        variance = _corrected(logged, policy, predicted, shrunk).var() / len(logged)
        error = float(((shrunk - w) * residual).mean() ** 2 + variance)
        if error < least:
            best, least = shrunk, error
    return _value("doubly robust, shrunk", logged, policy, _corrected(logged, policy, predicted, best), level)


def difference(first: PolicyValue, second: PolicyValue, *, level: float | None = None) -> Interval:
    """What `first` earns more than `second`, paired by decision, at its level or another; NaN where either was refused.

    Raises:
        DataError: they are not of the same decisions.

    Example:
        >>> log = Logged(np.tile([0, 1], 50), np.tile([0.0, 1.0], 50), np.full(100, 0.5))
        >>> one, other = (self_normalised(log, deterministic(np.full(100, k), 2)) for k in (1, 0))
        >>> difference(one, other).estimate
        1.0
    """
    if len(first.contributions) != len(second.contributions):
        raise DataError(f"{len(first.contributions)} and {len(second.contributions)} decisions are not the same ones.")
    level = first.value.level if level is None else level
    if first.weights.refused or second.weights.refused:
        return Interval.around(np.nan, level=level)
    return normal_mean(first.contributions - second.contributions, level=level)


def action_values(logged: Logged, probabilities: np.ndarray, predicted: np.ndarray | None = None) -> np.ndarray:
    """What every action would have earned from each row, without bias though not without noise, (n, K).

    Gamma_k = q_k + 1{a = k} (r - q_k) / p_k (Robins, Rotnitzky, Zhao 1994): the mean over any people is the doubly
    robust estimate for them, and Gamma_1 - Gamma_0 that of an effect.

    Args:
        logged: The decisions.
        probabilities: Of every action, (n, K).
        predicted: q, by a model that did not see the row, (n, K); by default each action's own mean.

    Raises:
        DataError: an action was never taken, or its probability is 0 where it is to be judged.

    Example:
        >>> log = Logged(np.array([0, 1, 0, 1]), np.array([0.0, 3.0, 2.0, 5.0]), np.full(4, 0.5))
        >>> action_values(log, np.full((4, 2), 0.5)).mean(axis=0).tolist()
        [1.0, 4.0]
    """
    n, K = _checked(logged, probabilities, predicted).shape
    counts = np.bincount(logged.action, minlength=K)
    if (counts == 0).any():
        raise DataError(f"action {int(counts.argmin())} was never taken: nothing tells what it earns. Leave it out.")
    if not (probabilities > 0).all():
        raise DataError("probabilities: some are 0: for those people that action cannot be judged. Leave them out.")
    if predicted is None:
        predicted = np.broadcast_to(np.bincount(logged.action, logged.reward, K) / counts, (n, K))
    values = predicted.astype(np.float64)
    rows = np.arange(n)
    values[rows, logged.action] += (logged.reward - _taken(logged, predicted)) / probabilities[rows, logged.action]
    return values


def _value(method: str, logged: Logged, policy: np.ndarray, contributions: np.ndarray, level: float) -> PolicyValue:
    weights = overlap(logged, policy)
    value = Interval.around(np.nan, level=level) if weights.refused else normal_mean(contributions, level=level)
    return PolicyValue(method, value, contributions, weights)


def _corrected(logged: Logged, policy: np.ndarray, predicted: np.ndarray, w: np.ndarray) -> np.ndarray:
    found: np.ndarray = (policy * predicted).sum(axis=1) + w * (logged.reward - _taken(logged, predicted))
    return found


def _weights(logged: Logged, policy: np.ndarray) -> np.ndarray:
    return _taken(logged, policy) / logged.probability


def _taken(logged: Logged, table: np.ndarray) -> np.ndarray:
    """The column of each row's own action, (n,)."""
    found: np.ndarray = table[np.arange(len(logged)), logged.action]
    return found


def _checked(logged: Logged, policy: np.ndarray, predicted: np.ndarray | None = None) -> np.ndarray:
    if policy.ndim != 2 or len(policy) != len(logged) or logged.action.max() >= policy.shape[1]:
        raise DataError(f"policy has shape {policy.shape}; give ({len(logged)}, {logged.action.max() + 1} or more).")
    if not ((policy >= 0).all() and np.allclose(policy.sum(axis=1), 1, atol=1e-6)):
        raise DataError("policy: its probabilities must be at least 0 and sum to 1 in each row.")
    if predicted is not None and (predicted.shape != policy.shape or not np.isfinite(predicted).all()):
        raise DataError(f"predicted has shape {predicted.shape}, or gaps; give a number for each of {policy.shape}.")
    return policy
