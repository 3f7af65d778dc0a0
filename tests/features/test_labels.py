"""Labels: what happened from the cutoff on, to the day."""

from __future__ import annotations

import pandas as pd
import pytest

from data.errors import DataError, WorkspaceError
from data.settings import Propensity
from data.tables import Tables
from features.labels import label, read


@pytest.fixture
def shop(orders, messages, ago):
    return Tables.from_frames(
        orders=orders(
            ("ann", "o1", "tea", 1, 4.0, 50, {}),
            ("ann", "o2", "cup", 2, 9.0, 0, {"discount": 3.0}),
            ("bob", "o3", "tea", 1, 4.0, 50, {}),
            ("bob", "o4", "tea", 1, 4.0, -10, {}),
            ("carl", "o5", "tea", 1, 4.0, 0.001, {}),
            ("carl", "o6", "tea", -1, 4.0, -1, {}),
            ("dora", "o7", "tea", 1, 4.0, -2, {}),
        ),
        messages=messages(
            ("ann", "email", 3, {"clicked_at": ago(2)}),
            ("bob", "email", 3, {"clicked_at": ago(-2), "opened_at": ago(-2), "unsubscribed_at": ago(-3)}),
            ("carl", "sms", 3, {"opened_at": ago(-2), "machine_opened": True}),
        ),
        items=pd.DataFrame({"item_id": ["tea", "cup"], "category": ["drinks", "kitchen"]}),
    )


def told(shop, cutoff, event, horizon_days=10):
    frame = label(shop, cutoff, Propensity(event=event, horizon_days=horizon_days)).execute()
    return dict(sorted(zip(frame["user_id"], frame["label"], strict=True)))


def test_the_horizon_begins_at_the_cutoff_and_ends_before_its_end(shop, cutoff):
    assert told(shop, cutoff, "order") == {"ann": 1, "bob": 0, "carl": 0}
    assert told(shop, cutoff, "order", horizon_days=11) == {"ann": 1, "bob": 1, "carl": 0}


def test_churn_is_no_order_and_a_return_is_no_order(shop, cutoff):
    assert told(shop, cutoff, "no order") == {"ann": 0, "bob": 1, "carl": 1}


def test_orders_in_a_category_clicks_and_money(shop, cutoff):
    assert told(shop, cutoff, "order in kitchen") == {"ann": 1, "bob": 0, "carl": 0}
    assert told(shop, cutoff, "order in drinks") == {"ann": 0, "bob": 0, "carl": 0}
    assert told(shop, cutoff, "click") == {"ann": 0, "bob": 1, "carl": 0}
    assert told(shop, cutoff, "spend") == {"ann": 15.0, "bob": 0.0, "carl": 0.0}


def test_a_purchase_told_by_an_event_is_an_order(events, cutoff):
    rows = events(("ann", "x", 5, {}), ("ann", "order_completed", -3, {}), ("bob", "x", 5, {}), ("bob", "x", -20, {}))
    assert told(Tables.from_frames(events=rows), cutoff, "order") == {"ann": 1, "bob": 0}


def test_data_that_end_before_the_horizon_are_refused(shop, cutoff):
    with pytest.raises(DataError, match="12 days from 2026-03-01 end on 2026-03-13, but the data end on 2026-03-12"):
        told(shop, cutoff, "order", horizon_days=12)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("open", {"ann": 0, "bob": 1, "carl": 0}),
        ("unsubscribe", {"ann": 0, "bob": 1, "carl": 0}),
        ("return", {"ann": 0, "bob": 0, "carl": 1}),
        ("no click", {"ann": 1, "bob": 0, "carl": 1}),
        ("open where channel == 'sms'", {"ann": 0, "bob": 0, "carl": 0}),
        ("order where quantity > 1 and category in ('kitchen', 'drinks')", {"ann": 1, "bob": 0, "carl": 0}),
        ("no order where money > 100", {"ann": 1, "bob": 1, "carl": 1}),
    ],
)
def test_answers_returns_and_conditions(shop, cutoff, event, expected):
    assert told(shop, cutoff, event) == expected


def test_any_event_is_a_label_with_a_condition_on_its_row(events, cutoff):
    rows = events(
        ("ann", "product_added", 5, {"category": "tea"}),
        ("ann", "product_added", -3, {"category": "tea", "value": 20.0}),
        ("bob", "product_viewed", 5, {}),
        ("bob", "product_added", -3, {"category": "cups"}),
        ("bob", "product_viewed", -20, {}),
    )
    shop = Tables.from_frames(events=rows)
    assert told(shop, cutoff, "product_added") == {"ann": 1, "bob": 1}
    assert told(shop, cutoff, "no product_added where category == 'tea'") == {"ann": 0, "bob": 1}
    assert told(shop, cutoff, "product_added where value > 10") == {"ann": 1, "bob": 0}
    with pytest.raises(DataError, match=r"'product_aded', which this shop did not bring; did you mean 'product_added'"):
        told(shop, cutoff, "product_aded")
    with pytest.raises(WorkspaceError, match=r"'categry' is no column to ask about .* did you mean 'category'"):
        told(shop, cutoff, "product_added where categry == 'tea'")


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ("", "is empty"),
        ("no spend", "'spend' is an amount"),
        ("order where quantity >", "after 'where'.* cannot be read at column 11"),
        ("click where __import__('os')", "is not allowed"),
    ],
)
def test_an_event_that_cannot_be_read_says_where(event, says):
    with pytest.raises(WorkspaceError, match=says) as refused:
        read(event, place="propensity.tea.event")
    assert "propensity.tea.event" in str(refused.value)


@pytest.mark.parametrize(
    ("event", "needs"),
    [
        ("spend", "unit_price"), ("click", "clicked_at"), ("open", "opened_at"), ("unsubscribe", "unsubscribed_at"),
        ("order in x", "category"), ("return", "quantity"), ("churned", "events named 'churned'.*it brought x"),
    ],
)  # fmt: skip
def test_a_label_without_its_columns_is_refused(events, cutoff, event, needs):
    rows = events(("ann", "x", 5, {}), ("ann", "x", -20, {}))
    with pytest.raises(DataError, match=needs):
        told(Tables.from_frames(events=rows), cutoff, event)
