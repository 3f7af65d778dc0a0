"""Happenings: what people did, as triggers ask about it, from every table and at no moment too early."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd

from data.tables import Tables
from features.happenings import COLUMNS, changes_of_viewed, happenings, item_changes, lifecycle_changes
from features.online import OnlineHappenings

NOW = pd.Timestamp("2026-06-30", tz="UTC")


def days_ago(*days):
    """Moments before now."""
    return [NOW - timedelta(days=one) for one in days]


def shop(**further) -> Tables:
    """Ann came as a visitor, put tea into the cart and bought it; a message was opened, once by a machine."""
    frames = {
        "users": pd.DataFrame({"user_id": ["ann"], "created_at": days_ago(20)}),
        "identities": pd.DataFrame({"anonymous_id": ["v1"], "user_id": ["ann"], "at": days_ago(20)}),
        "events": pd.DataFrame({
            "event_id": ["1", "2", "3"], "user_id": [None, "ann", "ann"], "anonymous_id": ["v1", None, None],
            "event": ["product_viewed", "product_added", "form_submitted"], "item_id": ["tea", "tea", None],
            "budget": [None, None, "large"], "occurred_at": days_ago(21, 10, 9),
        }),
        "orders": pd.DataFrame({
            "order_id": ["o1", "o2"], "line_id": ["1", "1"], "user_id": ["ann", "ann"], "item_id": ["tea", "tea"],
            "quantity": [2.0, -1.0], "unit_price": [4.0, 4.0], "occurred_at": days_ago(5, 1),
        }),
        "items": pd.DataFrame({"item_id": ["tea"], "category": ["drinks"]}),
        "messages": pd.DataFrame({
            "message_id": ["m1", "m2"], "user_id": ["ann", "ann"], "channel": ["email", "email"],
            "sent_at": days_ago(4, 3), "opened_at": days_ago(4, 3), "machine_opened": [True, False],
        }),
    }  # fmt: skip
    return Tables.from_frames(**{**frames, **further})


def happened(*rows: tuple) -> pd.DataFrame:
    """Rows of `user_id, event, days ago` and further columns."""
    made = []
    for user_id, event, days_ago, *further in rows:
        one = dict.fromkeys(COLUMNS) | {"user_id": user_id, "event": event, "at": NOW - pd.Timedelta(days=days_ago)}
        made.append(one | (further[0] if further else {}))
    frame = pd.DataFrame(made)
    return frame.astype({name: "object" for name in COLUMNS if name not in ("value", "quantity")}).astype(
        {"value": float, "quantity": float}
    )


def told(frame: pd.DataFrame) -> list[tuple]:
    """Event and days ago, the oldest first."""
    rows = frame.sort_values("at", kind="stable")
    return [(event, (NOW - at).days) for event, at in zip(rows["event"], rows["at"], strict=True)]


def test_every_table_tells_what_people_did():
    found = happenings(shop().as_of(NOW), NOW, answers=["budget"]).execute()
    assert set(found["user_id"]) == {"ann"}
    assert told(found) == [
        ("product_viewed", 21), ("signed_up", 20), ("product_added", 10), ("form_submitted", 9), ("order", 5),
        ("open", 3), ("return", 1),
    ]  # fmt: skip
    rows = found.set_index("event")
    assert rows.loc["order", ["item_id", "category", "value"]].tolist() == ["tea", "drinks", 8.0]
    assert rows.loc["form_submitted", "budget"] == "large"


def test_nothing_is_known_before_it_happened_or_reached_us():
    at = NOW - timedelta(days=9, hours=1)
    assert told(happenings(shop().as_of(at), at).execute())[-1] == ("product_added", 10)


def test_an_events_category_is_its_items_whatever_else_the_event_has():
    """`item_category` is what Google Analytics calls one of its parameters."""
    view = {
        "event_id": "1",
        "user_id": "ann",
        "event": "product_viewed",
        "item_id": "tea",
        "occurred_at": days_ago(1)[0],
    }
    tables = shop(
        events=pd.DataFrame([view | {"item_category": None, "category_of": "x"}]).astype({"item_category": str})
    )
    found = happenings(tables.as_of(NOW), NOW).execute()
    assert found.loc[found["event"] == "product_viewed", "category"].tolist() == ["drinks"]


def test_a_shop_without_orders_tells_them_by_its_events():
    events = pd.DataFrame({
        "event_id": ["1"], "user_id": ["bob"], "event": ["order_completed"], "item_id": ["tea"],
        "occurred_at": days_ago(2),
    })  # fmt: skip
    found = happenings(Tables.from_frames(events=events).as_of(NOW), NOW).execute()
    assert sorted(found["event"]) == ["order", "order_completed"]


def test_online_they_are_the_same():
    tables = shop()
    offline = happenings(tables.as_of(NOW), NOW).execute()
    rows = {name: tables[name].to_pyarrow() for name in tables.brought}
    online = OnlineHappenings(tables).compute(rows, NOW.to_pydatetime())
    assert told(online) == told(offline)
    assert list(online.columns) == list(offline.columns)


def test_a_price_that_fell_happens_to_those_who_looked_and_did_not_buy():
    at = [NOW - pd.Timedelta(days=60), NOW - pd.Timedelta(days=2)]
    history = pd.DataFrame({
        "item_id": ["tea", "tea", "pot", "pot"], "updated_at": at * 2, "price": [5.0, 4.0, 9.0, 9.0],
        "available": [True, True, False, True],
    })  # fmt: skip
    changes = item_changes(history)
    assert dict(zip(changes["item_id"], changes["event"], strict=True)) == {
        "tea": "price_dropped",
        "pot": "back_in_stock",
    }
    rows = happened(
        ("ann", "product_viewed", 5, {"item_id": "tea"}),
        ("bob", "product_viewed", 5, {"item_id": "tea"}),
        ("bob", "order", 4, {"item_id": "tea"}),
        ("cat", "product_viewed", 40, {"item_id": "tea"}),
        ("dan", "product_viewed", 1, {"item_id": "tea"}),
        ("eve", "product_added", 9, {"item_id": "pot"}),
    )
    found = changes_of_viewed(rows, changes)
    assert dict(zip(found["user_id"], found["event"], strict=True)) == {"ann": "price_dropped", "eve": "back_in_stock"}
    for user_id, count in {"ann": 1, "bob": 0, "cat": 0, "dan": 0, "eve": 1}.items():
        alone = changes_of_viewed(rows[rows["user_id"] == user_id], changes)
        assert len(alone) == count, user_id
        assert alone.dtypes.equals(rows.dtypes)


def test_a_stage_changes_on_the_day_its_condition_comes_to_hold():
    rows = happened(
        *(("ann", "order", days, {"order_id": str(days)}) for days in (95, 120)),
        ("bob", "order", 400, {"order_id": "b"}),
    )
    found = lifecycle_changes(rows, NOW.to_pydatetime(), days=30)
    assert found[["user_id", "was_stage", "stage"]].to_numpy().tolist() == [["ann", "active", "at risk"]]
    assert found["at"].tolist() == [NOW - pd.Timedelta(days=5)]
