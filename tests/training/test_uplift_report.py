"""A table of any experiment becomes its report: profit decides where there is a cost, bad tables are told why."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import training.uplift_report
from data.errors import DataError
from evaluation.experiments import Nothing
from evaluation.intervals import Interval
from evaluation.uplift_report import Run, UpliftReport, text
from training import uplift
from training.uplift_report import run_of, uplift_report

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


def test_an_outcome_that_nobody_has_is_no_error() -> None:
    rows = shop()
    rows["visit"] = 0
    found = told(rows, before=["age"])
    assert found.verdict.kind == "cannot tell"
    assert found.left_out.startswith("Left out: ")


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
    with pytest.raises(DataError, match=r"^joined: not all are dates: .*Write them like 2026-01-31\.$") as told_why:
        told(rows, date="joined")
    assert "\n" not in str(told_why.value)


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
