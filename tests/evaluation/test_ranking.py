"""Ranking measures equal a second implementation in plain Python, and answers known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from data.errors import DataError
from evaluation.ranking import METRICS, compare, evaluate


def plainly(ranked, held_out, train):
    """Every measure, user by user, straight from the definitions."""
    n_users, n_items = held_out.shape
    owners = [sum(train[u][i] > 0 for u in range(n_users)) for i in range(n_items)]
    found = {metric: [] for metric in METRICS}
    for user in range(n_users):
        taken = {i for i in range(n_items) if held_out[user][i] > 0}
        shown = [int(i) for i in ranked[user] if i >= 0]
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
        bits = [-math.log2((owners[item] + 1) / (n_users + 1)) for item in shown]
        found["novelty"].append(sum(bits) / len(bits) if bits else math.nan)
        cold = {item for item in taken if owners[item] == 0}
        found["recall_of_cold_items"].append(len(cold & set(shown)) / len(cold) if cold else math.nan)
    coverage = len({int(i) for row in ranked for i in row if i >= 0}) / n_items
    return found, coverage


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 9), st.integers(1, 12))
def test_equal_to_plain_python(seed, n_users, n_items, k):
    rng = np.random.default_rng(seed)
    held_out = rng.integers(0, 3, (n_users, n_items)) * (rng.random((n_users, n_items)) < 0.4)
    train = rng.integers(0, 2, (n_users, n_items)) * (rng.random((n_users, n_items)) < 0.5)
    ranked = np.full((n_users, k), -1)
    for user in range(n_users):
        shown = rng.permutation(n_items)[: rng.integers(0, min(k, n_items) + 1)]
        ranked[user, : len(shown)] = shown
    measured = evaluate(ranked, sparse.csr_matrix(held_out), sparse.csr_matrix(train))
    expected, coverage = plainly(ranked, held_out, train)
    for metric in METRICS:
        assert_allclose(measured.values(metric), expected[metric], rtol=0, atol=1e-9)
    assert measured.coverage == pytest.approx(coverage, abs=1e-9)
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


def test_two_models_are_compared_on_the_same_users():
    rng = np.random.default_rng(0)
    held_out = sparse.csr_matrix(rng.random((300, 40)) < 0.1)
    train = sparse.csr_matrix((300, 40))
    random = np.argsort(rng.random((300, 40)), axis=1)[:, :5]
    oracle = np.argsort(-held_out.toarray().astype(float), axis=1)[:, :5]
    gain = compare(evaluate(oracle, held_out, train), evaluate(random, held_out, train), "ndcg")
    assert gain.low > 0.5


def test_what_cannot_be_measured_is_refused():
    held_out = sparse.csr_matrix((2, 3))
    with pytest.raises(DataError, match="same users"):
        evaluate(np.zeros((1, 2), int), held_out, held_out)
    with pytest.raises(DataError, match="twice"):
        evaluate(np.array([[1, 1], [0, 1]]), held_out, held_out)
    with pytest.raises(DataError, match="beyond 2"):
        evaluate(np.array([[1, 3], [0, 1]]), held_out, held_out)
    found = evaluate(np.array([[1], [0]]), held_out, held_out)
    with pytest.raises(DataError, match="coverage"):
        found.values("coverage")
    assert np.isnan(found.interval("recall").estimate)
