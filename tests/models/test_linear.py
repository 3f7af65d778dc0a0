"""The linear model equals its closed form, whichever side is inverted, and refuses what memory cannot hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from recommender_contract import PersonalRecommenderContract
from scipy import sparse

from data.errors import DataError
from data.histories import Histories
from data.interactions import Interactions
from models.recommenders import linear
from models.recommenders.linear import Linear


class TestLinear(PersonalRecommenderContract):
    recall_on_movielens = (0.17, 0.3)

    def make(self):
        return Linear()


def closed_form(X: np.ndarray, regularisation: float, item_power: float, user_power: float) -> np.ndarray:
    """W, computed the plain way."""
    Di, Du = X.sum(axis=0), X.sum(axis=1)
    Z = (Du**-user_power)[:, None] * X * Di**-item_power
    gram = Z.T @ Z
    C = np.linalg.inv(gram + regularisation * np.diag(gram).mean() * np.eye(len(gram)))
    B = -C / np.diag(C)
    np.fill_diagonal(B, 0)
    return (Di**-item_power)[:, None] * B * Di**item_power


@pytest.mark.parametrize("n_users", [40, 300], ids=["fewer users than items", "more users than items"])
@pytest.mark.parametrize("powers", [(0.0, 0.0), (0.5, 0.3)], ids=["EASE", "scaled"])
def test_the_model_equals_its_closed_form(random_shop, n_users, powers):
    some = _of_first_users(random_shop, n_users)
    model = Linear(regularisation=0.5, item_power=powers[0], user_power=powers[1]).fit(some)
    X = some.matrix.toarray().astype(np.float64)
    scores = model._score(Histories.from_interactions(some), None)
    assert_allclose(scores, X @ closed_form(X, 0.5, *powers), atol=1e-4 * np.abs(scores).max())


def test_the_inverse_lies_in_memory_row_by_row(random_shop):
    assert linear._regularised_inverse(random_shop.matrix, 1.0).flags.c_contiguous  # else each product copies all of it


def test_only_the_strongest_are_kept(random_shop):
    dense, kept = Linear().fit(random_shop), Linear(kept_per_item=7).fit(random_shop)
    assert (np.diff(kept.indptr) == 7).all()
    W = np.abs(dense._operator.toarray())
    assert_array_equal(np.sort(np.abs(kept._operator.toarray()), axis=1)[:, -7:], np.sort(W, axis=1)[:, -7:])


def test_without_an_item_the_score_falls_by_what_it_added(random_shop):
    model = Linear().fit(random_shop)
    row = sparse.csr_matrix(([1.0, 2.0, 0.5], ([0, 0, 0], [3, 9, 30])), shape=(1, 60), dtype=np.float32)
    drops = model._drops(Histories.from_matrix(row), np.array([5, 40]))
    for n, code in enumerate((3, 9, 30)):
        without = row.copy()
        without[0, code] = 0
        fell = (model._score(Histories.from_matrix(row), None) - model._score(Histories.from_matrix(without), None))[
            0, [5, 40]
        ]
        assert_allclose(drops[:, n], fell, atol=1e-6)


def test_too_little_memory_is_told_before_it_is_taken(random_shop, monkeypatch):
    monkeypatch.setattr(linear, "_available_bytes", lambda: 1_000.0)
    with pytest.raises(DataError, match=r"60 users or items.*Use graph or item_neighbours"):
        Linear().fit(random_shop)


def test_what_cannot_end_in_time_is_not_begun(random_shop, monkeypatch):
    monkeypatch.setattr(linear, "TIMED", 10)
    with pytest.raises(DataError, match=r"60 users or items.*minutes here, and there are 0\.0"):
        Linear(minutes=0).fit(random_shop)
    assert Linear(minutes=5).fit(random_shop).recommend(Histories.from_interactions(random_shop), 1).items.size


def test_a_containers_limit_counts_and_no_limit_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(linear, "CONTROL_GROUP", tmp_path)
    assert linear._available_bytes() > 1e6
    for name, told in {"max": "5000000\n", "current": "4500000\n", "stat": "anon 1\ninactive_file 100000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(told)
    assert linear._available_bytes() == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert linear._available_bytes() > 1e6


def test_what_rounding_makes_indefinite_is_told(random_shop):
    with pytest.raises(DataError, match="Raise the regularisation"):
        Linear(regularisation=-1.0).fit(random_shop)


def _of_first_users(taken: Interactions, n_users: int) -> Interactions:
    few = taken.where(taken.user < n_users)
    users, items = few.users.ids(few.user), few.items.ids(few.item)
    return Interactions.from_frame(pd.DataFrame({"user_id": users, "item_id": items, "weight": few.weight}))
