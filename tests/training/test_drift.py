"""Drift of champions: told as it is on the people they learnt from, loud and named where people changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.main import app
from data.checks import check
from data.errors import DataError
from data.workspace import Workspace
from registry.versions import CHAMPION, Registry
from training.drift import check_drift
from training.reference import REFERENCE
from training.scoring import Bulk


@pytest.fixture
def later(shop_with_churn: Workspace, tmp_path: Path) -> Callable[[pd.DataFrame], Workspace]:
    """The shop, with its champion, when other orders were brought."""

    def brought(orders: pd.DataFrame) -> Workspace:
        folder = shutil.copytree(shop_with_churn.path, tmp_path / "shop")
        orders.to_parquet(folder / "tables" / "orders.parquet")
        return Workspace.open(folder)

    return brought


def attune(workspace: Workspace) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["check", "--drift", "--workspace", str(workspace.path)])
    return done.exit_code, " ".join(done.output.split())


def test_a_version_keeps_small_histograms_and_nobodys_row(shop_with_churn: Workspace) -> None:
    registry = Registry.of(shop_with_churn)
    version = registry.version("propensity-churn", CHAMPION)
    assert version is not None
    kept = registry.fetch(version, shop_with_churn.models_dir) / REFERENCE
    assert kept.stat().st_size < 60_000
    assert "person-" not in kept.read_text()


def test_the_end_of_the_data_is_compared_and_the_report_written(shop_with_churn: Workspace) -> None:
    report = check_drift(shop_with_churn, now=check_drift(shop_with_churn).at + timedelta(days=2))
    [churn] = report.models
    assert churn.people > 100
    assert churn.score is not None
    assert (churn.age_horizons, churn.stale) == (0, False)
    assert churn.label_delay_days == 32  # the horizon, and two days since the data end
    told = json.loads((shop_with_churn.reports_dir / "drift.json").read_text())
    assert told["models"][0]["version"] == "propensity-churn 1"
    assert told["alarms"] == report.alarms
    registry = Registry.of(shop_with_churn)
    version = registry.version("propensity-churn", CHAMPION)
    pictures = [one.path for one in registry.client.list_artifacts(version.run_id, "drift")]
    assert f"drift/{report.at:%Y-%m-%d}.png" in pictures


def test_a_shop_that_changed_is_an_alarm_with_names_and_exit_1(
    later: Callable[[pd.DataFrame], Workspace], some_orders: Callable[..., pd.DataFrame]
) -> None:
    orders = some_orders(users=240)
    code, said = attune(later(orders.assign(quantity=12.0)))  # a unit that was mixed up
    assert code == 1
    assert "alarms: train anew, or look into the data" in said
    assert "spend_365d" in said


def test_a_model_that_learnt_too_long_ago_is_stale(
    later: Callable[[pd.DataFrame], Workspace], some_orders: Callable[..., pd.DataFrame]
) -> None:
    orders = some_orders(users=240)
    moved = orders.assign(occurred_at=orders.occurred_at + pd.Timedelta(days=70))
    code, said = attune(later(pd.concat([orders.assign(order_id="old " + orders.order_id), moved])))
    assert code == 1
    assert "ended 2.3 horizons before the data do. It is stale." in said


def test_hours_that_are_still_to_come_are_looked_at_by_nobody(
    later: Callable[[pd.DataFrame], Workspace], some_orders: Callable[..., pd.DataFrame]
) -> None:
    orders, now = some_orders(users=240), pd.Timestamp.now("UTC")
    workspace = later(orders.assign(occurred_at=orders.occurred_at + (now - orders.occurred_at.max())))
    check(workspace)
    report = check_drift(workspace)
    soon = pd.Timestamp.now("UTC") + pd.Timedelta(hours=1)
    assert now < report.at <= soon
    assert now < Bulk.of(workspace).at <= soon
    assert report.models[0].label_delay_days >= 30, "a label is known a horizon after its cutoff"


def test_columns_that_vanished_or_became_empty_are_alarms_by_name(
    later: Callable[[pd.DataFrame], Workspace], some_orders: Callable[..., pd.DataFrame]
) -> None:
    workspace = later(some_orders(users=240).drop(columns="unit_price"))
    check(workspace)
    [churn] = check_drift(workspace).models
    assert any(alarm.startswith("spend_365d is not there any more") for alarm in churn.alarms)
    assert churn.score is None
    assert any("nobody can be scored" in note for note in churn.notes)

    orders = some_orders(users=240).assign(unit_price=float("nan"))
    orders.to_parquet(workspace.path / "tables" / "orders.parquet")
    workspace = Workspace.open(workspace.path)
    check(workspace)
    [churn] = check_drift(workspace).models
    assert {one.name: one.verdict for one in churn.features}["spend_365d"] == "alarm"


def test_a_population_without_people_is_an_alarm(
    later: Callable[[pd.DataFrame], Workspace], some_orders: Callable[..., pd.DataFrame]
) -> None:
    orders = some_orders(users=240)
    guest = orders.tail(1).assign(user_id=None, order_id="guest")
    early = orders.assign(occurred_at=orders.occurred_at - pd.Timedelta(days=200))
    workspace = later(pd.concat([early, guest]))
    check(workspace)
    report = check_drift(workspace)
    assert report.models[0].people == 0
    assert "propensity-churn 1: nobody is left whom it could be asked about" in report.alarms


def test_without_a_champion_the_remedy_is_told(
    a_shop: Callable[..., Workspace], some_orders: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no label has a champion.*attune promote"):
        check_drift(a_shop(tmp_path / "shop", orders=some_orders(users=5)))
