"""What behaviour features say of tiny shops, worked out by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from data.settings import Features
from data.tables import Tables
from features.snapshots import snapshot


@pytest.fixture
def told(cutoff):
    def of(columns=None, categories=(), **frames):
        found = snapshot(Tables.from_frames(**frames), cutoff, Features(), categories=categories, columns=columns)
        return found.execute().set_index("user_id")

    return of


def test_windows_are_half_open_and_count_each_type(told, events):
    found = told(
        ["page_viewed_1d", "page_viewed_7d", "page_viewed_30d", "events_90d", "days_since_event"],
        events=events(
            ("ann", "page_viewed", 7, {}),
            ("ann", "page_viewed", 7.001, {}),
            ("ann", "page_viewed", 0, {}),
            ("ann", "something_else", 2, {}),
        ),
    )
    assert found.loc["ann"].tolist() == [0, 1, 2, 3, 2.0]


def test_a_session_counts_in_a_window_if_one_of_its_events_does(told, events):
    found = told(
        ["sessions_1d", "sessions_7d", "session_seconds_90d", "session_events_90d", "dwell_7d"],
        events=events(
            ("ann", "page_viewed", 1.5, {"session_id": "s1", "dwell_seconds": 0.1}),
            ("ann", "page_viewed", 0.5, {"session_id": "s1", "dwell_seconds": 0.2}),
            ("ann", "page_viewed", 3, {"session_id": "s2", "dwell_seconds": 0.3}),
        ),
    )
    assert found.loc["ann"].tolist() == [1, 2, 43_200, 1.5, 0.6]


def test_shares_use_the_events_own_category_before_the_items(told, events):
    found = told(
        ["categories_90d", "events_share_tea_90d", "events_share_cups_90d", "category_top_share_90d",
         "category_repeat_days_30d", "brands_90d", "brand_top_share_90d", "items_90d", "items_repeated_90d"],
        categories=["tea", "cups"],
        events=events(
            ("ann", "product_viewed", 1, {"item_id": "i1", "category": None}),
            ("ann", "product_viewed", 2.5, {"item_id": "i1", "category": "cups"}),
            ("ann", "product_viewed", 2.6, {"item_id": "i2", "category": None}),
            ("ann", "product_viewed", 40, {"item_id": "i2", "category": None}),
        ),
        items=pd.DataFrame({"item_id": ["i1", "i2"], "category": ["tea", "tea"], "brand": ["b1", "b2"]}),
    )  # fmt: skip
    assert found.loc["ann"].tolist() == [2, 0.75, 0.25, 0.75, 2, 2, 0.5, 2, 2]


def test_the_trend_holds_the_last_month_against_the_two_before(told, events):
    rows = [("ann", "x", days, {}) for days in (1, 2, 40, 80)]
    assert told(["events_trend"], events=events(*rows)).loc["ann", "events_trend"] == 1.5
    assert told(["events_trend"], events=events(("ann", "x", 200, {}))).loc["ann", "events_trend"] == 1.0


def test_the_open_cart_holds_what_was_added_and_neither_removed_nor_ordered(told, events):
    columns = ["cart_items", "cart_value", "cart_age_days"]
    items = pd.DataFrame({"item_id": ["tea", "cup"], "price": [4.0, 9.0]})
    added = [
        ("ann", "product_added", 5, {"item_id": "tea", "value": 3.5}),
        ("ann", "product_added", 4, {"item_id": "cup", "value": None}),
    ]
    assert told(columns, events=events(*added), items=items).loc["ann"].tolist() == [2, 12.5, 4.0]
    removed = [*added, ("ann", "product_removed", 3, {"item_id": "cup"})]
    assert told(columns, events=events(*removed), items=items).loc["ann"].tolist() == [1, 3.5, 5.0]
    ordered = [*removed, ("ann", "order_completed", 2, {}), ("ann", "product_added", 1, {"item_id": "cup"})]
    assert told(columns, events=events(*ordered), items=items).loc["ann"].tolist() == [1, 9.0, 1.0]
    emptied = told(columns, events=events(*removed, ("ann", "order_completed", 2, {})), items=items).loc["ann"]
    assert emptied.tolist()[:2] == [0, 0.0]
    assert math.isnan(emptied["cart_age_days"])


def test_an_anonymous_past_joins_the_person_once_they_are_named(told, events, ago):
    rows = events(("ann", "x", 1, {"anonymous_id": "a1"}), (None, "x", 20, {"anonymous_id": "a1"}))
    named = pd.DataFrame({"anonymous_id": ["a1"], "user_id": ["ann"], "at": [ago(1)]})
    assert told(["events_30d"], events=rows).loc["ann", "events_30d"] == 1
    assert told(["events_30d"], events=rows, identities=named).loc["ann", "events_30d"] == 2
