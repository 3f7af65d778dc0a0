"""Ranking measures equal a second implementation in plain Python, and answers known by hand."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from data.errors import DataError
from evaluation.ranking import METRICS, compare, evaluate, pooled


def plainly(ranked, held_out, train, categories):
    """Every measure, user by user, straight from the definitions."""
    n_users, n_items = held_out.shape
    owners = [sum(train[u][i] > 0 for u in range(n_users)) for i in range(n_items)]
    found = {metric: [] for metric in METRICS}
    for user in range(n_users):
        taken = {i for i in range(n_items) if held_out[user][i] > 0}
        shown = [int(i) for i in ranked[user] if i >= 0]
        own = [i for i in range(n_items) if train[user][i] > 0]
        places = [rank for rank, item in enumerate(ranked[user], start=1) if item >= 0 and item in taken]
        best = min(len(ranked[user]), len(taken))
        if taken:
            found["recall"].append(len(places) / len(taken))
            found["hit_rate"].append(float(bool(places)))
            gain = sum(1 / math.log2(rank + 1) for rank in places)
            found["ndcg"].append(gain / sum(1 / math.log2(rank + 1) for rank in range(1, best + 1)))
            found["map"].append(sum((n + 1) / rank for n, rank in enumerate(places)) / best)
            found["mrr"].append(1 / places[0] if places else 0.0)
        else:
            for metric in ("recall", "hit_rate", "ndcg", "map", "mrr"):
                found[metric].append(math.nan)
        cold = {item for item in taken if owners[item] == 0}
        found["recall_of_cold_items"].append(len(cold & set(shown)) / len(cold) if cold else math.nan)
        found["novelty"].append(average([-math.log2((owners[item] + 1) / (n_users + 1)) for item in shown]))
        found["popularity"].append(average([owners[item] / n_users for item in shown]))
        lift = (average([owners[i] for i in shown]) + 1) / (average([owners[i] for i in own]) + 1)
        found["popularity_lift"].append(math.nan if math.isnan(lift) else math.log2(lift))
        of = {item: {c for c, member in enumerate(categories[item]) if member > 0} for item in range(n_items)}
        pairs = [(of[i], of[j]) for i, j in combinations(shown, 2) if of[i] and of[j]]
        found["diversity"].append(average([1 - len(a & b) / math.sqrt(len(a) * len(b)) for a, b in pairs]))
        p, q = shares({i: train[user][i] for i in own}, of), shares(dict.fromkeys(shown, 1), of)
        divergence = sum(p[c] * math.log(p[c] / (0.99 * q.get(c, 0) + 0.01 * p[c])) for c in p)
        found["miscalibration"].append(divergence if p and q else math.nan)
    coverage = len({int(i) for row in ranked for i in row if i >= 0}) / n_items
    times = [sum(int(i) == item for row in ranked for i in row) for item in range(n_items)]
    spread = sum(abs(a - b) for a in times for b in times)
    return found, coverage, spread / (2 * n_items * sum(times)) if sum(times) else math.nan


def average(values):
    return sum(values) / len(values) if values else math.nan


def shares(weights, of):
    """Category -> share, each item's weight in equal parts for its categories."""
    found = {}
    for item, weight in weights.items():
        for category in of[item]:
            found[category] = found.get(category, 0) + weight / len(of[item])
    return {category: weight / sum(found.values()) for category, weight in found.items()}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 9), st.integers(1, 12))
def test_equal_to_plain_python(seed, n_users, n_items, k):
    rng = np.random.default_rng(seed)
    held_out = rng.integers(0, 3, (n_users, n_items)) * (rng.random((n_users, n_items)) < 0.4)
    train = rng.integers(0, 4, (n_users, n_items)) * (rng.random((n_users, n_items)) < 0.5)
    categories = rng.integers(0, 2, (n_items, rng.integers(1, 4)))
    ranked = np.full((n_users, k), -1)
    for user in range(n_users):
        shown = rng.permutation(n_items)[: rng.integers(0, min(k, n_items) + 1)]
        ranked[user, : len(shown)] = shown
    matrices = [sparse.csr_matrix(cells) for cells in (held_out, train, categories)]
    measured = evaluate(ranked, *matrices[:2], categories=matrices[2])
    expected, coverage, gini = plainly(ranked, held_out, train, categories)
    for metric in METRICS:
        assert_allclose(measured.values(metric), expected[metric], rtol=0, atol=1e-9, err_msg=metric)
    assert_allclose([measured.coverage, measured.exposure_gini], [coverage, gini], rtol=0, atol=1e-9)
    assert_array_equal(measured.cold_user, train.sum(axis=1) == 0)


def test_a_perfect_ranking_has_one_in_everything():
    held_out = sparse.csr_matrix([[1, 1, 0], [0, 0, 1]])
    found = evaluate(np.array([[0, 1], [2, 0]]), held_out, sparse.csr_matrix((2, 3)))
    for metric in ("recall", "ndcg", "map", "mrr", "hit_rate"):
        assert_array_equal(found.values(metric), [1, 1])


def test_recall_divides_by_all_held_out_items_even_beyond_k():
    found = evaluate(np.array([[0]]), sparse.csr_matrix([[1, 1, 1, 1]]), sparse.csr_matrix((1, 4)))
    assert found.recall[0] == 0.25
    assert found.ndcg[0] == found.map[0] == 1


def test_cold_and_warm_users_are_told_apart():
    held_out, train = sparse.csr_matrix([[1, 0], [1, 0]]), sparse.csr_matrix([[0, 1], [0, 0]])
    found = evaluate(np.array([[0], [1]]), held_out, train)
    assert found.interval("recall", "warm").estimate == 1
    assert found.interval("recall", "cold").estimate == 0
    assert found.interval("recall").estimate == 0.5


def test_what_everybody_had_tells_what_is_popular_and_what_is_cold():
    held_out, train = sparse.csr_matrix([[0, 1]]), sparse.csr_matrix([[1, 0]])
    alone = evaluate(np.array([[1]]), held_out, train)
    among = evaluate(np.array([[1]]), held_out, train, everybody=sparse.csr_matrix([[1, 0], [0, 1], [0, 1], [0, 0]]))
    assert alone.recall_of_cold_items[0] == 1
    assert np.isnan(among.recall_of_cold_items[0])
    assert (alone.popularity[0], among.popularity[0]) == (0, 0.5)
    assert among.popularity_lift[0] == pytest.approx(math.log2(3 / 2))


def test_the_shares_of_a_calibrated_list_are_those_of_the_history():
    # Steck's example: 70 romance and 30 action films were played; a list of romance alone leaves action out.
    categories = sparse.csr_matrix(np.eye(2)[np.repeat([0, 1], 10)])
    train = sparse.csr_matrix(np.repeat([[0.7, 0.3]], 10, axis=1) / 10)
    calibrated, narrow = np.array([[*range(7), 10, 11, 12]]), np.arange(10)[None]
    found, lost = (evaluate(ranked, train, train, categories=categories) for ranked in (calibrated, narrow))
    assert found.miscalibration[0] == pytest.approx(0, abs=1e-12)
    assert lost.miscalibration[0] == pytest.approx(0.7 * math.log(0.7 / 0.997) + 0.3 * math.log(100))
    assert lost.diversity[0] == 0
    assert found.diversity[0] == pytest.approx(2 * 0.7 * 0.3 * 10 / 9)


def test_one_item_for_everybody_is_the_most_unequal_exposure():
    nothing = sparse.csr_matrix((4, 4))
    assert evaluate(np.zeros((4, 1), int), nothing, nothing).exposure_gini == 0.75
    assert evaluate(np.arange(4)[:, None], nothing, nothing).exposure_gini == 0


def test_two_models_are_compared_on_the_same_users():
    rng = np.random.default_rng(0)
    held_out = sparse.csr_matrix(rng.random((300, 40)) < 0.1)
    train = sparse.csr_matrix((300, 40))
    random = np.argsort(rng.random((300, 40)), axis=1)[:, :5]
    oracle = np.argsort(-held_out.toarray().astype(float), axis=1)[:, :5]
    gain = compare(evaluate(oracle, held_out, train), evaluate(random, held_out, train), "ndcg")
    assert gain.low > 0.5


def test_rows_of_one_user_at_several_moments_are_no_more_evidence_than_one_row():
    rng = np.random.default_rng(0)
    held_out, train = sparse.csr_matrix(rng.random((60, 40)) < 0.1), sparse.csr_matrix((60, 40))
    one, other = (evaluate(np.argsort(rng.random((60, 40)), axis=1)[:, :5], held_out, train) for _ in range(2))
    of_same, of_others = [np.arange(60)] * 2, [np.arange(60), np.arange(60, 120)]
    same, others = (
        compare(pooled([one] * 2, users), pooled([other] * 2, users), "recall") for users in (of_same, of_others)
    )
    once = compare(one, other, "recall")
    assert_allclose([same.low, same.high], [once.low, once.high])
    assert others.high - others.low == pytest.approx((same.high - same.low) / math.sqrt(2), rel=0.1)
    with pytest.raises(DataError, match="row by row"):
        compare(pooled([one] * 2, of_same), pooled([other] * 2, of_others), "recall")
    with pytest.raises(DataError, match="pooled"):
        pooled([one], [np.arange(3)])


def test_what_cannot_be_measured_is_refused():
    held_out = sparse.csr_matrix((2, 3))
    with pytest.raises(DataError, match="same users"):
        evaluate(np.zeros((1, 2), int), held_out, held_out)
    with pytest.raises(DataError, match="twice"):
        evaluate(np.array([[1, 1], [0, 1]]), held_out, held_out)
    with pytest.raises(DataError, match="beyond 2"):
        evaluate(np.array([[1, 3], [0, 1]]), held_out, held_out)
    with pytest.raises(DataError, match="the 3 items"):
        evaluate(np.array([[1], [0]]), held_out, held_out, categories=sparse.csr_matrix((2, 1)))
    found = evaluate(np.array([[1], [0]]), held_out, held_out)
    with pytest.raises(DataError, match="coverage"):
        found.values("coverage")
    assert np.isnan(found.interval("recall").estimate)
