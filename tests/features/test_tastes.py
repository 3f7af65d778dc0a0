"""What taste features say of tiny shops, worked out by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from data.settings import Features
from data.tables import Tables
from features.snapshots import snapshot

ITEMS = pd.DataFrame({
    "item_id": ["leaf", "pot", "can", "new"],
    "category": ["tea", "tea", "garden", "garden"],
    "price": [5.0, 20.0, 10.0, None],
})  # fmt: skip


@pytest.fixture
def told(cutoff):
    def of(columns, **frames):
        shop = Tables.from_frames(**frames)
        found = snapshot(shop, cutoff, Features(), categories=["tea", "garden"], columns=columns)
        return found.execute().set_index("user_id")

    return of


def test_leanings_are_shares_that_few_events_hardly_move(told, events):
    rows = [("ann", "product_viewed", 400, {"item_id": "leaf"})] * 20 + [
        ("bob", "product_viewed", 1, {"item_id": "can"})
    ]
    found = told(["leaning_tea", "leaning_garden"], events=events(*rows), items=ITEMS)
    assert found.loc["ann"].tolist() == [30 / 40, 10 / 40]
    assert found.loc["bob"].tolist() == [10 / 21, 11 / 21]


def test_the_price_level_is_held_against_all_items_and_against_the_category(told, events):
    rows = [("ann", "product_viewed", 9, {"item_id": item}) for item in ("leaf", "new")]
    found = told(["price_level", "price_level_within"], events=events(*rows), items=ITEMS)
    assert found.loc["ann"].tolist() == pytest.approx([math.log(5 / 10) / 21, math.log(5 / 12.5) / 21], abs=1e-5)


def test_dayparts_sum_to_one(told, events):
    rows = [("ann", "page_viewed", 5 + hours / 24, {}) for hours in (1, 2, 3, 20)]  # 23, 22, 21 and 4 o'clock
    found = told(["night_share", "morning_share", "day_share", "evening_share"], events=events(*rows)).loc["ann"]
    assert found.sum() == pytest.approx(1)
    assert found["evening_share"] == pytest.approx((3 + 20 / 3) / 24)
    assert found["night_share"] == pytest.approx((1 + 5) / 24)


def test_somebody_without_a_priced_item_has_no_price_level(told, events):
    found = told(["price_level"], events=events(("ann", "page_viewed", 1, {"item_id": "new"})), items=ITEMS)
    assert math.isnan(found.loc["ann", "price_level"])
