"""What transaction features say, worked out by hand and with pandas on a real shop."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from data.settings import Features
from data.tables import Tables
from features.snapshots import feature_names, snapshot


@pytest.fixture
def told(cutoff):
    def of(*columns, categories=(), **frames):
        found = snapshot(Tables.from_frames(**frames), cutoff, Features(), categories=categories, columns=columns)
        return found.execute().set_index("user_id")

    return of


def test_recency_frequency_and_money_in_their_windows(told, orders):
    found = told(
        "orders_life", "orders_7d", "orders_90d", "days_since_order", "days_since_first_order", "spend_life",
        "spend_90d", "order_value_mean", "order_value_first", "basket_size_mean",
        orders=orders(
            ("ann", "o1", "tea", 2, 4.0, 100, {}),
            ("ann", "o1", "cup", 1, 9.0, 100, {"discount": 2.0}),
            ("ann", "o2", "tea", 3, 0.1, 10, {}),
        ),
    )  # fmt: skip
    assert found.loc["ann"].tolist() == [2, 0, 1, 10.0, 100.0, 15.3, 0.3, 7.65, 15.0, 3.0]


def test_a_return_is_no_order_and_no_spend(told, orders):
    found = told(
        "orders_life", "days_since_order", "spend_life", "returned_pieces_life", "return_share",
        orders=orders(("ann", "o1", "tea", 4, 2.0, 50, {}), ("ann", "r1", "tea", -1, 2.0, 5, {})),
    )  # fmt: skip
    assert found.loc["ann"].tolist() == [1, 50.0, 8.0, 1.0, 0.25]


def test_the_rhythm_between_orders_and_how_late_the_next_is(told, orders):
    found = told(
        "order_gap_mean_days", "order_gap_sd_days", "order_gap_last_days", "order_lateness",
        orders=orders(*(("ann", f"o{days}", "tea", 1, 1.0, days, {}) for days in (70, 60, 30))),
    ).loc["ann"]  # fmt: skip
    assert found.tolist() == [20.0, pytest.approx(math.sqrt(200)), 30.0, 1.5]


def test_one_order_has_no_rhythm(told, orders):
    found = told("order_gap_mean_days", "order_lateness", orders=orders(("ann", "o1", "tea", 1, 1.0, 5, {})))
    assert found.loc["ann"].isna().all()


def test_discounts_and_categories_as_shares(told, orders):
    found = told(
        "discount_share", "discounted_lines_share", "orders_share_drinks", "orders_share_kitchen",
        categories=["drinks", "kitchen"],
        orders=orders(
            ("ann", "o1", "tea", 1, 4.0, 5, {"discount": 1.0}),
            ("ann", "o2", "tea", 1, 4.0, 4, {}),
            ("ann", "o2", "cup", 1, 2.0, 4, {}),
            ("ann", "o3", "odd", 1, 0.0, 3, {}),
        ),
        items=pd.DataFrame({"item_id": ["tea", "cup"], "category": ["drinks", "kitchen"]}),
    ).loc["ann"]  # fmt: skip
    assert found.tolist() == pytest.approx([0.1, 0.25, 2 / 3, 1 / 3])


def test_guests_are_nobody(told, orders):
    rows = orders((None, "o1", "tea", 1, 1.0, 5, {}), ("ann", "o2", "tea", 1, 1.0, 5, {}))
    assert told("orders_life", orders=rows).index.tolist() == ["ann"]


def test_purchases_told_by_events_count_without_money(told, events, cutoff):
    rows = events(
        ("ann", "order_completed", 5, {"item_id": "tea"}),
        ("ann", "order_completed", 5, {"item_id": "cup"}),
        ("ann", "order_completed", 2, {"item_id": "cup"}),
        ("bob", "product_viewed", 1, {"item_id": "cup"}),
    )
    found = told("orders_life", "orders_7d", "days_since_order", "basket_size_mean", events=rows)
    assert found.loc["ann"].tolist() == [2, 2, 2.0, 1.5]
    assert found.loc["bob", "orders_life"] == 0
    assert "spend_life" not in feature_names(Tables.from_frames(events=rows), Features())


def test_real_orders_agree_with_pandas(shared_data):
    lines = pd.read_parquet(shared_data / "online_retail" / "lines.parquet")
    frame = pd.DataFrame({
        "order_id": lines["InvoiceNo"],
        "line_id": np.arange(len(lines)).astype(str),
        "user_id": lines["CustomerID"].astype("Int64").astype("string"),
        "item_id": lines["StockCode"],
        "quantity": lines["Quantity"].astype(float),
        "unit_price": lines["UnitPrice"],
        "occurred_at": lines["InvoiceDate"].dt.tz_localize("UTC"),
    })  # fmt: skip
    cutoff = pd.Timestamp("2011-09-01", tz="UTC")
    columns = ["orders_life", "orders_90d", "spend_life", "days_since_order"]
    found = snapshot(Tables.from_frames(orders=frame), cutoff, Features(), columns=columns).execute()
    found = found.set_index("user_id").sort_index()
    known = frame[frame["user_id"].notna() & (frame["occurred_at"] < cutoff)]
    bought = known[known["quantity"] > 0].assign(money=lambda t: t["quantity"] * t["unit_price"])
    by_user = bought.groupby("user_id")
    expected = pd.DataFrame(index=pd.Index(sorted(known["user_id"].unique()), name="user_id"))
    expected["orders_life"] = by_user["order_id"].nunique()
    placed = bought.groupby(["user_id", "order_id"])["occurred_at"].min().reset_index()
    recent = placed[placed["occurred_at"] >= cutoff - pd.Timedelta(days=90)]
    expected["orders_90d"] = recent.groupby("user_id").size()
    expected["spend_life"] = by_user["money"].sum()
    last = placed.groupby("user_id")["occurred_at"].max()
    expected["days_since_order"] = (cutoff - last).dt.total_seconds() / 86_400
    counts = dict.fromkeys(columns[:3], 0)
    pd.testing.assert_frame_equal(
        found.astype(float), expected[columns].fillna(counts).astype(float), check_index_type=False, rtol=1e-9
    )
