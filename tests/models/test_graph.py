"""The graph filters equal their papers' formulas, worked out densely, and follow the contract."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from recommender_contract import PersonalRecommenderContract
from scipy.integrate import solve_ivp

from data.errors import DataError
from models.recommenders.graph import Graph

PAPER = {"user_power": 0.5, "item_power": 0.5}


class TestOneHop(PersonalRecommenderContract):
    recall_on_movielens = (0.12, 0.3)

    def make(self):
        return Graph()


class TestGFCF(PersonalRecommenderContract):
    recall_on_movielens = (0.12, 0.3)

    def make(self):
        return Graph(filter="gf-cf", factors=32, **PAPER, ideal_weight=0.3, degree_power=0.5)


class TestBSPM(PersonalRecommenderContract):
    recall_on_movielens = (0.12, 0.3)

    def make(self):
        return Graph(filter="bspm", factors=32, **PAPER, ideal_weight=0.2, degree_power=0.5)

    def make_small(self):
        return Graph(filter="bspm", factors=2, ideal_weight=0.2)


class TestChebyCF(PersonalRecommenderContract):
    recall_on_movielens = (0.12, 0.3)

    def make(self):
        return Graph(filter="chebycf", factors=32, **PAPER, ideal_weight=0.2, degree_power=0.4)

    def make_small(self):
        return Graph(filter="chebycf", factors=2, ideal_weight=0.2)


@pytest.fixture
def dense(random_shop):
    """P, V V' of 8 factors and what the items sum to."""
    X = random_shop.matrix.toarray().astype(np.float64)
    R = X / np.sqrt(np.outer(X.sum(axis=1), X.sum(axis=0)))
    V = np.linalg.svd(R)[2][:8].T
    return R.T @ R, V @ V.T, X.sum(axis=0)


def test_gf_cf_is_its_formula(random_shop, dense):
    P, ideal, degree = dense
    model = Graph(filter="gf-cf", factors=8, ideal_weight=0.3, degree_power=0.5, **PAPER).fit(random_shop)
    expected = P + 0.3 * degree[:, None] ** -0.5 * ideal * degree**0.5
    assert_allclose(model._operator.toarray(), expected, atol=1e-6)


def test_bspm_blurs_and_then_sharpens(random_shop, dense):
    P, ideal, degree = dense
    model = Graph(filter="bspm", factors=8, ideal_weight=0.2, degree_power=0.5, **PAPER, sharpening=0.5).fit(
        random_shop
    )
    blurred = P + 0.2 * degree[:, None] ** -0.5 * ideal * degree**0.5
    row = solve_ivp(lambda _, y: -P @ y, (0, 0.5), blurred[3], rtol=1e-9, atol=1e-12).y[:, -1]
    assert_allclose(model._operator.toarray()[3], row, atol=1e-3)


def test_chebycf_has_the_response_of_its_plateau(random_shop, dense):
    P, ideal, degree = dense
    shape = {"factors": 8, "ideal_weight": 0.2, "degree_power": 0.4, **PAPER}
    model = Graph(filter="chebycf", order=40, flatness=3.0, **shape).fit(random_shop)
    eigenvalues, U = np.linalg.eigh(P)
    frequency = 1 - 2 * eigenvalues
    plateau = 0.5 - 0.5 * np.sign(frequency) * np.abs(frequency) ** 3
    expected = degree[:, None] ** -0.4 * ((U * plateau) @ U.T + 0.2 * ideal) * degree**0.4
    assert_allclose(model._operator.toarray(), expected, atol=0.05 * np.abs(expected).max())


def test_one_hop_weighs_users_and_items_by_powers_of_what_they_took(random_shop):
    X = random_shop.matrix.toarray().astype(np.float64)
    users, items = X.sum(axis=1), X.sum(axis=0)
    expected = items[:, None] ** -0.6 * ((X.T / users**0.5) @ X) * items**-0.2
    W = Graph(user_power=0.25, item_power=0.4, degree_power=0.2).fit(random_shop)._operator.toarray()
    assert_allclose(W / W[0, 0], expected / expected[0, 0], rtol=1e-4)


def test_another_seed_gives_the_same_filter(random_shop):
    one, other = (Graph(factors=8, ideal_weight=0.3, seed=seed).fit(random_shop) for seed in (0, 1))
    assert_allclose(one._operator.toarray(), other._operator.toarray(), atol=1e-5)


def test_no_such_filter_is_told_with_those_there_are():
    with pytest.raises(DataError, match="'lowpass'; choose from one-hop, gf-cf"):
        Graph(filter="lowpass")
