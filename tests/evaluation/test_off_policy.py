"""Policies are judged without bias from another policy's log, and not at all where the log cannot say."""

from __future__ import annotations

import numpy as np
import pytest

from data.errors import DataError
from evaluation.off_policy import (
    Logged,
    action_values,
    deterministic,
    difference,
    direct_method,
    doubly_robust,
    doubly_robust_shrunk,
    inverse_probability,
    overlap,
    self_normalised,
)

K = 4


def world(seed: int, n: int = 2_000):
    """A log of a softmax policy, the reward of each action, and another policy."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, K))
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    action = (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(0, K - 1)
    truth = 1 / (1 + np.exp(-x + np.arange(K) / 2))
    reward = (rng.random(n) < truth[np.arange(n), action]).astype(float)
    policy = np.exp(-x / 2) / np.exp(-x / 2).sum(axis=1, keepdims=True)
    return Logged(action, reward, p[np.arange(n), action]), p, policy, truth


@pytest.mark.parametrize("method", ["ipw", "snipw", "dr", "dr with a wrong model"])
def test_the_interval_covers_the_policys_own_value(method):
    covered, errors = 0, []
    for seed in range(100):
        log, _, policy, truth = world(seed)
        model = np.full_like(truth, 0.9) if method == "dr with a wrong model" else truth
        by_weights = {"ipw": inverse_probability, "snipw": self_normalised}.get(method)
        value = (by_weights(log, policy) if by_weights else doubly_robust(log, policy, model)).value
        want = (policy * truth).sum(axis=1).mean()
        covered += value.low <= want <= value.high
        errors.append(value.estimate - want)
    assert covered >= 87
    assert abs(np.mean(errors)) < 3 * np.std(errors) / 10


def test_a_true_model_makes_doubly_robust_narrower_than_weighting_and_the_direct_method_follows_a_false_one():
    log, _, policy, truth = world(0)
    by_weights, robust = inverse_probability(log, policy).value, doubly_robust(log, policy, truth).value
    assert robust.high - robust.low < by_weights.high - by_weights.low
    assert direct_method(log, policy, np.full_like(truth, 0.9)).value.estimate == pytest.approx(0.9)


def test_the_difference_of_two_policies_is_paired():
    log, _, policy, truth = world(1)
    other = 0.95 * policy + 0.05 / K
    one, two = doubly_robust(log, policy, truth), doubly_robust(log, other, truth)
    found = difference(one, two)
    assert found.high - found.low < (one.value.high - one.value.low) / 5
    assert difference(one, one).estimate == 0


def test_shrinking_helps_where_weights_are_wild_and_leaves_tame_ones_alone():
    rng = np.random.default_rng(0)
    n, errors = 500, {"plain": [], "shrunk": []}
    for _ in range(100):
        likely = np.array([0.985, 0.005, 0.005, 0.005])
        action = rng.choice(K, n, p=likely)
        reward = (rng.random(n) < 0.3).astype(float)
        log, policy = Logged(action, reward, likely[action]), np.tile([0.4, 0.2, 0.2, 0.2], (n, 1))
        q = np.full((n, K), 0.25)
        errors["plain"].append(doubly_robust(log, policy, q).contributions.mean() - 0.3)
        errors["shrunk"].append(doubly_robust_shrunk(log, policy, q).contributions.mean() - 0.3)
    assert np.mean(np.square(errors["shrunk"])) < np.mean(np.square(errors["plain"]))
    log, _, policy, truth = world(2)
    plain, shrunk = doubly_robust(log, policy, truth), doubly_robust_shrunk(log, policy, truth)
    assert shrunk.value.estimate == pytest.approx(plain.value.estimate, abs=0.01)


def test_effective_sample_size_is_that_of_kish():
    log = Logged(np.array([0, 0, 1, 1]), np.zeros(4), np.array([0.5, 0.25, 0.5, 0.5]))
    found = overlap(log, deterministic(np.zeros(4, dtype=int), 2))
    assert found.effective == pytest.approx((2 + 4) ** 2 / (4 + 16))
    assert (found.largest, found.largest_share) == (4, pytest.approx(4 / 6))


@pytest.mark.parametrize(
    ("log", "policy", "why"),
    [
        (Logged(np.zeros(900, dtype=int), np.ones(900), np.ones(900)), np.tile([0.5, 0.5], (900, 1)), "not have been"),
        (Logged(np.tile([0, 1], 20), np.ones(40), np.full(40, 0.5)), np.tile([0.0, 1.0], (40, 1)), "log more"),
        (
            Logged(np.tile([0, 1], 500), np.ones(1000), np.full(1000, 0.25)),
            np.tile([0.5, 0.5], (1000, 1)),
            "not 1",
        ),
        (
            Logged(np.tile([0, 1], 500), np.ones(1000), np.append(np.full(999, 0.5), 0.0005)),
            np.tile([0.5, 0.5], (1000, 1)),
            "one decision",
        ),
    ],
)
def test_what_the_log_cannot_judge_is_refused_with_the_reason(log, policy, why):
    found = self_normalised(log, policy)
    assert why in found.weights.refused
    assert np.isnan(found.value.estimate)
    assert np.isnan(difference(found, found).low)


@pytest.mark.parametrize("probability", [np.nan, 0.0, 1.2, -0.1])
def test_a_missing_or_impossible_probability_is_named(probability):
    with pytest.raises(DataError, match=r"1 of 3 are missing or outside .* row 2"):
        Logged(np.zeros(3, dtype=int), np.zeros(3), np.array([0.5, 0.5, probability]))


def test_missing_rewards_and_policies_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="reward"):
        Logged(np.zeros(2, dtype=int), np.array([0.0, np.nan]), np.ones(2))
    log = Logged(np.zeros(2, dtype=int), np.zeros(2), np.ones(2))
    with pytest.raises(DataError, match="sum to 1"):
        inverse_probability(log, np.full((2, 2), 0.4))
    with pytest.raises(DataError, match="shape"):
        inverse_probability(log, np.full((3, 2), 0.5))
    with pytest.raises(DataError, match="never taken"):
        action_values(log, np.full((2, 2), 0.5))


def test_action_values_average_to_the_truth_of_every_action():
    log, p, _, truth = world(3, n=40_000)
    found = action_values(log, p, np.full_like(truth, 0.3)).mean(axis=0)
    assert found == pytest.approx(truth.mean(axis=0), abs=0.03)
