"""The report of decisions on a simulated shop: the arms as drawn, effects beside the truth, refusals with a remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.main import app
from data.checks import check
from data.errors import DataError
from data.workspace import Workspace
from evaluation.campaigns import time_to_conversion
from evaluation.experiments import Metric, analyse, difference_of_means, read_experiment
from evaluation.units import Unit
from evaluation.uplift_report import UpliftReport, write
from registry.versions import Registry
from simulation.shop import simulate
from training import campaign_report as reporting
from training import uplift
from training.campaign_report import campaign_report


def refuse(*_: object, **__: object) -> None:
    raise DataError("not asked for in this test.")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """2,500 people, decided for at 0, 30 and 60 days; a fifth by chance, a tenth left alone."""
    workspace = Workspace.create(tmp_path_factory.mktemp("decided") / "shop", currency="EUR")
    simulate(workspace, users=2_500, days=90, seed=1)
    check(workspace)
    return workspace


@pytest.fixture(scope="module")
def campaign(simulated: Workspace) -> UpliftReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "learn", refuse)
        return campaign_report(simulated, campaign="offers-002")


def test_arms_are_as_they_were_drawn_and_nobody_is_lost(simulated: Workspace, campaign: UpliftReport) -> None:
    decisions = pd.read_parquet(simulated.checked_dir / "decisions.parquet")
    mine = decisions[(decisions.kind == "offer") & (decisions["at"] >= decisions["at"].min() + pd.Timedelta(days=58))]
    assert dict(campaign.analysis.arms) == {arm: int((mine.arm == arm).sum()) for arm in ("holdout", "random", "usual")}
    checks = {check.name: check for check in campaign.analysis.checks}
    assert "failed" not in {check.status for check in checks.values()}
    assert "planned 70.0 %" in checks["sizes of the arms"].finding
    assert campaign.campaign is not None
    steps = {step.name: step.decisions for step in campaign.campaign.funnel}
    assert sum(steps.values()) == campaign.run.rows
    assert steps["left alone"] == campaign.analysis.arms["holdout"]


def test_profit_decides_and_the_guardrail_stands_beside_it(campaign: UpliftReport) -> None:
    first = campaign.headline[0]
    assert (first.metric.told, first.control, campaign.arm) == ("profit per person", "holdout", "usual")
    assert [c.metric.told for c in campaign.headline if c.metric.guardrail] == ["unsubscriptions"]
    assert {c.control for c in campaign.earned} == {"random"}
    soon = campaign.campaign.soon["usual"]
    bought = next(c for c in campaign.headline if c.metric.told == "people with an order")
    assert soon.by(14).estimate == pytest.approx(bought.raw.treated.estimate, abs=1e-9)  # all were watched so long
    assert campaign.periods["usual"][-1].so_far.interval.estimate == pytest.approx(first.raw.interval.estimate)


def test_choices_are_worth_what_the_simulation_made_them_worth(simulated: Workspace, campaign: UpliftReport) -> None:
    [offers] = campaign.offers
    truth = np.stack(pd.read_parquet(simulated.path / "truth" / "people.parquet").offer_profit).mean(axis=0)
    value = {row.name: row.value for row in offers.found.rows}
    for number, true in enumerate(truth, start=1):
        one, nobody = value[f"offer-{number} to all"], value["nobody"]
        error = np.hypot(one.high - one.low, nobody.high - nobody.low) / 2 / 1.96
        assert abs(one.estimate - nobody.estimate - true) < 4 * error


def test_the_page_is_whole_and_the_same_again(simulated: Workspace, campaign: UpliftReport, tmp_path: Path) -> None:
    for name in ("a.html", "b.html", "a.json"):
        write(campaign, tmp_path / name)
    page = (tmp_path / "a.html").read_text()
    assert page == (tmp_path / "b.html").read_text()
    assert not any(outside in page for outside in ("http", "<script", "<link", "url(", "nan "))
    order = ["Can it be trusted?", "Scorecard", "Usual against every other arm", "Who, and how many", "Which offer?",
             "Over time and by channel", "How soon people order", "Segments", "From decision to message", "Limits",
             "Words", "How it was made"]  # fmt: skip
    places = [page.index(f">{title}") for title in order]
    assert places == sorted(places)
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert numbers["sentences"]["verdict"] == campaign.verdict.sentence
    assert len(page) < 500_000
    assert campaign.campaign is not None
    nobody = {**campaign.campaign.soon, "late": time_to_conversion(np.full(5, np.nan), np.ones(5))}
    write(replace(campaign, campaign=replace(campaign.campaign, soon=nobody)), tmp_path / "nobody.html")
    row = (tmp_path / "nobody.html").read_text().partition('<th scope="row">late</th>')[2].partition("</tr>")[0]
    assert "0.0 %" in row
    assert "interval" not in row


def test_all_decisions_leave_out_kinds_for_which_nobody_was_left_alone(
    simulated: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "learn", refuse)
    found = campaign_report(simulated)
    assert found.run.options["decisions"] == "offer"
    assert any("kind variant" in note for note in found.notes)
    assert found.headline[0].running is not None  # who looks every week may do so
    assert found.verdict.interval.high - found.verdict.interval.low > np.ptp(
        [found.headline[0].decisive.interval.low, found.headline[0].decisive.interval.high]
    )
    wordings = campaign_report(simulated, kinds=["variant"])
    assert wordings.headline[0].metric.told == "clicks"
    assert wordings.headline[0].control == "usual"
    assert any("Nobody was left alone" in note for note in wordings.notes)


def test_who_gains_is_learnt_from_people_of_two_arms(simulated: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def seen(experiment: object, drawn: np.ndarray, *_: object, **__: object) -> None:
        asked["people"] = len(drawn)
        raise DataError("seen.")

    monkeypatch.setattr(reporting, "learn", seen)
    found = campaign_report(simulated, campaign="offers-001", days=7)
    assert found.left_out == "Left out: seen."
    assert asked["people"] == found.analysis.arms["usual"] + found.analysis.arms["holdout"]


def test_where_people_are_shared_out_anew_the_last_period_is_reported(
    simulated: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "learn", refuse)
    workspace = Workspace.create(tmp_path / "shop")
    for file in simulated.checked_dir.glob("*.parquet"):
        shutil.copy(file, workspace.tables_dir)
    decisions = pd.read_parquet(simulated.checked_dir / "decisions.parquet")
    first = (decisions["at"].min() - pd.Timestamp(0, tz="UTC")).days
    period, border = next(  # of periods with a border after the first decisions, and none after that
        (p, -(-(first + 2) // p) * p) for p in range(61, 121) if -(-(first + 2) // p) * p < first + 30
    )
    start = pd.Timestamp(0, tz="UTC") + pd.Timedelta(days=border)
    late = decisions["at"] >= start
    swapped = decisions.arm.map({"usual": "random", "random": "usual", "holdout": "holdout"})
    decisions["arm"] = decisions.arm.where(~late, swapped)
    decisions.to_parquet(workspace.tables_dir / "decisions.parquet")
    monkeypatch.setenv("ATTUNE_ARMS__PERIOD_DAYS", str(period))
    check(workspace)
    found = campaign_report(Workspace.open(workspace.path))
    assert any(f"every {period} days; this is the period from {start:%Y-%m-%d}" in note for note in found.notes)
    assert next(c for c in found.analysis.checks if c.name == "nobody in two arms").status == "passed"


def test_who_reads_the_newest_week_every_week_errs_no_more_often_than_is_said() -> None:
    rng = np.random.default_rng(0)
    so_far = difference_of_means(rng.normal(size=100), rng.normal(size=100))
    errors = [1 - reporting._at_every_look(so_far, week).interval.level for week in range(1, 201)]
    assert 0.049 < sum(errors) <= 0.05


def test_what_cannot_be_told_is_refused(simulated: Workspace, a_shop: Callable[..., Workspace], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no campaign 'spring'; with decisions there are"):
        campaign_report(simulated, campaign="spring")
    with pytest.raises(DataError, match="none of its messages names a decision"):
        campaign_report(simulated, campaign="email-001")
    with pytest.raises(DataError, match="nobody has been watched for 80 days"):
        campaign_report(simulated, campaign="offers-002", days=80)
    orders = pd.DataFrame({
        "order_id": ["1"], "line_id": ["1"], "user_id": ["ann"], "item_id": ["tea"], "quantity": [1.0],
        "unit_price": [2.0], "occurred_at": pd.to_datetime(["2026-01-01"], utc=True),
    })  # fmt: skip
    with pytest.raises(DataError, match=r"no table decisions.*\[arms\]"):
        campaign_report(a_shop(tmp_path / "shop", orders=orders))


def test_the_verb_writes_both_files_and_keeps_them_in_mlflow(
    simulated: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "learn", refuse)
    words = ["report", "uplift", "--campaign", "offers-002", "--to", str(tmp_path), "--workspace", str(simulated.path)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert {file.name for file in tmp_path.iterdir()} == {"campaign-offers-002.html", "campaign-offers-002.json"}
    registry = Registry.of(simulated)
    with registry.tracking():
        import mlflow

        [run] = mlflow.search_runs(filter_string="tags.model = 'report-uplift'", output_format="list")
        files = {file.path for file in registry.client.list_artifacts(run.info.run_id, "report")}
    assert files == {"report/campaign-offers-002.html", "report/campaign-offers-002.json"}
    assert {"profit_per_person.usual", "profit_per_person.usual_low"} <= set(run.data.metrics)
    with pytest.raises(DataError, match="one of them"):
        CliRunner().invoke(app, ["report", "uplift"], catch_exceptions=False)


def made(people: int = 4000, *, lift: float = 0.2) -> dict[str, pd.DataFrame]:
    """Decisions in all four arms on two channels: what the model chooses makes `lift` more of the people order."""
    rng = np.random.default_rng(0)
    users = np.array([f"u{number:04}" for number in range(people)])
    arm = rng.choice(["model", "random", "usual", "holdout"], people, p=[0.4, 0.2, 0.2, 0.2])
    channel = rng.choice(["email", "sms"], people)
    at = pd.Timestamp("2026-02-01", tz="UTC") + pd.to_timedelta(rng.uniform(0, 5, people), unit="D")
    capped = (rng.random(people) < 0.1) & (arm != "holdout")
    chosen = np.where((arm == "holdout") | capped, "none", np.where(rng.random(people) < 0.5, "tea", "cup"))
    ordered = rng.random(people) < 0.1 + lift * ((arm == "model") & (chosen != "none"))
    decisions = pd.DataFrame({
        "decision_id": users, "user_id": users, "at": at, "kind": "action", "slot": "welcome", "arm": arm,
        "arm_share": pd.Series(arm).map({"model": 0.4}).fillna(0.2), "chosen": [[c] for c in chosen],
        "probability": [[0.5 if c != "none" else 1.0] for c in chosen], "model_version": "actions 1",
        "context": [json.dumps({"campaign_id": "welcome", "channel": c}) for c in channel],
        "suppressed": np.where(capped, '[{"rule": "caps", "reason": "2 in 7 days"}]', None),
    })  # fmt: skip
    sent = chosen != "none"
    messages = pd.DataFrame({
        "message_id": users, "user_id": users, "channel": channel, "campaign_id": "welcome", "decision_id": users,
        "sent_at": at, "opened_at": at + pd.Timedelta(hours=1), "machine_opened": rng.random(people) < 0.3,
    })[sent]  # fmt: skip
    orders = pd.DataFrame({
        "order_id": users, "line_id": "1", "user_id": users, "item_id": "tea", "quantity": 1.0,
        "unit_price": rng.uniform(10, 20, people), "occurred_at": at + pd.Timedelta(days=3),
    })[ordered]  # fmt: skip
    later = pd.DataFrame({"event_id": ["1"], "user_id": ["u0000"], "event": "page_viewed",
                          "occurred_at": [pd.Timestamp("2026-03-01", tz="UTC")]})  # fmt: skip
    items = pd.DataFrame({"item_id": ["tea"], "cost": [6.0]})
    return {"decisions": decisions, "messages": messages, "orders": orders, "events": later, "items": items}


def test_what_the_model_earned_is_held_against_every_arm(
    a_shop: Callable[..., Workspace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "learn", refuse)
    tables = made()
    found = campaign_report(a_shop(tmp_path / "shop", **tables), campaign="welcome")
    assert found.verdict.sentence.startswith("Act: let the model choose. It raises profit per person by")
    assert {c.control for c in found.earned} == {"usual", "random"}
    gained = {c.control: c.decisive for c in found.earned if c.metric.told == "profit per person"}
    true = 0.9 * 0.2 * (15 - 6)  # a tenth of them is held back by a cap
    for found_more in (*gained.values(), found.headline[0].decisive):
        assert found_more.interval.low < true < found_more.interval.high
    steps = {step.name: step.decisions for step in found.campaign.funnel}
    assert steps["held back: cap reached"] == tables["decisions"].suppressed.notna().sum()
    assert steps["sent"] == len(tables["messages"])
    groups = {(m.attribute, m.group) for m in found.campaign.measures}
    assert {("channel", "email"), ("channel", "sms"), ("arm", "model"), ("", "")} <= groups
    opened = next(m for m in found.campaign.measures if m.name == "open rate" and not m.attribute)
    assert opened.value.estimate == 1  # machines' opens are out of both parts
    assert "channel" in found.analysis.segments["model"].differ  # as the context told of everybody
    write(found, tmp_path / "page.html")
    assert "By channel" in (tmp_path / "page.html").read_text()


def worded(people: int = 3000) -> dict[str, pd.DataFrame]:
    """A slot of a page, nothing sent: the model shows `new`, which a fifth click and not a tenth; everybody else `old`.

    Half of the clicks come three weeks later.
    """
    rng = np.random.default_rng(0)
    users = np.array([f"u{number:04}" for number in range(people)])
    arm = rng.choice(["model", "usual", "holdout"], people, p=[0.6, 0.2, 0.2])
    at = pd.Timestamp("2026-02-01", tz="UTC") + pd.to_timedelta(rng.uniform(0, 5, people), unit="D")
    decisions = pd.DataFrame({
        "decision_id": users, "user_id": users, "at": at, "kind": "variant", "slot": "hero", "arm": arm,
        "arm_share": pd.Series(arm).map({"model": 0.6}).fillna(0.2), "model_version": "variants 1",
        "chosen": [["new" if one == "model" else "old"] for one in arm], "probability": [[1.0]] * people,
        "context": '{"campaign_id": "hero"}',
    })  # fmt: skip
    clicked, late = rng.random(people) < np.where(arm == "model", 0.4, 0.2), rng.random(people) < 0.5
    outcomes = pd.DataFrame({
        "outcome_id": users, "decision_id": users, "kind": "click", "at": at + pd.to_timedelta(21.0 * late, unit="D")
    })[clicked]  # fmt: skip
    return {name: rows for name, rows in made().items() if name in ("orders", "items", "events")} | {
        "decisions": decisions,
        "outcomes": outcomes,
    }


def test_the_holdout_of_variants_is_shown_the_oldest_and_clicks_within_the_days_decide(
    a_shop: Callable[..., Workspace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "learn", refuse)
    tables = worded()
    found = campaign_report(a_shop(tmp_path / "shop", **tables), campaign="hero")
    first = found.headline[0]
    assert (first.metric.told, first.control) == ("clicks", "holdout")
    assert found.verdict.sentence.startswith("Act: let the model choose. It raises clicks by")
    made_for, came = tables["decisions"], tables["outcomes"].set_index("decision_id")["at"]
    soon = made_for["user_id"].map(came) - made_for["at"] < pd.Timedelta(days=14)
    assert first.raw.treated.estimate == pytest.approx(soon[made_for.arm == "model"].mean())
    assert found.campaign.asked == (
        "Compared: the model's choices with people shown the slot's oldest variant (holdout)."
    )
    assert any("against holdout, shown the slot's oldest variant, not" in note for note in found.notes)
    assert [step.kind for step in found.campaign.funnel] == ["chosen"]
    [offers] = found.offers
    assert {row.name: row.shares for row in offers.found.rows if row.name in ("holdout", "nobody")} == {
        "holdout": {"new": 0.0, "old": 1.0, "none": 0.0}
    }
    assert offers.found.rows[0].value.estimate == pytest.approx(soon[made_for.arm == "model"].mean())
    write(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text().lower()
    assert "left alone" not in page.replace("nobody was left alone", "")
    late = campaign_report(a_shop(tmp_path / "late", **tables), campaign="hero", days=24)
    assert late.headline[0].raw.treated.estimate > 1.5 * first.raw.treated.estimate


def test_beside_offers_of_which_people_were_left_alone_variants_are_left_out(
    a_shop: Callable[..., Workspace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "learn", refuse)
    tables, slot = made(), worded()["decisions"]
    slot["decision_id"] = "v" + slot["decision_id"]
    tables["decisions"] = pd.concat([tables["decisions"], slot.assign(user_id="v" + slot["user_id"])])
    found = campaign_report(a_shop(tmp_path / "shop", **tables))
    assert found.headline[0].metric.told == "profit per person"
    assert found.run.options["decisions"] == "action"
    assert any("kind variant, for which nobody was left alone" in note for note in found.notes)
    assert found.campaign.asked.endswith("with doing nothing (holdout: people left alone by chance).")


def test_profit_is_after_what_sending_cost(
    a_shop: Callable[..., Workspace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "learn", refuse)
    tables, costs = made(), "[offers.contact_costs]\nemail = 0.5\n"
    free = campaign_report(a_shop(tmp_path / "free", **tables), campaign="welcome")
    dear = campaign_report(a_shop(tmp_path / "dear", settings=costs, **tables), campaign="welcome")
    assert any("nobody told what it costs (setting contact_costs of [offers]" in note for note in free.notes)
    assert any("0.5 USD by email; nobody told it for sms, taken as 0." in note for note in dear.notes)
    mails = tables["messages"].merge(tables["decisions"], on="user_id")
    mails = mails[(mails.channel == "email") & (mails.arm == "model")]
    spent = 0.5 * len(mails) / (tables["decisions"].arm == "model").sum()
    effect = dear.headline[0].decisive.interval
    profit = next(p for p in dear.profits if p.arm == "model")
    assert free.profits == ()
    assert (profit.cost, profit.profit.estimate) == pytest.approx((spent, effect.estimate - spent))
    assert "After cost that is" in dear.sentence
    over = next(
        c.decisive.interval for c in dear.earned if c.metric == dear.headline[0].metric and c.control == "random"
    )
    cost = {p.arm: p.cost for p in dear.profits}
    assert free.kept == {}
    assert dear.kept["random"].estimate == pytest.approx(over.estimate - (cost["model"] - cost["random"]))
    assert dear.analysis.checks == free.analysis.checks  # a cost of everybody sent it is no sign of a leak
    cup = [
        next(r.value.estimate for r in found.offers[0].found.rows if r.name == "cup to all") for found in (free, dear)
    ]
    assert cup[0] - cup[1] == pytest.approx(0.25, abs=0.05)  # half of the messages are mails
    costs = "[offers.contact_costs]\nemail = 50\nsms = 50\n"
    lost = campaign_report(a_shop(tmp_path / "lost", settings=costs, **tables), campaign="welcome")
    assert lost.verdict.kind == "do not"


def test_who_gains_is_told_where_the_control_cost_more_to_send_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplift, "cross_fit", partial(uplift.cross_fit, folds=2))
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"arm": np.tile(["usual", "model"], 400), "orders_before": rng.integers(9, size=800)})
    profit = rng.gamma(2, 10, 800) + people["orders_before"].to_numpy()
    experiment = read_experiment(
        people.assign(profit=profit), treatment="arm", control="usual", before=["orders_before"]
    )
    analysis, unit = analyse(experiment, [Metric("profit")]), Unit("money", "EUR")
    same, cheaper = (reporting._who(experiment, profit, analysis, "model", unit, cost=cost) for cost in (0.0, -2.0))
    assert same[0] is not None
    assert cheaper[0] is not None, cheaper[1]
    assert cheaper[0].curve.gain[-1] == pytest.approx(same[0].curve.gain[-1] + 2, abs=0.1)


def test_a_campaign_without_decisions_is_described_and_nothing_claimed(
    a_shop: Callable[..., Workspace], tmp_path: Path
) -> None:
    tables = made()
    tables["messages"] = tables["messages"].drop(columns="decision_id").assign(campaign_id="newsletter")
    shop = a_shop(tmp_path / "shop", **tables)
    result = CliRunner().invoke(app, ["report", "uplift", "--campaign", "newsletter", "--workspace", str(shop.path)])
    assert result.exit_code == 0, result.output
    assert "This cannot tell what the campaign earned" in result.output
    told = json.loads((shop.reports_dir / "campaign-newsletter.json").read_text())
    sent = tables["messages"]
    assert told["counts"]["sent"] == told["people"] == len(sent)
    assert told["counts"]["opened"] == (~sent.machine_opened).sum()
    assert {m["group"] for m in told["measures"] if m["attribute"] == "channel"} == {"email", "sms"}
    page = (shop.reports_dir / "campaign-newsletter.html").read_text()
    assert not any(word in page for word in ("http", "<script", "<link", "url(", "nan ", "raises", "Act:"))
    assert "By the week of the first message" in page
    with pytest.raises(DataError, match="neither a decision nor a message names it"):
        reporting.messages_report(shop, campaign="spring")
