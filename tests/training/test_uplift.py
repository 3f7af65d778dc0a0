"""An experiment becomes judged policies: nobody is judged by a model that saw them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from evaluation.off_policy import deterministic
from evaluation.policies import compare_policies, profit
from features.rules import parse_rule
from training.uplift import compare, cross_fit, experiment


def shop(seed: int = 0, n: int = 1_000, *, differ: bool = True):
    """Two mails and none: mail A suits the old and mail B the young, or neither does anything."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"age": rng.uniform(20, 60, n), "noise": rng.normal(size=n)})
    arm = rng.choice(["none", "A", "B"], n)
    old = table["age"].to_numpy() > 40
    effect = np.where(arm == "A", old, np.where(arm == "B", ~old, 0)) * (1.0 if differ else 0.0)
    return table, arm, table["age"].to_numpy() / 30 + effect + rng.normal(0, 0.7, n)


def test_a_policy_that_is_better_is_shown_to_be():
    table, arm, y = shop()
    of = experiment(table, arm, y, control="none")
    found = compare(cross_fit(of, folds=2), rule=parse_rule("age > 40 -> A else B"))
    gains = {gain.against: gain for gain in found.gains}
    assert set(gains) == {"tree", "response model", "age > 40 -> A else B", "nobody", "A to all", "B to all"}
    for name in ("nobody", "A to all", "B to all"):
        assert gains[name].gain.low > 0
        assert gains[name].self_normalised.low > 0
    assert gains["nobody"].gain.estimate == pytest.approx(1, abs=0.25)
    assert abs(gains["age > 40 -> A else B"].gain.estimate) < 0.15
    assert found.n_by_arm == {name: int((arm == name).sum()) for name in ("none", "A", "B")}
    assert sum(found.rows[0].shares.values()) == pytest.approx(1)


def test_contacts_are_limited_and_the_response_model_stands_beside():
    table, arm, y = shop(1)
    of = experiment(table, arm, y, control="none")
    found = compare(cross_fit(of, folds=2), max_contacts=300)
    rows = {row.name: row for row in found.rows}
    for name in ("model", "response model"):
        assert 1 - rows[name].shares["none"] == pytest.approx(300 / len(arm))


def test_costs_can_make_nobody_the_best_answer():
    table, arm, y = shop(2)
    found = compare(cross_fit(experiment(table, arm, y, control="none", costs={"A": 5.0, "B": 5.0}), folds=2))
    assert found.rows[0].shares["none"] == 1
    assert {gain.against: gain.gain.estimate for gain in found.gains}["nobody"] == 0


def test_an_outlier_that_is_half_of_the_money_is_shown_with_and_without():
    rng = np.random.default_rng(3)
    n = 1_000
    arm = np.tile([0, 1], n // 2)
    money = rng.exponential(1, n)
    money[1] = money.sum()
    of = experiment(pd.DataFrame({"x": rng.normal(size=n)}), np.where(arm == 1, "mail", "none"), money, control="none")
    policies = {"mail": deterministic(np.full(n, 1), 2), "nobody": deterministic(np.full(n, 0), 2)}
    found = compare_policies(of.logged, policies, np.full((n, 2), 1.0), arms=of.arms)
    (gain,) = found.gains
    assert found.largest_share == pytest.approx(0.5, abs=0.01)
    assert gain.gain.estimate > 0.8
    assert abs(gain.without_largest.estimate) < 0.2


def test_estimated_chances_are_used_where_nobody_drew():
    rng = np.random.default_rng(4)
    n = 3_000
    table = pd.DataFrame({"old": rng.integers(2, size=n), "noise": rng.normal(size=n)})
    treated = rng.random(n) < np.where(table["old"] == 1, 0.7, 0.3)
    y = 2.0 * table["old"].to_numpy() + rng.normal(size=n)
    of = experiment(table, np.where(treated, "mail", "none"), y, control="none", assigned_at_random=False)
    assert not of.known
    policies = {"all": deterministic(np.full(n, 1), 2), "nobody": deterministic(np.full(n, 0), 2)}
    (gain,) = compare_policies(of.logged, policies, np.full((n, 2), y.mean()), arms=of.arms).gains
    assert gain.gain.low < 0 < gain.gain.high


@pytest.mark.parametrize(
    ("arm", "y", "why"),
    [
        (np.full(100, "mail"), np.tile([0.0, 1.0], 50), "nobody is in none"),
        (np.full(100, "none"), np.tile([0.0, 1.0], 50), "nobody is treated"),
        (np.tile(["none", "mail"], 50), np.tile([0.0, 1.0], 50), "the outcome tells who was in it"),
        (np.tile(["none", "mail"], 50), np.append(np.ones(99), np.nan), "0 where nothing came"),
    ],
)
def test_what_is_no_experiment_is_refused(arm, y, why):
    with pytest.raises(DataError, match=why):
        experiment(pd.DataFrame({"x": np.arange(100.0)}), arm, y, control="none")


def test_people_who_had_no_chance_of_an_arm_are_not_compared():
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"old": rng.integers(2, size=2_000)})
    arm = np.where(table["old"] == 1, "mail", "none")
    with pytest.raises(DataError, match="next to no chance"):
        experiment(table, arm, rng.normal(size=2_000), control="none", assigned_at_random=False)


def test_costs_below_zero_are_refused():
    with pytest.raises(DataError, match="cost of 0 or more"):
        profit(np.ones(2), np.array([0, 1]), margin=0.5, costs=[0.0, -1.0])
