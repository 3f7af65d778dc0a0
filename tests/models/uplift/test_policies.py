"""Who gets what: the most profit, within what may be spent, or by two questions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from models.uplift.policies import best_arms, fit_policy_tree, spend_at_most


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 6))
def test_a_budget_is_kept_and_nearly_the_best_is_bought(seed, budget):
    rng = np.random.default_rng(seed)
    profit = np.column_stack([np.zeros(5), rng.normal(size=(5, 2))])
    costs = np.array([0.0, 1.0, 2.0])
    chosen = spend_at_most(profit, costs, budget=budget)
    assert costs[chosen].sum() <= budget
    rows = np.arange(5)
    best = max(
        profit[rows, list(arms)].sum() for arms in product(range(3), repeat=5) if costs[list(arms)].sum() <= budget
    )
    assert profit[rows, chosen].sum() >= best - max(0.0, profit.max()) - 1e-9


def test_the_contacts_go_to_those_who_gain_the_most():
    gain = np.random.default_rng(0).normal(size=200)
    chosen = best_arms(np.column_stack([np.zeros(200), gain]), max_contacts=20)
    assert set(np.flatnonzero(chosen)) == set(np.argsort(-gain)[:20])
    same = best_arms(np.column_stack([np.zeros(50), np.ones(50)]), max_contacts=7)
    assert same.sum() == 7


def test_nobody_is_contacted_for_nothing():
    assert best_arms(np.array([[0.0, 0.0], [0.0, -1.0]])).tolist() == [0, 0]
    assert spend_at_most(np.array([[0.0, 5.0]]), np.array([0.0, 1.0]), budget=0).tolist() == [0]
    with pytest.raises(DataError, match="budget"):
        spend_at_most(np.zeros((2, 2)), np.array([0.0, 1.0]), budget=-1)


def test_the_tree_finds_two_questions_and_says_them():
    rng = np.random.default_rng(1)
    n = 4_000
    table = pd.DataFrame({"age": rng.integers(20, 61, n), "plan": rng.choice(["basic", "pro"], n)})
    wants = (table["plan"] == "pro") & (table["age"] > 40)
    values = np.column_stack([np.zeros(n), np.where(wants, 1.0, -1.0)]) + rng.normal(size=(n, 2))
    tree = fit_policy_tree(table, values, names=["none", "mail"])
    assert (tree(table) == wants).mean() > 0.9
    assert "plan" in str(tree)
    assert "age" in str(tree)
    assert tree.gain == pytest.approx(wants.mean(), abs=0.1)


@pytest.mark.parametrize(("unit", "told"), [("D", "joined <= 2026-01-20"), ("h", "joined <= 2026-01-01 19:00:00")])
def test_a_time_is_told_as_one(unit, told):
    steps = np.arange(400) % 40
    table = pd.DataFrame({"joined": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(steps, unit=unit)})
    values = np.column_stack([np.zeros(400), np.where(steps < 20, 1.0, -1.0)])
    assert str(fit_policy_tree(table, values, names=["none", "mail"])) == f"if {told}: mail\nelse: none"


def test_the_tree_is_the_best_of_all_that_two_splits_allow():
    rng = np.random.default_rng(2)
    n = 600
    x = rng.integers(0, 3, size=(n, 2)).astype(float)
    table = pd.DataFrame(x, columns=["a", "b"])
    values = np.round(rng.normal(size=(n, 3)) + np.column_stack([x[:, 0] == 1, x[:, 1] > 0, x[:, 0] * x[:, 1] / 2]), 3)
    tree = fit_policy_tree(table, values, names=["p", "q", "r"])
    found = values[np.arange(n), tree(table)].sum()
    masks = [np.ones(n, dtype=bool), *(x[:, j] <= cut for j in (0, 1) for cut in (0, 1))]

    def leaf(mask):
        return values[mask].sum(axis=0).max() if mask.any() else 0.0

    best = max(
        max(leaf(root & m) + leaf(root & ~m) for m in masks) + max(leaf(~root & m) + leaf(~root & ~m) for m in masks)
        for root in masks
    )
    assert found == pytest.approx(best)


def test_one_arm_for_all_where_nobody_differs():
    table = pd.DataFrame({"age": np.arange(500.0) % 50})
    values = np.tile([0.0, 1.0], (500, 1))
    tree = fit_policy_tree(table, values, names=["none", "mail"])
    assert str(tree) == "mail to all"
    assert tree(table).tolist() == [1] * 500
