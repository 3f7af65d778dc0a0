"""What choices are worth: true values within their intervals, people as units, one person's weight refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluation.choices import compare_choices
from evaluation.units import Unit
from evaluation.uplift_report import Offers


def log(people: int, *, each: int = 4, seed: int = 0) -> pd.DataFrame:
    """Offers a, b and none bring 1, 2 and 0 more than a person's own level, which is the same in all decisions."""
    rng = np.random.default_rng(seed)
    arm = rng.choice(["random", "usual", "holdout"], people, p=[0.4, 0.4, 0.2])
    level = rng.normal(5, 3, people)
    rows = pd.DataFrame({"user_id": np.repeat(np.arange(people), each), "arm": np.repeat(arm, each)})
    chance = np.where((rows.arm == "random").to_numpy()[:, None], [1 / 3] * 3, [0.6, 0.2, 0.2])
    chance = np.where((rows.arm == "holdout").to_numpy()[:, None], [0, 0, 1.0], chance)
    drawn = (rng.random((len(rows), 1)) > chance.cumsum(axis=1)).sum(axis=1).clip(max=2)
    reward = np.repeat(level, each) + np.array([1.0, 2.0, 0.0])[drawn] + rng.normal(0, 1, len(rows))
    return rows.assign(
        chosen=np.array(["a", "b", "none"], dtype=object)[drawn],
        probability=chance[np.arange(len(rows)), drawn],
        reward=reward,
    )


TRUE = {"random": 6.0, "usual": 6.0, "nobody": 5.0, "a to all": 6.0, "b to all": 7.0}


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held, gains = [], []
    for seed in range(150):
        found = compare_choices(log(300, seed=seed), first="usual")
        held += [row.value.low <= TRUE[row.name] <= row.value.high for row in found.rows]
        gains += [g.gain.low <= 6.0 - TRUE[g.against] <= g.gain.high for g in found.gains]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)
    assert np.mean(gains) == pytest.approx(0.95, abs=0.02)


def test_a_small_holdout_with_few_orders_does_not_make_the_arms_surely_differ() -> None:
    """Rare amounts: the holdout's own spread is small just when its mean is; 95 % less 3 standard errors is .917."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        arm = rng.choice(["model", "holdout"], 3000, p=[0.95, 0.05])
        reward = np.where(rng.random(3000) < 0.065, np.exp(3 + 0.8 * rng.standard_normal(3000)), 0.0)
        rows = pd.DataFrame({"user_id": np.arange(3000), "arm": arm, "probability": 1.0, "reward": reward})
        rows["chosen"] = np.where(rows["arm"] == "model", "a", "none")
        [gain] = [g.gain for g in compare_choices(rows, first="model").gains if g.against == "nobody"]
        held.append(gain.low <= 0 <= gain.high)
    assert np.mean(held) >= 0.917


def test_a_choice_is_judged_by_those_whom_chance_gave_it_not_by_those_whom_it_suits() -> None:
    """The model and the rule give a, worth 3 to three of ten and nothing to the others, to those three."""
    rng = np.random.default_rng(0)
    arm, suits = rng.choice(["model", "random", "usual", "holdout"], 20_000), rng.random(20_000) < 0.3
    best = np.where(suits, "a", "b")
    chosen = np.where(arm == "holdout", "none", np.where(arm == "random", rng.choice(["a", "b"], 20_000), best))
    worth = np.select([chosen == "a", chosen == "b"], [3.0 * suits, 1.0], 0.0)
    rows = pd.DataFrame({"user_id": np.arange(20_000), "arm": arm, "chosen": chosen.astype(object)})
    rows = rows.assign(probability=np.where(arm == "random", 0.5, 1.0), reward=worth + rng.normal(0, 1, 20_000))
    found = compare_choices(rows, first="model")
    value = {row.name: row.value for row in found.rows}
    for name, true in (("a to all", 0.9), ("b to all", 1.0), ("model", 1.6), ("nobody", 0.0)):
        assert value[name].low <= true <= value[name].high, name
    without = compare_choices(rows[rows.arm != "random"], first="model")
    assert [row.name for row in without.rows] == ["model", "usual", "nobody"], "nobody can tell what a is worth to all"


def test_a_holdout_that_got_something_is_an_arm_and_not_nobody() -> None:
    """Of variants it is shown the oldest."""
    rows = log(2000)
    rows.loc[rows.arm == "holdout", "chosen"] = "old"
    found = {row.name: row.shares for row in compare_choices(rows, first="usual").rows}
    assert "nobody" not in found
    assert found["holdout"] == {"a": 0.0, "b": 0.0, "old": 1.0, "none": 0.0}


def test_that_another_policy_does_better_is_seldom_said_where_nothing_is() -> None:
    """Six others are tried; one interval at a time, some look better in an eighth of the runs."""
    told = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        arm = rng.choice(["model", "random", "usual", "holdout"], 400, p=[0.4, 0.4, 0.1, 0.1])
        chosen = np.where(arm == "holdout", "none", rng.choice(["a", "b", "c"], 400)).astype(object)
        rows = pd.DataFrame({"user_id": range(400), "arm": arm, "chosen": chosen, "reward": rng.normal(size=400)})
        rows["probability"] = np.where(arm == "random", 1 / 3, 1.0)
        sentence = Offers("profit", Unit("money"), compare_choices(rows, first="model")).sentence
        told += "does better" in sentence or "is worth less" in sentence
    assert told <= 8


def test_shares_and_how_far_choices_differ() -> None:
    found = compare_choices(log(2000), first="usual")
    assert found.rows[0].shares["a"] == pytest.approx(0.6, abs=0.03)
    apart = {gain.against: gain.differently_treated for gain in found.gains}
    assert apart["a to all"] == pytest.approx(0.4, abs=0.03)
    assert np.isnan(apart["random"])  # two mixtures: what each person would get is not known


def test_what_hardly_anybody_got_is_not_judged() -> None:
    rows = log(400)
    rows.loc[:9, ["arm", "chosen", "probability"]] = ["random", "rare", 0.01]
    found = {row.name: row for row in compare_choices(rows, first="usual").rows}
    assert "too few people" in found["rare to all"].weights.refused
    assert np.isnan(found["rare to all"].value.estimate)
