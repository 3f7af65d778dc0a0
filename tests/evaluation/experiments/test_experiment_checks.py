"""What must hold in a random experiment: sound ones pass, each kind of broken one is found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from evaluation.experiments import checks

NAMES = ["none", "mail"]


@pytest.mark.parametrize(
    ("sizes", "status"),
    [
        ([33_333, 66_667], "passed"),
        ([1_000, 9_050], "passed"),
        ([25_000, 25_100, 24_900], "passed"),
        ([500, 9_500], "passed"),
        ([50_000, 47_500], "failed"),
        ([5_500, 4_500], "failed"),
        ([10_000, 83_000], "warning"),
        ([10_000, 10_000, 5], "warning"),
        ([10_000, 9_000, 5], "failed"),
        ([10_000, 10_100, 300], "passed"),
    ],
)
def test_sizes_without_a_plan_are_held_to_a_usual_one(sizes, status):
    counts = {f"arm {i}": size for i, size in enumerate(sizes)}
    assert checks.sample_ratio(counts).status == status


def test_a_plan_that_is_told_is_what_counts():
    counts = {"none": 10_000, "mail": 83_000}
    assert checks.sample_ratio(counts, [10, 83]).status == "passed"
    failed = checks.sample_ratio(counts, [0.1, 0.9])
    assert failed.status == "failed"
    assert "mail 83,000 (89.2 %, planned 90.0 %)" in failed.finding


@pytest.mark.parametrize("expected", [0.1, 1, 5])
def test_a_very_small_arm_of_the_planned_share_fails_but_once_in_a_thousand(expected):
    """Of three sizes by chi-square, 5, 4 and 2 in a thousand sound experiments failed."""
    share = expected / 1_000
    sizes = np.arange(30)
    failed = [checks.sample_ratio({"none": 1_000 - n, "vip": n}, [1 - share, share]).status == "failed" for n in sizes]
    assert binom.pmf(sizes, 1_000, share)[failed].sum() < checks.ALARM
    assert failed[-1]
    three = checks.sample_ratio({"none": 500, "mail": 498, "vip": 2}, [0.49995, 0.49995, 0.0001])
    assert three.status == "passed"


def test_sound_experiments_fail_no_check_but_once_in_hundreds():
    rng = np.random.default_rng(0)
    failed = 0
    for _ in range(15):
        arm = rng.integers(2, size=2000)
        before = pd.DataFrame({"spend": rng.gamma(1, 50, 2000), "city": rng.choice(["a", "b", "c"], 2000)})
        before.loc[:99, "spend"] = np.nan
        failed += checks.sample_ratio_by_segment(arm, before[["city"]]).status == "failed"
        failed += checks.balanced(checks.balance(arm, before, NAMES)).status == "failed"
        failed += checks.assignment_foreseen(arm, before).status == "failed"
    assert failed <= 1


def test_what_a_few_spent_much_of_does_not_make_a_small_arm_look_unlike():
    """2 of 2,000 sound experiments; with each arm's own variance it were 30."""
    rng = np.random.default_rng(3)
    arm, failed = np.r_[np.ones(50, int), np.zeros(1_950, int)], 0
    for _ in range(2_000):
        before = pd.DataFrame({"spent": np.exp(rng.standard_normal(2_000))})
        failed += checks.balanced(checks.balance(arm, before, NAMES)).status == "failed"
    assert failed <= 6


def test_an_arm_of_five_hides_no_segment_out_of_proportion():
    arm = np.r_[np.tile([0, 1], 2000), np.full(5, 2)]
    country = np.where(arm == 1, "DE", "AT")
    assert checks.sample_ratio_by_segment(arm, pd.DataFrame({"country": country})).status == "failed"


def test_the_propensity_auc_of_chance_is_spread_as_its_null_distribution_says():
    rng = np.random.default_rng(1)
    before = pd.DataFrame({f"x{i}": rng.normal(size=1000) for i in range(3)})
    found = [checks.assignment_foreseen(rng.integers(2, size=1000), before, seed=i).p_value for i in range(20)]
    assert np.mean(np.array(found) < 0.2) < 0.45


def test_targeting_that_leaves_means_alike_is_foreseen():
    rng = np.random.default_rng(2)
    x = rng.normal(size=6000)
    arm = (rng.random(6000) < np.where(np.abs(x) > 0.7, 0.6, 0.4)).astype(int)
    before = pd.DataFrame({"x": x})
    assert checks.balanced(checks.balance(arm, before, NAMES)).status == "passed"
    found = checks.assignment_foreseen(arm, before)
    assert found.status == "failed"
    assert found.value > 0.55


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_targeting_by_a_date_is_found(zone):
    rng = np.random.default_rng(4)
    days = rng.integers(400, size=4000)
    joined = pd.Series(pd.Timestamp("2025-01-01", tz=zone) + pd.to_timedelta(days, unit="D"))
    before = pd.DataFrame({"joined": joined.where(rng.random(4000) < 0.9)})
    arm = (days > 200) ^ (rng.random(4000) < 0.3)
    found = checks.balanced(checks.balance(arm.astype(int), before, NAMES))
    assert found.status == "failed"
    assert found.finding.startswith("joined (days since 2025-01-01): 2")
    assert checks.assignment_foreseen(arm.astype(int), before).status == "failed"
    assert checks.balanced(checks.balance(rng.integers(2, size=4000), before, NAMES)).status == "passed"


def test_a_column_that_is_the_arm_was_not_alike_before():
    arm = np.repeat([0, 1], 100)
    for column, status in ((arm * 1.0, "failed"), (np.ones(200), "passed")):
        assert checks.balanced(checks.balance(arm, pd.DataFrame({"mails": column}), NAMES)).status == status


def test_a_group_that_lost_its_control_is_named():
    rng = np.random.default_rng(3)
    arm, country = rng.integers(2, size=9000), rng.choice(["AT", "CH", "DE"], 9000)
    kept = (country != "CH") | (arm == 1) | (rng.random(9000) < 0.7)
    found = checks.sample_ratio_by_segment(arm[kept], pd.DataFrame({"country": country[kept]}))
    assert found.status == "failed"
    assert "country = CH" in found.finding


def test_nothing_to_check_is_said():
    arm = np.array([0, 1] * 10)
    assert checks.balanced([]).status == "not checked"
    assert checks.assignment_foreseen(arm, pd.DataFrame(index=range(20))).status == "not checked"
    assert checks.sample_ratio_by_segment(arm, pd.DataFrame(index=range(20))).status == "not checked"


def test_an_outcome_that_only_the_treated_can_have_is_found():
    rng = np.random.default_rng(4)
    arm = rng.integers(2, size=4000)
    redeemed = ((rng.random(4000) < 0.1) & (arm == 1)).astype(float)
    found = checks.leak(arm, redeemed, NAMES, metric="redeemed")
    assert found.status == "failed"
    assert found.finding.startswith("Nobody in none has redeemed")


def test_a_few_people_may_lie_apart_by_chance():
    for people, status in ((6, "passed"), (60, "failed")):
        arm = np.repeat([0, 1], people // 2)
        found = checks.leak(arm, arm + 1.0, NAMES, metric="spend")
        assert (found.status, found.value) == (status, 1.0)


def test_few_people_in_two_arms_are_tolerated_many_are_not():
    assert checks.users_in_two_arms(0, 1000).status == "passed"
    assert checks.users_in_two_arms(10, 1000).status == "warning"
    assert checks.users_in_two_arms(11, 1000).status == "failed"


def test_an_outcome_missing_more_often_in_one_arm_is_found():
    rng = np.random.default_rng(5)
    arm = rng.integers(2, size=4000)
    alike, apart = (rng.random(4000) < share for share in (0.05, np.where(arm == 1, 0.1, 0.03)))
    assert checks.outcome_missing(arm, alike, NAMES, metric="visit").status == "warning"
    assert checks.outcome_missing(arm, alike & (rng.random(4000) < 0.1), NAMES, metric="visit").status == "passed"
    one = np.arange(4003) == 4000  # of an arm of three
    assert checks.outcome_missing(np.append(arm, [2, 2, 2]), one, [*NAMES, "call"], metric="visit").status == "passed"
    found = checks.outcome_missing(arm, apart, NAMES, metric="visit")
    assert (found.status, "% of mail" in found.finding) == ("failed", True)


def test_an_outcome_missing_in_a_small_arm_alone_leaves_nothing_to_compare():
    arm = np.r_[np.tile([0, 1], 1000), np.full(20, 2)]
    found = checks.outcome_missing(arm, arm == 2, [*NAMES, "sms"], metric="spend")
    assert found.status == "passed"
    assert "100.0 % of sms" in found.finding


@pytest.mark.parametrize("told", ["number", "missing", "word"])
def test_what_only_people_with_the_outcome_can_have_was_not_known_before(told):
    rng = np.random.default_rng(6)
    bought, age = rng.random(4000) < 0.1, rng.normal(40, 10, 4000)
    columns = {
        "number": np.where(bought & (rng.random(4000) < 0.5), 30.0, 0.0),
        "missing": np.where(bought, 30.0, np.nan),
        "word": np.where(bought, "ordered", "no order"),
    }
    outcomes = {"spend": bought * 20.0, "visit": age}
    found = checks.outcomes_in_disguise(outcomes, pd.DataFrame({"age": age, "x": columns[told]}))
    assert (found["spend"].status, " x" in found["spend"].finding) == ("failed", True)
    assert found["visit"].status == "passed"
    always = np.flatnonzero(bought)[:24]
    loyal = pd.DataFrame({"tier": np.where(np.isin(np.arange(4000), always), "gold", "none")})
    assert checks.outcomes_in_disguise({"bought": bought * 1.0}, loyal)["bought"].status == "failed"
    often = np.tile(bought, 10)
    gold = np.isin(np.arange(40_000), always)  # less than a hundredth of all who bought
    few = pd.DataFrame({"tier": np.where(gold, "gold", np.tile(["none", "iron"], 20_000))})
    found = checks.outcomes_in_disguise({"bought": often * 1.0}, few)["bought"]
    assert (found.status, "All 24 people with tier = gold have bought" in found.finding) == ("warning", True)
    spend = np.where(often, 20.0, 0.0)
    spend[np.flatnonzero(often)[-1]] = 1e6  # squared it is nearly all, and capped it is one of many
    told = few.assign(refund=(spend == 20) * 5.0)
    assert checks.outcomes_in_disguise({"spend": spend}, told)["spend"].status == "failed"
    both = few.assign(refund=often * 5.0)
    assert "with refund" in checks.outcomes_in_disguise({"bought": often * 1.0}, both)["bought"].finding
    item = pd.DataFrame({"item": rng.choice(["hat", "tea"], 40_000)})
    item[often] = rng.choice([f"item {i}" for i in range(120)], (often.sum(), 1))  # each of them less than a hundredth
    assert checks.outcomes_in_disguise({"bought": often * 1.0}, item)["bought"].status == "failed"
    likely = (rng.random(4000) < np.where(bought, 0.9, 0.02)).astype(float)
    for before in (pd.DataFrame({"age": age}), pd.DataFrame({"opened": likely})):
        assert checks.outcomes_in_disguise({"bought": bought * 1.0}, before)["bought"].status == "passed"
