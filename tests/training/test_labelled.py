"""The rows that models learn from: the same columns for all of them, whichever is asked first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from data.workspace import Workspace
from features.snapshots import span, stored_categories, top_categories
from training.labelled import features_before, snapshots_of, split_of

START = pd.Timestamp("2026-01-01", tz="UTC")
SETTINGS = "[features]\ntop_categories = 1\n[propensity.churn]\nhorizon_days = 30\n"


@pytest.fixture(name="orders")
def _orders(some_orders: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Of ten days tea, of the others cups."""
    orders = some_orders(users=20)
    late = orders["occurred_at"] >= START + pd.Timedelta(days=10)
    return orders.assign(item_id=late.map({False: "tea", True: "cup"}))


def one_decision(kind: str) -> pd.DataFrame:
    """Of the seventh day."""
    at = START + pd.Timedelta(days=6)
    return pd.DataFrame({
        "decision_id": ["1"], "user_id": ["person-001"], "at": [at], "kind": [kind], "slot": ["hero"],
        "arm": ["random"], "arm_share": [1.0], "chosen": [["x"]], "probability": [[0.5]], "model_version": ["even"],
    })  # fmt: skip


ITEMS = pd.DataFrame({"item_id": ["tea", "cup"], "category": ["tea", "cups"]})


def test_an_earlier_look_does_not_take_columns_from_models_that_learnt_before(
    a_shop: Callable[..., Workspace], orders: pd.DataFrame, tmp_path: Path
) -> None:
    made = one_decision("offer")
    shop = a_shop(tmp_path / "shop", SETTINGS, orders=orders, items=ITEMS, decisions=made)
    cutoffs = split_of(shop, "churn").cutoffs
    assert top_categories(shop.checked, cutoffs[0], 1) == ["cups"]
    learnt = snapshots_of(shop, cutoffs)
    features_before(shop, made, most_cutoffs=6)
    assert stored_categories(shop) == ["tea"]
    assert {one.columns for one in snapshots_of(shop, cutoffs).values()} == {learnt[cutoffs[0]].columns}


def test_a_look_before_any_category_was_known_does_not_take_them_either(
    a_shop: Callable[..., Workspace], orders: pd.DataFrame, tmp_path: Path
) -> None:
    made = one_decision("variant")
    only_cups = ITEMS.assign(category=[None, "cups"])
    shop = a_shop(tmp_path / "shop", SETTINGS, orders=orders, items=only_cups, decisions=made)
    cutoffs = split_of(shop, "churn").cutoffs
    before = features_before(shop, made, most_cutoffs=6)
    assert stored_categories(shop) == ["cups"]
    assert snapshots_of(shop, cutoffs)[cutoffs[0]].definitions_hash == before.definitions_hash


def test_what_value_looks_at_first_is_thought_of_too(
    a_shop: Callable[..., Workspace], some_orders: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    orders = some_orders(users=20)
    late = orders["occurred_at"] >= START + pd.Timedelta(days=14)
    orders = orders.assign(item_id=late.map({False: "tea", True: "cup"}))
    shop = a_shop(tmp_path / "shop", SETTINGS + "[value]\nhorizon_days = 44\n", orders=orders, items=ITEMS)
    cutoffs = split_of(shop, "churn").cutoffs
    assert top_categories(shop.checked, cutoffs[0], 1) == ["cups"]
    snapshots_of(shop, cutoffs)
    assert stored_categories(shop) == ["tea"]


def test_a_day_that_is_still_under_way_is_in_no_label(
    a_shop: Callable[..., Workspace], orders: pd.DataFrame, tmp_path: Path
) -> None:
    midnight = pd.Timestamp.now("UTC").floor("D")
    running = orders.assign(occurred_at=orders["occurred_at"] + (midnight - orders["occurred_at"].max()))
    shop = a_shop(tmp_path / "shop", SETTINGS, orders=running)
    assert span(shop.checked).end == midnight + pd.Timedelta(days=1)
    assert split_of(shop, "churn").test == midnight - pd.Timedelta(days=30)
