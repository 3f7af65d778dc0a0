"""Odd and dirty data, from the tables to the gate: what is wrong is set aside, told or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.checks import check
from data.errors import DataError
from data.workspace import Workspace
from features.snapshots import span
from registry.versions import CHAMPION, Registry
from training.gate import SUSPECTED_LEAK
from training.jobs import promote, train
from training.labelled import labelled_rows
from training.scoring import score

PEOPLE = 120
END = pd.Timestamp("2026-05-31", tz="UTC")
CHURN = "[propensity.churn]\nhorizon_days = 30\n"


def dirty(orders: pd.DataFrame) -> pd.DataFrame:
    """A third of the people keep their first purchase only; lines that are dated wrongly, cost less than nothing, or
    come back."""
    number = orders["user_id"].str[-3:].astype(int)
    first = orders.groupby("user_id")["order_id"].transform("first")
    orders = orders[(number % 3 > 0) | (orders["order_id"] == first)]
    future, negative, returned = (orders.head(5).assign(order_id=name + orders["order_id"]) for name in "fnr")
    return pd.concat([
        orders,
        future.assign(occurred_at=pd.Timestamp("2099-01-01", tz="UTC")),
        negative.assign(unit_price=-7.0),
        returned.assign(quantity=-1.0),
    ])  # fmt: skip


@pytest.fixture(scope="module")
def shop(
    a_shop: Callable[..., Workspace], some_orders: Callable[..., pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    people = [f"person-{user:03}" for user in range(PEOPLE)]
    users = pd.DataFrame({"user_id": people, "country": "NL", "hobby": pd.Series([None] * PEOPLE, dtype="str")})
    events = pd.DataFrame({"event_id": ["1", "2", "3"], "user_id": people[:3], "event": "account_closed"})
    events["occurred_at"] = pd.to_datetime(["2026-03-01", "2026-03-02", "2026-03-03"], utc=True)
    settings = (
        f'{CHURN}[features]\nattributes = ["hobby"]\n[data]\nmax_bad_share = 0.2\n'
        '[propensity.closing]\nevent = "account_closed"\nhorizon_days = 30\n'
        '[propensity.anything]\nevent = "no account_closed"\nhorizon_days = 30\npopulation = "orders_life > 1"\n'
    )
    folder = tmp_path_factory.mktemp("dirty") / "shop"
    return a_shop(folder, settings, orders=dirty(some_orders(users=PEOPLE)), users=users, events=events)


def test_wrong_lines_are_set_aside_and_the_future_is_not_reached(shop: Workspace) -> None:
    aside = pd.read_parquet(shop.path / "quarantine" / "orders.parquet")["reasons"].explode().value_counts()
    assert aside.to_dict() == {"occurred_at: in the future": 5, "unit_price: negative": 5}
    assert span(shop.checked).end <= END


def test_single_purchases_returns_constants_and_nothing_at_all_are_learnt_from(shop: Workspace) -> None:
    [result] = train(shop, "propensity", label="churn").results
    assert result.test.rows[0].metrics["roc_auc"].estimate > 0.6
    assert promote(shop, "propensity-churn").passed


def test_a_column_that_vanished_is_named_and_no_file_is_left(shop: Workspace, tmp_path: Path) -> None:
    assert score(shop, tmp_path / "all.parquet").rows >= PEOPLE
    path = shop.tables_dir / "orders.parquet"
    brought = pd.read_parquet(path)
    brought.drop(columns="unit_price").to_parquet(path)
    try:
        check(shop)
        with pytest.raises(DataError, match=r"the feature '(spend|order_value)\w*' is not there.*train anew"):
            score(Workspace.open(shop.path), tmp_path / "again.parquet")
    finally:
        brought.to_parquet(path)
        check(shop)
    assert not (tmp_path / "again.parquet").exists()


@pytest.mark.parametrize(("label", "count"), [("closing", "0 of 120 did it"), ("anything", r"\d did not")])
def test_three_positives_one_class_and_hardly_any_negatives_are_refused(
    shop: Workspace, label: str, count: str
) -> None:
    with pytest.raises(DataError, match=rf"propensity\.{label} cannot be learnt.*{count}.*Bring more customers"):
        labelled_rows(shop, label)


def test_a_feature_that_is_the_label_in_disguise_is_named_and_stops_the_promotion(
    a_shop: Callable[..., Workspace], some_orders: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    orders = some_orders(users=PEOPLE)
    last = orders.groupby("user_id")["occurred_at"].max()
    status = np.where(last < END - pd.Timedelta(days=30), "closed", "open")  # written down after the fact
    users = pd.DataFrame({"user_id": last.index, "status": status})
    settings = f'{CHURN}[features]\nattributes = ["status"]\n'
    shop = a_shop(tmp_path / "shop", settings, orders=orders, users=users)
    [result] = train(shop, "propensity", label="churn").results
    assert "status (alone" in result.version.tags[SUSPECTED_LEAK]
    verdict = promote(shop, "propensity-churn")
    assert not verdict.passed
    assert "status (alone" in str(verdict)
    assert Registry.of(shop).version("propensity-churn", CHAMPION) is None
