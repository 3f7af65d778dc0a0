"""Interactions: weights, decay, returns, guests, and the same answer every time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from data.settings import Recommender
from data.tables import Tables
from data.vocabulary import Vocabulary
from features.interactions import interactions

SETTINGS = Recommender(half_life_days=10)


def rows_of(found):
    users, items = found.users.ids(found.user), found.items.ids(found.item)
    return [(user, item, round(float(w), 4)) for user, item, w in zip(users, items, found.weight, strict=True)]


def test_kinds_weigh_by_the_settings_and_fade_by_half_lives(events, orders, cutoff):
    shop = Tables.from_frames(
        events=events(
            ("ann", "product_viewed", 10, {"item_id": "tea"}),
            ("ann", "product_added", 20, {"item_id": "cup"}),
            ("ann", "page_viewed", 5, {"item_id": "tea"}),
            ("ann", "order_completed", 5, {"item_id": "tea"}),
            ("bob", "product_viewed", 0, {"item_id": "tea"}),
            (None, "product_viewed", 3, {"item_id": "tea"}),
        ),
        orders=orders(("ann", "o1", "hat", 1, 1.0, 30, {})),
    )
    found = interactions(shop, SETTINGS, cutoff=cutoff)
    assert rows_of(found) == [("ann", "hat", 0.625), ("ann", "cup", 0.75), ("ann", "tea", 0.5)]
    assert found.at.tolist() == sorted(found.at)


def test_without_orders_a_purchase_is_told_by_its_event(events, cutoff):
    shop = Tables.from_frames(events=events(("ann", "order_completed", 10, {"item_id": "tea"})))
    assert rows_of(interactions(shop, SETTINGS, cutoff=cutoff)) == [("ann", "tea", 2.5)]


def test_what_was_sent_back_whole_leaves_no_purchase(orders, cutoff):
    shop = Tables.from_frames(
        orders=orders(
            ("ann", "o1", "tea", 2, 1.0, 10, {}),
            ("ann", "r1", "tea", -2, 1.0, 5, {}),
            ("ann", "o2", "cup", 2, 1.0, 10, {}),
            ("ann", "r2", "cup", -1, 1.0, 5, {}),
            ("bob", "o3", "tea", 1, 1.0, 10, {}),
            ("bob", "r3", "tea", -1, 1.0, -5, {}),
        )
    )
    assert rows_of(interactions(shop, SETTINGS, cutoff=cutoff)) == [("ann", "cup", 2.5), ("bob", "tea", 2.5)]


def test_orders_alone_may_count(events, orders, cutoff):
    shop = Tables.from_frames(
        events=events(("ann", "product_viewed", 10, {"item_id": "cup"})),
        orders=orders(("ann", "o1", "tea", 1, 1.0, 10, {})),
    )
    settings = Recommender(half_life_days=10, event_weights={"order": 2.0, "product_viewed": 0.0})
    assert rows_of(interactions(shop, settings, cutoff=cutoff)) == [("ann", "tea", 1.0)]


def test_guests_are_counted_apart_an_order_each(orders, cutoff):
    rows = orders(
        (None, "o1", "tea", 1, 1.0, 10, {}), (None, "o1", "cup", 1, 1.0, 10, {}), ("ann", "o2", "tea", 1, 1, 9, {})
    )
    shop = Tables.from_frames(orders=rows)
    assert interactions(shop, SETTINGS, cutoff=cutoff).users.all_ids.tolist() == ["ann"]
    guests = interactions(shop, SETTINGS, cutoff=cutoff, guests=True)
    assert rows_of(guests) == [("guest:o1", "cup", 2.5), ("guest:o1", "tea", 2.5)]


def test_guests_who_buy_in_the_same_second_are_not_one(events, cutoff):
    rows = events(
        (None, "order_completed", 10, {"item_id": "tea", "anonymous_id": "v1"}),
        (None, "order_completed", 10, {"item_id": "cup", "anonymous_id": "v1"}),
        (None, "order_completed", 10, {"item_id": "hat", "anonymous_id": "v2"}),
        ("ann", "order_completed", 10, {"item_id": "tea"}),
    )
    guests = interactions(Tables.from_frames(events=rows), SETTINGS, cutoff=cutoff, guests=True)
    assert len(guests.users) == 2
    assert [len(items) for _, items in pd.Series(guests.item).groupby(guests.user)] == [2, 1]
    nameless = Tables.from_frames(events=rows.drop(columns="anonymous_id"))
    assert len(interactions(nameless, SETTINGS, cutoff=cutoff, guests=True).users) == 1


def test_the_last_moment_of_a_day_is_not_of_the_next(events, cutoff):
    shop = Tables.from_frames(events=events(("ann", "product_viewed", 0.3 / 86_400, {"item_id": "tea"})))
    found = interactions(shop, SETTINGS, cutoff=cutoff)
    assert found.at.tolist() == [int(cutoff.timestamp()) - 1]


def test_given_items_fix_the_codes_and_leave_out_others(events, cutoff):
    rows = events(("ann", "product_viewed", 1, {"item_id": "tea"}), ("ann", "product_viewed", 2, {"item_id": "cup"}))
    items = Vocabulary(["hat", "tea"])
    found = interactions(Tables.from_frames(events=rows), SETTINGS, cutoff=cutoff, items=items)
    assert found.items is items
    assert found.item.tolist() == [1]


def test_the_order_of_the_rows_changes_nothing(events, cutoff):
    rng = np.random.default_rng(0)
    rows = events(*(
        (f"u{rng.integers(50)}", "product_viewed", float(rng.integers(1, 90)), {"item_id": f"i{rng.integers(30)}"})
        for _ in range(2000)
    ))  # fmt: skip
    one = interactions(Tables.from_frames(events=rows), SETTINGS, cutoff=cutoff)
    other = interactions(Tables.from_frames(events=rows.sample(frac=1, random_state=1)), SETTINGS, cutoff=cutoff)
    assert one.users == other.users
    assert one.items == other.items
    for name in ("user", "item", "weight", "at"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_no_interaction_at_all_is_said(events, cutoff, frames):
    with pytest.raises(DataError, match="no interactions before 2026-03-01"):
        interactions(Tables.from_frames(events=events(("ann", "page_viewed", 1, {}))), SETTINGS, cutoff=cutoff)
    with pytest.raises(DataError, match="no table of events or orders"):
        interactions(Tables.from_frames(items=frames["items"]), SETTINGS, cutoff=cutoff)
    with pytest.raises(DataError, match="no time zone"):
        interactions(Tables.from_frames(**frames), SETTINGS, cutoff=cutoff.replace(tzinfo=None))


def test_the_catalogue_adds_what_is_for_sale_and_nobody_touched(events, cutoff, ago):
    shop = Tables.from_frames(
        events=events(("ann", "product_viewed", 1, {"item_id": "tea"}), ("ann", "product_viewed", 2, {"item_id": "x"})),
        items=pd.DataFrame({
            "item_id": ["cup", "gone", "pot", "tea"], "category": ["kitchen"] * 4,
            "available": [True, False, None, False], "updated_at": [ago(3), ago(3), ago(3), ago(3)],
        }),
    )  # fmt: skip
    found = interactions(shop, SETTINGS, cutoff=cutoff, catalogue=True)
    assert found.items.all_ids.tolist() == ["cup", "pot", "tea", "x"]
    assert found.items.ids(found.item) == ["x", "tea"]
    assert found.attributes.names == ("category=kitchen",)
    assert found.attributes.matrix.toarray().ravel().tolist() == [1, 1, 1, 0]
    given = interactions(shop, SETTINGS, cutoff=cutoff, items=Vocabulary(["tea", "gone"]), catalogue=True)
    assert given.items.all_ids.tolist() == ["tea", "gone"]
    assert given.attributes.matrix.shape == (2, 1)
