"""From a table to a verdict: the words follow the interval, and a failed check replaces them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from evaluation.experiments import (
    Metric,
    aa_simulation,
    always_valid,
    analyse,
    decide,
    detectable,
    difference_of_means,
    over_time,
    plan,
    read_experiment,
    segment_effects,
    shrink,
)
from evaluation.experiments.checks import Check
from evaluation.experiments.means import Difference
from evaluation.intervals import Interval

HILLSTROM = Path(__file__).parents[4] / "shared/data/hillstrom/customers.parquet"


def shop(seed: int, *, effect: float = 0.0, people: int = 8_000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    mail = rng.random(people) < 0.5
    past = rng.gamma(1, 40, people)
    bought = rng.random(people) < 0.05 + effect * mail
    return pd.DataFrame(
        {
            "arm": np.where(mail, "mail", "none"),
            "bought": bought,
            "spend": np.where(bought, 0.2 * past + rng.gamma(2, 10, people), 0.0),
            "left": rng.random(people) < 0.05,
            "past": past,
            "country": rng.choice(["AT", "CH", "DE", "FR", "IT"], people),
        }
    )


def verdict_of(rows: pd.DataFrame, metric: str = "bought", **options):
    return analyse(read_experiment(rows, treatment="arm"), [Metric(metric)], **options).verdict


def test_an_effect_is_acted_on_harm_is_not():
    assert verdict_of(shop(0, effect=0.03)).kind == "act"
    harmful = verdict_of(shop(0, effect=-0.03))
    assert harmful.kind == "do not"
    assert "It lowers bought by" in harmful.sentence
    unsubscribed = analyse(
        read_experiment(shop(0, effect=0.03), treatment="arm"), [Metric("bought", lower_is_better=True)]
    )
    assert unsubscribed.verdict.kind == "do not"


def test_no_effect_is_no_verdict_whatever_the_metric():
    kinds = [verdict_of(shop(seed), metric).kind for seed in range(12) for metric in ("bought", "spend")]
    assert sum(kind in ("act", "do not") for kind in kinds) <= 4


def test_the_words_of_an_undecided_one_say_how_much_longer():
    verdict = decide(Interval(1.0, -0.2, 2.2, 0.95), people=1000, people_per_day=100)
    assert verdict.kind == "keep testing"
    assert "about 1,900 more people in both arms together (20 more days) would show it" in verdict.sentence
    assert verdict.more_people == pytest.approx(1000 * ((2.8016 / 1.95996 * 1.2) ** 2 - 1), abs=1)
    hopeless = decide(Interval(0.01, -1.2, 1.2, 0.95), people=1000)
    assert hopeless.kind == "cannot tell"
    assert hopeless.more_people is None
    assert hopeless.sentence.endswith("would hardly decide it: choose what is less work.")


def test_an_effect_too_small_to_pay_is_not_acted_on():
    verdict = decide(Interval(0.02, 0.01, 0.03, 0.95), people=1000, worth=0.05)
    assert verdict.kind == "do not"
    assert "below the 0.05 that would pay" in verdict.sentence
    assert decide(Interval(0.06, 0.048, 0.072, 0.95), people=1000, worth=0.05).kind == "keep testing"
    saves = decide(Interval(0.05, -0.1, 0.2, 0.95), people=1000, worth=-0.5)
    assert "raises the outcome per person by 0.05, and by -0.1 to 0.2 with" in saves.sentence


def test_a_failed_check_replaces_the_verdict_a_warning_does_not():
    sure = Interval(1.0, 0.9, 1.1, 0.95)
    failed, warning = (Check("sizes", status, "10 to 90.", "Find why.") for status in ("failed", "warning"))
    assert decide(sure, people=100, checks=[failed]).sentence == "Not to be trusted: 10 to 90. Find why."
    assert decide(sure, people=100, checks=[warning]).kind == "act"


def test_broken_experiments_are_not_to_be_trusted():
    rows = shop(1, effect=0.03, people=20_000)
    rng = np.random.default_rng(0)
    lost = rows[(rows.arm == "none") | (rng.random(len(rows)) > 0.08)]
    assert verdict_of(lost).kind == "not to be trusted"
    targeted = rows.assign(arm=np.where(rows.past + rng.normal(0, 40, len(rows)) > 40, "mail", "none"))
    experiment = read_experiment(targeted, treatment="arm", before=["past"])
    assert analyse(experiment, [Metric("bought")]).verdict.kind == "not to be trusted"
    leaked = rows.assign(arm=np.where(rows.bought ^ (rng.random(len(rows)) < 0.1), "mail", "none"))
    experiment = read_experiment(leaked, treatment="arm", shares={"none": 0.86, "mail": 0.14})
    assert analyse(experiment, [Metric("bought")]).verdict.kind == "not to be trusted"


def test_too_few_people_and_outcomes_that_nobody_or_one_person_has_cannot_tell():
    five = pd.concat([shop(2).query("arm == 'none'"), shop(2).query("arm == 'mail'").head(5)])
    experiment = read_experiment(five, treatment="arm", shares={"none": 0.999, "mail": 0.001})
    assert analyse(experiment, [Metric("bought")]).verdict.kind == "cannot tell"
    nobody = verdict_of(shop(2).assign(bought=0))
    assert nobody.sentence == "The data cannot tell: bought is the same for everybody."
    rich = shop(2)
    rich.loc[rich.index[rich.arm == "mail"][0], "spend"] = rich.spend.sum()
    found = analyse(read_experiment(rich, treatment="arm"), [Metric("spend")])
    assert found.verdict.kind == "cannot tell"
    assert "one alone has 50 % of it all" in found.verdict.sentence
    assert found.comparisons[0].capped.enough


def test_money_is_told_raw_capped_and_adjusted_side_by_side():
    found = analyse(
        read_experiment(shop(3, effect=0.03), treatment="arm", segments=["country"]),
        [
            Metric("spend", before=("past",), name="revenue per recipient"),
            Metric("bought"),
            Metric("spend", per="bought"),
        ],
        show="EUR {:.2f}".format,
    )
    money, share, ratio = found.comparisons
    assert (money.kind, share.kind, ratio.kind) == ("amount", "share", "ratio")
    assert money.decisive is money.adjusted
    assert money.adjusted.standard_error < money.raw.standard_error
    assert 0 < money.variance_reduction < 1
    assert money.capped.interval.high < money.raw.interval.high + 1
    assert share.capped is None
    assert share.adjusted is None
    assert found.verdict.sentence.startswith("Act: mail. It raises revenue per recipient by EUR ")
    assert len(found.segments["mail"].effects) == 5


def test_a_guardrail_that_got_worse_forbids():
    rows = shop(4, effect=0.03)
    rng = np.random.default_rng(1)
    rows["left"] |= (rows.arm == "mail") & (rng.random(len(rows)) < 0.03)
    metrics = [Metric("bought"), Metric("left", lower_is_better=True, guardrail=True)]
    verdict = analyse(read_experiment(rows, treatment="arm"), metrics).verdict
    assert verdict.kind == "do not"
    assert verdict.sentence.startswith("Do not: mail. It raises left by ")
    assert " points, which must not get worse. It raises bought by " in verdict.sentence
    tolerant = [metrics[0], replace(metrics[1], tolerated=0.05)]
    verdict = analyse(read_experiment(rows, treatment="arm"), tolerant).verdict
    assert verdict.kind == "act"
    assert " It raises left by " in verdict.sentence, "it is told all the same"


def test_what_is_tolerated_of_a_guardrail_is_held_to_the_interval_that_every_look_may_use():
    mail = np.repeat([0, 1], 4_000)
    left = np.tile(np.arange(4_000), 2) < np.where(mail == 1, 168, 80)  # 2.2 points more
    rows = pd.DataFrame({"arm": mail, "left": left, "bought": np.random.default_rng(0).normal(mail / 3)})
    metrics = [Metric("bought"), Metric("left", lower_is_better=True, guardrail=True, tolerated=0.0125)]
    experiment = read_experiment(rows, treatment="arm")
    once, always = (analyse(experiment, metrics, planned_people=planned) for planned in (None, 16_000))
    assert once.comparisons[1].interval.low > 0.0125 > always.comparisons[1].interval.low > 0
    assert (once.verdict.kind, always.verdict.kind) == ("do not", "act")


def test_who_looks_while_it_runs_gets_wider_intervals():
    rows = shop(5, effect=0.02)
    once = verdict_of(rows)
    running = verdict_of(rows, planned_people=16_000)
    assert running.interval.low < once.interval.low < once.interval.high < running.interval.high


def test_groups_of_a_running_experiment_are_judged_as_its_verdict_is():
    experiment = read_experiment(shop(5), treatment="arm", segments=["country"])
    once, running = (
        analyse(experiment, [Metric("bought")], planned_people=planned).segments["mail"] for planned in (None, 16_000)
    )
    judged = [effect for effect in once.effects if not effect.small]
    assert len(judged) == 5
    for now, always in zip(once.effects, running.effects, strict=True):
        assert always.running == always_valid(now.difference, planned_people=2 * people_of(now.difference))
        assert always.interval.low < now.interval.low < now.interval.high < always.interval.high
    assert min(e.p_adjusted for e in once.effects) < min(e.p_adjusted for e in running.effects)
    assert once.differ["country"] < running.differ["country"]


def people_of(difference: Difference) -> int:
    return difference.n_treated + difference.n_control


def test_looking_twenty_times_at_groups_finds_nothing_where_nothing_is():
    rng = np.random.default_rng(6)
    groups = pd.DataFrame({"g": np.arange(4000) % 4})
    found, differ = 0, 0
    for _ in range(60):
        a, b = rng.normal(size=(2, 4000))
        looks = [
            segment_effects(a[:n], b[:n], groups[:n], groups[:n], planned_people=8000) for n in range(400, 4001, 400)
        ]
        found += any(effect.found for look in looks for effect in look.effects)
        differ += any(look.differ["g"] < 0.05 for look in looks)
    assert found <= 4
    assert differ <= 4


def test_looking_twenty_times_finds_nothing_where_nothing_is():
    rng = np.random.default_rng(6)
    false = 0
    for _ in range(200):
        a, b = rng.normal(size=(2, 1000))
        looks = [difference_of_means(a[:n], b[:n]) for n in range(50, 1001, 50)]
        false += any(always_valid(look, planned_people=2000).p_value < 0.05 for look in looks)
    assert false / 200 < 0.06


def test_always_valid_p_values_and_intervals_agree():
    rng = np.random.default_rng(7)
    for shift in (0.0, 0.05, 0.1, 0.13, 0.2):
        found = always_valid(
            difference_of_means(rng.normal(shift, 1, 2000), rng.normal(0, 1, 2000)), planned_people=4000
        )
        assert (found.p_value < 0.05) == (not found.interval.low <= 0 <= found.interval.high)


def test_reading_leaves_out_who_cannot_count_and_says_so():
    rows = pd.DataFrame(
        {
            "id": ["a", "a", "b", "b", "c", "d", "e", "f"],
            "arm": ["none", "mail", "none", "none", "mail", "mail", "none", None],
            "assigned": pd.Timestamp("2026-01-02"),
            "sent": pd.to_datetime(["2026-01-03"] * 4 + ["2026-01-01"] + ["2026-01-03"] * 3),
        }
    )
    found = read_experiment(rows, treatment="arm", user="id", assigned_at="assigned", treated_at="sent")
    assert found.left_out == {"no arm": 1, "in two arms": 2, "there twice": 1, "treated before assignment": 1}
    assert found.counts == {"none": 2, "mail": 1}
    assert [check.status for check in found.checks] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("column", "counts"),
    [
        ([0.0, 1.0, 1.0, np.nan], {"0": 1, "1": 2}),
        ([False, True, True, None], {"False": 1, "True": 2}),
        (["none", " mail", "mail ", "  "], {"none": 1, "mail": 2}),
        ([0.0, 0.5, 0.5, np.nan], {"0.0": 1, "0.5": 2}),
    ],
)
def test_arms_are_read_by_what_they_say(column, counts):
    found = read_experiment(pd.DataFrame({"arm": column}), treatment="arm")
    assert (found.counts, found.left_out) == (counts, {"no arm": 1})


def test_of_two_arms_the_one_that_is_worth_more_after_its_cost_is_named():
    rng = np.random.default_rng(9)
    arm = rng.choice(["none", "mail", "call"], 30_000)
    rows = pd.DataFrame({"arm": arm, "spend": rng.normal(10, 10, 30_000) + 3 * (arm == "mail") + 5 * (arm == "call")})
    found = analyse(read_experiment(rows, treatment="arm"), [Metric("spend")], worth={"mail": 0.1, "call": 4.0})
    assert {verdict.kind for verdict in found.verdicts.values()} == {"act"}
    assert found.verdict is found.verdicts["mail"]


def test_an_outcome_that_is_not_known_of_all_alike_and_one_in_disguise_are_not_to_be_trusted():
    rows = shop(10)
    missing = np.random.default_rng(0).random(len(rows)) < np.where(rows.arm == "mail", 0.15, 0.02)
    assert verdict_of(rows.assign(bought=rows.bought.astype(float).mask(missing))).kind == "not to be trusted"
    assert verdict_of(rows.assign(spend=rows.spend.where(rows.spend > 0)), "spend").kind != "not to be trusted"
    experiment = read_experiment(rows, treatment="arm", before=["past", "spend"])
    verdict = analyse(experiment, [Metric("bought")]).verdict
    assert verdict.kind == "not to be trusted"
    assert "people with spend have bought" in verdict.sentence


def test_a_column_called_customer_that_says_new_or_old_is_not_taken_for_ids():
    rows = pd.DataFrame({"arm": ["a", "control"] * 50, "customer": ["new", "new", "old", "old"] * 25, "bought": 1.0})
    assert read_experiment(rows, treatment="arm").left_out == {}


def test_people_with_several_rows_each_are_known_by_a_column_of_ids():
    rows = shop(12, people=300).assign(user_id=np.arange(300))
    each_four_times = pd.concat([rows] * 4)
    found = read_experiment(each_four_times, treatment="arm")
    assert sum(found.counts.values()) == 300
    assert found.left_out == {"there twice": 900}
    one_account = each_four_times.assign(user_id=each_four_times.user_id % 20)  # no more of them than arms may be
    assert read_experiment(one_account, treatment="arm").left_out == {}


def test_the_verdict_names_what_broke_rather_than_what_follows_from_it():
    rows = shop(11, people=20_000)
    rng = np.random.default_rng(0)
    lost = rows[(rows.country != "CH") | (rows.arm == "none") | (rng.random(len(rows)) > 0.4)]
    told = analyse(read_experiment(lost, treatment="arm", segments=["country"]), [Metric("bought")]).verdict.sentence
    assert told.startswith("Not to be trusted (and 1 other check failed): country = CH: ")
    planned = read_experiment(rows, treatment="arm", segments=["country"], shares={"none": 0.45, "mail": 0.55})
    told = analyse(planned, [Metric("bought")]).verdict.sentence  # nobody was lost in one country rather than another
    assert told.startswith("Not to be trusted: none ")
    noted = rows.assign(arm=np.where(rows.bought | (rng.random(len(rows)) < 0.4), "mail", "none"))
    told = analyse(read_experiment(noted, treatment="arm"), [Metric("bought")]).verdict.sentence
    assert "other check failed): Nobody in none has bought" in told


def test_an_arm_of_a_few_people_is_not_what_the_verdict_is_about():
    rows = shop(0, effect=-0.03)
    rows.loc[rows.index[~rows.bought][:5], "arm"] = "vip"
    found = analyse(read_experiment(rows, treatment="arm"), [Metric("bought")])
    assert found.verdict is found.verdicts["mail"]
    assert found.verdict.kind == "do not"
    assert "behind the effect of the arm vip on bought" in found.verdicts["vip"].sentence


@pytest.mark.parametrize("planned_people", [None, 9_000])
def test_what_decides_is_found_where_its_verdict_says_so_and_only_there(planned_people):
    told = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        arm = np.tile(["none", "mail", "call"], 3_000)
        visit, spend = rng.random((2, 9_000)) < [[0.2], [0.1]] + np.array([[0.03], [0.05]]) * (arm != "none")
        rows = pd.DataFrame({"arm": arm, "visit": visit, "spend": 20.0 * spend, "noise": rng.random(9_000) < 0.5})
        for metrics in (("visit", "spend"), ("visit", "noise")):
            found = analyse(
                read_experiment(rows, treatment="arm"),
                [Metric(name) for name in metrics],
                planned_people=planned_people,
            )
            for comparison in found.comparisons[:2]:
                verdict = found.verdicts[comparison.arm]
                assert comparison.found == verdict.decided
                told.add(verdict.decided)
    assert told == {True, False}


def test_days_are_those_until_both_arms_have_the_people():
    rng = np.random.default_rng(13)
    rows = pd.DataFrame({"arm": rng.choice(["none", "a", "b", "c"], 20_000)})
    rows["spend"] = rng.normal(10, 10, 20_000) + 0.5 * (rows.arm == "a")
    verdict = analyse(read_experiment(rows, treatment="arm"), [Metric("spend")], people_per_day=100).verdict
    assert verdict.kind == "keep testing"
    assert verdict.more_days == pytest.approx(verdict.more_people / 50, rel=0.05)  # half of those who come are in them


def test_weeks_in_which_nobody_came_are_not_gone_through():
    at = pd.to_datetime(pd.Series(["0001-01-01", "2026-01-01", "9999-12-31"]), format="ISO8601", utc=True)
    assert len(over_time(np.arange(3.0), np.arange(3.0), at, at)) == 3


def test_what_is_no_experiment_is_refused():
    rows = shop(8, people=100)
    with pytest.raises(DataError, match="past has 100 values, such as "):
        read_experiment(rows, treatment="past")
    with pytest.raises(DataError, match="by country everybody is in two arms"):
        read_experiment(rows, treatment="arm", user="country")
    with pytest.raises(DataError, match=r"tags holds lists or the like \(first: \[1\]\)"):
        read_experiment(rows.assign(tags=[[1]] * 100), treatment="arm", before=["tags"])
    for user in (None, "past"):
        with pytest.raises(DataError, match="arm is empty"):
            read_experiment(rows.assign(arm=None), treatment="arm", user=user)
    with pytest.raises(DataError, match="one arm alone, 'mail'"):
        read_experiment(rows.query("arm == 'mail'"), treatment="arm")
    with pytest.raises(DataError, match="say which is the control"):
        read_experiment(rows.replace({"arm": {"none": "other"}}), treatment="arm")
    with pytest.raises(DataError, match="one arm alone"):
        read_experiment(rows.query("arm == 'none'"), treatment="arm")
    with pytest.raises(DataError, match="no arm 'x'"):
        read_experiment(rows, treatment="arm", control="x")
    with pytest.raises(DataError, match="no column 'group'"):
        read_experiment(rows, treatment="group")
    with pytest.raises(DataError, match="shares are of"):
        read_experiment(rows, treatment="arm", shares={"a": 1})
    with pytest.raises(DataError, match=r"country: \d+ values are no numbers"):
        analyse(read_experiment(rows, treatment="arm"), [Metric("bought", before=("country",))])
    with pytest.raises(DataError, match="no column 'visits'"):
        analyse(read_experiment(rows, treatment="arm"), [Metric("visits")])


def test_fifty_segments_without_an_effect_show_none():
    rng = np.random.default_rng(9)
    found = 0
    for _ in range(50):
        groups = [pd.DataFrame({"g": rng.integers(50, size=10_000)}) for _ in range(2)]
        effects = segment_effects(*(rng.normal(size=10_000) for _ in range(2)), *groups).effects
        found += any(effect.found for effect in effects)
    assert found <= 7


def test_shrunken_effects_are_nearer_to_the_truth_and_hold_it():
    rng = np.random.default_rng(10)
    better = held = 0
    for _ in range(200):
        error = rng.uniform(0.5, 1.5, 20)
        truth = 1 + rng.normal(0, 0.5, 20)
        seen = truth + error * rng.normal(size=20)
        found = shrink(seen, error)
        best = np.array([i.estimate for i in found])
        better += ((best - truth) ** 2).mean() < ((seen - truth) ** 2).mean()
        held += np.mean([i.low <= t <= i.high for i, t in zip(found, truth, strict=True)])
    assert better > 190
    assert 0.93 <= held / 200 <= 0.98


def test_a_small_segment_is_not_judged():
    groups = pd.DataFrame({"g": ["a"] * 990 + ["b"] * 10})
    rng = np.random.default_rng(11)
    small = segment_effects(rng.normal(5, 1, 1000), rng.normal(0, 1, 1000), groups, groups).effects[1]
    assert small.small
    assert not small.found
    assert np.isnan(small.p_adjusted)


def test_people_of_whom_a_group_is_not_known_are_one_and_lose_nobody():
    rng = np.random.default_rng(11)
    groups = pd.DataFrame({"g": pd.Series(["nan", None, "a", np.nan] * 250, dtype=object)})
    found = segment_effects(rng.normal(size=1000), rng.normal(size=1000), groups, groups).effects
    assert {e.group: e.difference.n_treated for e in found} == {"(not known)": 500, "a": 250, "nan": 250}
    rows = shop(15).assign(country=lambda rows: rows.country.where(rows.country != "DE"))
    lost = rows[rows.country.notna() | (rows.arm == "none") | (rng.random(len(rows)) > 0.5)]
    told = analyse(read_experiment(lost, treatment="arm", segments=["country"]), [Metric("bought")]).verdict.sentence
    assert ": country = (not known): " in told


def test_a_plan_finds_what_it_was_made_for():
    rng = np.random.default_rng(12)
    planned = plan(spread=1.0, effect=0.2)
    n = planned.people // 2
    found = [difference_of_means(rng.normal(0.2, 1, n), rng.normal(0, 1, n)).p_value < 0.05 for _ in range(400)]
    assert 0.74 <= np.mean(found) <= 0.86
    assert detectable(np.sqrt(2 / n)) == pytest.approx(0.2, rel=1e-2)
    with pytest.raises(DataError, match="give one above 0"):
        plan(spread=1.0, effect=0.0)


def test_an_aa_simulation_finds_about_one_in_twenty():
    spend = np.where(np.arange(5000) % 20 == 0, np.exp(3 + np.random.default_rng(13).standard_normal(5000)), 0)
    found = aa_simulation(spend, treated_share=0.3, draws=400).found
    assert found.low <= 0.05 <= found.high


def test_hillstrom_as_published():
    if not HILLSTROM.exists():
        pytest.skip(f"{HILLSTROM} is not there")
    rows = pd.read_parquet(HILLSTROM)
    before = ["recency", "history", "mens", "womens", "zip_code", "newbie", "channel"]
    experiment = read_experiment(rows, treatment="segment", before=before, segments=["channel"])
    found = analyse(experiment, [Metric("visit"), Metric("spend", before=("history",))])
    assert not [check for check in found.checks if check.status == "failed"]
    assert found.verdict.sentence.startswith("Act: Mens E-Mail. It raises visit by 0.0766")
    womens = next(c for c in found.comparisons if c.arm == "Womens E-Mail" and c.metric.outcome == "spend")
    assert womens.raw.treated.estimate == pytest.approx(1.0772, abs=1e-4)
    assert womens.raw.control.estimate == pytest.approx(0.6528, abs=1e-4)


def test_weeks_without_a_control_are_not_compared_but_counted_so_far():
    days = pd.Series(pd.date_range("2026-01-01", periods=28, tz="UTC"))
    found = over_time(np.ones(28), np.zeros(7), days, days[14:21])
    assert [period.start for period in found] == ["2026-01-15", "2026-01-22"]
    assert found[1].difference is None
    assert found[1].so_far.n_treated == 28
    with pytest.raises(DataError, match="none missing"):
        over_time(np.ones(28), np.zeros(7), days, days)


def test_two_experiments_on_the_same_people_are_seen_when_one_leans_on_the_other():
    rows = shop(14, people=20_000)
    rng = np.random.default_rng(2)
    apart = rows.assign(other=rng.random(len(rows)) < 0.5)
    bound = rows.assign(other=rng.random(len(rows)) < np.where(rows.arm == "mail", 0.55, 0.45))
    for table, kind in ((apart, "passed"), (bound, "failed")):
        experiment = read_experiment(table, treatment="arm", segments=["other"])
        found = {check.name: check.status for check in analyse(experiment, [Metric("bought")]).checks}
        assert found["sizes of the arms in each segment"] == kind
