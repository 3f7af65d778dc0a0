"""A table of any experiment becomes its report: profit decides where there is a cost, bad tables are told why."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import training.uplift_report
from data.chance import some_rows
from data.errors import DataError, WorkspaceError
from evaluation.experiments import Metric, Nothing, analyse, read_experiment
from evaluation.intervals import Interval
from evaluation.uplift_report import Run, UpliftReport, text
from features.rules import parse_rule
from training import uplift
from training.uplift_report import plans_of, run_of, uplift_report

RUN = Run("mail.csv", "00", 1, "0", {})


def shop(n: int = 1200, *, seed: int = 0) -> pd.DataFrame:
    """The mail makes half of the old visit and spend 20, and does nothing to the young."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 60, n)
    arm = rng.permutation(n) % 2
    visit = (rng.random(n) < 0.1 + 0.5 * arm * (age > 40)).astype(int)
    return pd.DataFrame({
        "arm": np.where(arm == 1, "mail", "none"), "visit": visit, "spend": 20.0 * visit * rng.uniform(0.5, 1.5, n),
        "age": age, "town": rng.choice(["Graz", "Linz"], n),
    })  # fmt: skip


def told(rows: pd.DataFrame, **options: object) -> UpliftReport:
    return uplift_report(rows, treatment="arm", outcome="visit", run=RUN, **options)  # type: ignore[arg-type]


def test_who_gains_is_found_and_what_it_earns_after_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplift, "cross_fit", partial(uplift.cross_fit, folds=2))
    found = told(shop(), money="spend", margin=0.5, costs=1.0, currency="EUR", before=["age", "town"])
    assert found.sentence.startswith("Act: send mail. It raises spend per person by ")
    [profit] = found.profits
    earned = found.money.change(profit.profit, times=1000)
    assert f" After cost that is {earned} per 1,000 people (" in found.sentence
    effect = found.analysis.comparisons[0].decisive.interval
    assert profit.profit.estimate == pytest.approx(0.5 * effect.estimate - 1)
    assert found.who is not None
    assert found.who.differ
    assert found.who.curve.best_share.estimate == pytest.approx(0.5, abs=0.15)
    assert found.who.unit.currency == "EUR"
    assert [offers.outcome for offers in found.offers] == ["profit after cost", "visit"]
    assert "is worth" in found.offers[0].sentence
    assert "age" in found.tree


def test_a_cost_above_what_it_brings_says_do_not() -> None:
    assert told(shop(), money="spend", costs={"mail": 50.0}).verdict.kind == "do not"


def test_without_columns_known_before_the_page_says_what_is_missing() -> None:
    found = told(shop())
    assert found.verdict.kind == "act"
    assert found.who is None
    assert "--before" in found.left_out


def test_an_outcome_that_nobody_or_everybody_has_is_no_error() -> None:
    for visit in (0, 1):
        found = told(shop().assign(visit=visit), before=["age"])
        assert found.verdict.kind == "cannot tell"
        assert found.left_out == "Left out: visit never changes."
        assert "  visit, mail: 0.00 points (not known); the same for everybody" in text(found).splitlines()


def test_a_broken_assignment_is_not_learnt_from() -> None:
    rows = shop(4000)
    rows = rows[(rows.arm == "mail") | (rows.age > 30)]
    found = told(rows, before=["age"])
    assert found.verdict.kind == "not to be trusted"
    assert found.who is None


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"money": "revenue"}, "revenue"),
        ({"costs": {"Mail": 1.0}}, "Mail"),
        ({"before": ["visit"]}, "visit"),
        ({"margin": 0.0}, "margin"),
        ({"margin": np.inf}, "margin"),
        ({"costs": -1.0}, "the cost of mail is -1"),
        ({"costs": {"mail": np.nan}}, "the cost of mail is nan"),
        ({"date": "town"}, "town"),
        ({"control": "nothing"}, "nothing"),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, object], word: str) -> None:
    with pytest.raises(DataError, match=word):
        told(shop(), **options)


def test_two_files_have_two_fingerprints(tmp_path: Path) -> None:
    shop(50).to_csv(tmp_path / "mail.csv", index=False)
    shop(50).to_parquet(tmp_path / "mail.parquet")
    assert run_of(tmp_path / "mail.csv", 50, {}).sha256 != run_of(tmp_path / "mail.parquet", 50, {}).sha256


def test_people_in_two_arms_are_found_by_a_column_of_ids() -> None:
    rows = shop(1000).assign(Customer_ID=range(1000))
    both = rows.head(50).assign(arm=["mail" if arm == "none" else "none" for arm in rows.arm.head(50)])
    found = told(pd.concat([rows, both]))
    assert found.verdict.kind == "not to be trusted"
    assert found.analysis.left_out == {"in two arms": 100}
    assert "50 of 1,000 people (5.0 %) were in two arms" in found.sentence


def test_the_profit_told_is_as_sure_as_the_verdict_on_one_of_two_arms() -> None:
    rows = shop(1500)
    rows.loc[rows.index[::3], "arm"] = "call"
    found = told(rows, money="spend", costs=1.0, margin=0.5)
    assert found.verdict.interval.level == pytest.approx(0.975)
    assert " EUR per 1,000 people" in told(rows, costs=0.1, currency="EUR").sentence  # also where no money is told
    [profit] = [p.profit for p in found.profits if p.arm == found.arm]
    assert (profit.low, profit.level) == (pytest.approx(0.5 * found.verdict.interval.low - 1), pytest.approx(0.975))


def test_an_unusual_plan_can_be_told() -> None:
    rows = shop(20_000)
    rows = rows.drop(rows[rows.arm == "mail"].index[:800])
    assert told(rows).verdict.kind == "not to be trusted"
    assert told(rows, shares={"none": 10_000, "mail": 9_200}).verdict.kind == "act"


def test_an_arm_of_five_is_told_as_too_few() -> None:
    rows = shop(2000)
    rows.loc[rows.index[rows.visit == 0][:5], "arm"] = "vip"
    words = text(told(rows)).splitlines()
    [vip] = [line for line in words if "visit, vip" in line]
    assert vip.endswith("too few people to believe it")
    rows = rows[rows.arm != "mail"]
    alone = told(rows, money="spend", costs=1.0)
    assert alone.sentence.startswith("The data cannot tell: too few people stand behind spend per person")
    assert "After cost" not in alone.sentence
    assert alone.plans == ()
    assert "  warning: sizes of the arms" in words


def test_an_arm_split_with_nothing_done_is_among_the_checks() -> None:
    [check] = [check for check in told(shop()).analysis.checks if check.name == "nothing done, nothing found"]
    assert check.status == "passed"
    assert 0.01 < check.value < 0.1
    few = told(shop(60))
    assert few.analysis.checks[-1].status == "not checked"


def test_amounts_whose_intervals_are_too_narrow_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Nothing(200, Interval(0.2, 0.15, 0.26, 0.95))
    monkeypatch.setattr(training.uplift_report, "aa_simulation", lambda *_, **__: found)
    report = told(shop())
    assert report.analysis.checks[-1].status == "warning"
    assert report.verdict.kind == "act"  # a warning stands beside the verdict


def test_a_column_that_has_no_dates_is_told_in_a_line() -> None:
    rows = shop(200).assign(joined="41")
    with pytest.raises(
        DataError, match=r"^joined: 200 values are no dates \(first: '41'\)\. Write them like 2026-01-31\.$"
    ):
        told(rows, date="joined")


@pytest.mark.parametrize("gaps", [False, True])
def test_dates_may_be_whole_numbers(gaps: bool, recwarn: pytest.WarningsRecorder) -> None:
    warnings.simplefilter("always")
    days = 20260101 + np.arange(1000) % 20
    rows = shop(1000).assign(joined=np.where(np.arange(1000) < 100, np.nan, days) if gaps else days)
    last = told(rows, date="joined").periods["mail"][-1].so_far
    assert last.n_treated + last.n_control == (900 if gaps else 1000)
    assert not [one for one in recwarn if "to_datetime" in str(one.message)]
    with pytest.raises(DataError, match=r"^joined: 1000 values are no dates \(first: '1769817600'\)"):
        told(rows.assign(joined=1769817600), date="joined")


def test_people_without_a_date_are_left_out_over_time_and_told() -> None:
    rows = shop(1000).assign(joined=pd.Timestamp("2026-01-01"))
    rows["joined"] += pd.to_timedelta(np.arange(1000) % 20, unit="D")
    rows.loc[:99, "joined"] = None
    found = told(rows, date="joined")
    last = found.periods["mail"][-1].so_far
    assert last.n_treated + last.n_control == 900
    assert "100 people without a date are left out of what is told over time." in found.notes
    assert sum(found.analysis.arms.values()) == 1000


def test_a_rule_that_does_not_fit_is_told_before_anything_is_learnt() -> None:
    with pytest.raises(WorkspaceError, match=r"'agee' is no column known before \(column 1\); did you mean 'age'\?"):
        told(shop(200), before=["age"], rule=parse_rule("agee > 50 -> mail else none"))
    with pytest.raises(WorkspaceError, match="'sms' is no arm"):
        told(shop(200), before=["age"], rule=parse_rule("age > 50 -> sms else none"))


def test_the_verdict_is_told_as_exactly_as_what_was_known_before_allows() -> None:
    rng = np.random.default_rng(0)
    past = rng.gamma(1, 60, 4000)
    rows = pd.DataFrame({"arm": np.tile(["none", "mail"], 2000), "past": past})
    rows["visit"] = past + 2 * (rows.arm == "mail") + rng.normal(0, 3, 4000)
    assert " by 2.0" in told(rows, before=["past"]).verdict.sentence  # by 2, and by 2 to 2 it said


def test_columns_named_twice_count_once() -> None:
    found = told(shop(1000), money="visit", costs=0.1, before=["age", "age"])
    assert [c.metric.told for c in found.analysis.comparisons] == ["visit"]
    assert len(found.analysis.balance) == 1


def test_numbers_with_a_decimal_comma_are_numbers_known_before() -> None:
    rows = shop(1000).assign(age=lambda rows: [f"{age:.2f}".replace(".", ",") for age in rows.age])
    comparison = told(rows, before=["age"]).analysis.comparisons[0]
    assert comparison.adjusted is not None
    assert comparison.variance_reduction > 0


def test_arms_that_are_numbers_are_told_with_their_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplift, "cross_fit", partial(uplift.cross_fit, folds=2))
    rows = shop().assign(arm=lambda rows: (rows.arm == "mail").astype(int))
    rule, run = parse_rule("age > 40 -> 1 else 0"), replace(RUN, options={"treatment": "arm"})
    found = uplift_report(rows, treatment="arm", outcome="visit", before=["age"], rule=rule, run=run)
    assert found.who is not None
    assert found.who.arm == "arm 1"
    assert {row.name for row in found.offers[0].found.rows} >= {"arm 1 to all", "nobody", rule.text}
    assert "arm 1" in found.tree
    assert "  visit, arm 1: " in text(found)


def test_too_few_people_are_not_learnt_from() -> None:
    rows = shop(2000)
    rows["spend"] = np.where(np.arange(2000) == rows.index[rows.visit == 1][0], 1e6, rows.spend)
    found = told(rows, money="spend", costs=0.1, before=["age"])
    assert found.verdict.kind == "cannot tell"
    assert found.who is None
    assert found.left_out == "Left out: too few people stand behind spend to learn from."
    assert "  mail: too few people to tell profit" in text(found).splitlines()


def test_an_arm_that_is_not_among_the_people_drawn_to_learn_from_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.uplift_report, "MOST_LEARNT", 600)
    monkeypatch.setattr(uplift, "cross_fit", partial(uplift.cross_fit, folds=2))
    rows = shop()
    rows.loc[np.setdiff1d(rows.index, some_rows(1200, 600, seed=0))[:2], "arm"] = "vip"
    found = told(rows, before=["age"])
    assert found.verdict.kind == "act"
    assert found.left_out.startswith("Left out: vip: 0 people to learn from; at least 50 are needed.")


def test_where_only_some_are_worth_it_the_verdict_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplift, "cross_fit", partial(uplift.cross_fit, folds=2))
    found = told(shop(3000), money="spend", margin=0.5, costs=3.5, before=["age"])
    assert found.verdict.kind == "do not"
    assert " But people differ: choosing for each person is worth +" in found.sentence
    assert "“nobody”" in found.sentence


def test_nobody_is_told_to_decide_for_all_alike_where_choosing_is_worth_more() -> None:
    rng = np.random.default_rng(4)
    rare, arm = rng.random(1500) < 0.08, rng.permutation(1500) % 2
    rows = pd.DataFrame({"arm": np.where(arm == 1, "mail", "none"), "rare": rare.astype(int)})
    rows["visit"] = (rng.random(1500) < 0.4 + arm * np.where(rare, -0.28, 0.1)).astype(int)
    found = told(rows.assign(other=rng.normal(size=1500)), before=["rare", "other"])
    assert found.who is not None
    assert not found.who.differ
    assert "Choosing for each person is worth +" in found.offers[0].sentence
    assert "alike" not in found.who.sentence
    assert "what it chooses for each person is shown to be worth more" in found.who.sentence
    assert found.who.how_many.startswith("As many as the model chooses")


def test_choosing_is_not_told_in_money_that_too_few_people_stand_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplift, "cross_fit", partial(uplift.cross_fit, folds=2))
    rows = shop()
    rows["visit"] = np.where((rows.age > 40) == (rows.arm == "mail"), rows.visit, 1 - rows.visit)
    rows["spend"] = 0.0
    for old, arm in ((True, "mail"), (False, "none")):
        rows.loc[rows.index[((rows.age > 40) == old) & (rows.arm == arm)][:7], "spend"] = 100.0
    found = told(rows, money="spend", before=["age"])
    assert not found.headline[1].decisive.enough
    assert [offers.outcome for offers in found.offers] == ["visit"]
    assert any("Which offer is not told by spend" in note for note in found.notes)


def test_of_three_arms_the_plan_is_as_sure_as_the_verdict_and_counts_days_of_both() -> None:
    rng = np.random.default_rng(2)
    rows = shop(3000)
    rows["arm"] = rng.choice(["none", "mail", "call"], 3000)
    rows["visit"] = (rng.random(3000) < 0.2 + 0.03 * (rows.arm == "mail")).astype(int)
    rows["joined"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(3000) % 30, unit="D")
    report = told(rows, date="joined")
    more, [plan, _] = report.verdict.more_people, report.plans
    assert more
    found = report.headline[0].decisive
    assert plan.people == pytest.approx(found.n_treated + found.n_control + more, rel=0.01)
    assert plan.days == pytest.approx(plan.people / (100 * 2 / 3), rel=0.05)


def test_the_plan_of_an_experiment_that_runs_asks_for_as_many_people_as_its_verdict() -> None:
    rng = np.random.default_rng(10)
    rows = pd.DataFrame({"arm": np.tile(["none", "mail"], 4000)})
    rows["visit"] = (rng.random(8000) < 0.2 + 0.022 * (rows.arm == "mail")).astype(int)
    analysis = analyse(read_experiment(rows, treatment="arm"), [Metric("visit")], planned_people=8000)
    assert analysis.verdict.more_people
    plan, _ = plans_of(analysis, "mail")
    assert plan.people == pytest.approx(8000 + analysis.verdict.more_people, rel=1e-3)


def test_where_the_data_did_not_decide_it_says_how_many_people_would() -> None:
    rows = shop(2000)
    rng = np.random.default_rng(1)
    rows["visit"] = (rng.random(2000) < 0.2 + 0.02 * (rows.arm == "mail")).astype(int)
    rows["joined"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(2000) % 20, unit="D")
    report = told(rows, date="joined")
    assert report.verdict.kind in {"keep testing", "cannot tell"}
    first, second = report.plans
    assert second.people == pytest.approx(4 * first.people, rel=1e-3)
    assert first.days == pytest.approx(first.people / 100)
    verdict = report.verdict
    if verdict.more_people:  # one way to say it: the verdict's level is that of one arm
        assert first.people == pytest.approx(2000 + verdict.more_people, rel=0.01)
    assert told(shop()).plans == ()
