"""Decisions of a campaign, those who were left alone included, and what people did since."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from data.errors import DataError
from data.tables import Tables
from features.decided import attributes_before, bought_before, brought, by_week, decided, first_decisions, responses

END = datetime(2026, 3, 1, tzinfo=UTC)


def on(*days: float) -> pd.DatetimeIndex:
    return pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(list(days), unit="D")


@pytest.fixture(scope="module")
def shop() -> Tables:
    decisions = pd.DataFrame({
        "decision_id": ["ann", "bob", "cal", "dan", "eve", "old"],
        "user_id": ["ann", "bob", "cal", "dan", "eve", "ann"],
        "at": on(10, 10.5, 10.2, 10.3, 30, 2), "kind": "offer", "placement": "email",
        "arm": ["usual", "random", "holdout", "random", "holdout", "usual"],
        "arm_share": [0.7, 0.2, 0.1, 0.2, 0.1, 0.7],
        "chosen": [["tea"], ["cup"], ["none"], ["none"], ["none"], ["tea"]],
        "probability": [[0.7], [0.5], [1.0], [0.5], [1.0], [0.7]], "model_version": "rule",
        "context": [None, '{"channel": "email"}', "no json", None, '{"campaign_id": "later"}', None],
    })  # fmt: skip
    messages = pd.DataFrame({
        "message_id": ["1", "2", "3"], "user_id": ["ann", "bob", "ann"], "channel": "email",
        "campaign_id": ["spring", "spring", "winter"], "decision_id": ["ann", "bob", "old"], "sent_at": on(10, 10.5, 2),
        "clicked_at": [*on(11), pd.NaT, pd.NaT], "unsubscribed_at": [pd.NaT, *on(12), pd.NaT],
    })  # fmt: skip
    outcomes = pd.DataFrame({
        "outcome_id": ["1", "2", "3", "4"], "decision_id": ["ann", "bob", "bob", "cal"], "at": on(12, 10.6, 11, 11),
        "kind": ["click", "click", "click", "open"],
    })  # fmt: skip
    orders = pd.DataFrame({
        "order_id": ["1", "2", "2", "3", "4"], "line_id": ["1", "1", "2", "1", "1"],
        "user_id": ["ann", "ann", "ann", "cal", "ann"], "item_id": ["tea", "tea", "cup", "tea", "tea"],
        "quantity": [1.0, 2.0, 1.0, 1.0, -1.0], "unit_price": 10.0, "discount": [0.0, 1.0, 0.0, 0.0, 0.0],
        "offer_id": [None, "tea", "tea", None, None], "occurred_at": on(5, 12, 12, 40, 20),
    })  # fmt: skip
    items = pd.DataFrame({"item_id": ["tea", "cup"], "cost": [4.0, 6.0]})
    offers = pd.DataFrame({"offer_id": ["tea"], "cost": [2.0]})
    users = pd.DataFrame({
        "user_id": ["ann", "ann", "bob"], "member_tier": ["basic", "gold", "silver"], "updated_at": on(1, 12, 1)
    })  # fmt: skip
    return Tables.from_frames(
        decisions=decisions,
        messages=messages,
        outcomes=outcomes,
        orders=orders,
        items=items,
        offers=offers,
        users=users,
    )


def test_who_was_left_alone_belongs_to_the_campaign_that_ran_then(shop: Tables) -> None:
    found = decided(shop, END, campaign="spring").set_index("decision_id")
    assert sorted(found.index) == ["ann", "bob", "cal", "dan"]
    assert found.sent.to_dict() == {"ann": True, "bob": True, "cal": False, "dan": False}
    assert found.clicked_at.dropna().to_dict() == {"ann": on(11)[0], "bob": on(10.6)[0]}
    assert found.loc["dan", ["arm", "chosen"]].tolist() == ["random", "none"]
    assert found.loc["bob", "channel"] == "email"
    assert decided(shop, END, campaign="later").decision_id.tolist() == ["eve"]
    assert len(decided(shop, END)) == 6
    assert len(decided(shop, END, since=on(5)[0].to_pydatetime())) == 5


def test_what_people_did_counts_from_their_own_moment_on_less_what_it_cost(shop: Tables) -> None:
    people = decided(shop, END, campaign="spring")[["user_id", "at"]]
    found = responses(shop, END, people, horizon_days=14)
    ann = found.loc["ann"]
    assert (ann.orders, ann.revenue) == (1, 29.0 - 10.0)  # a return within the time is taken off
    assert ann.profit == 29.0 - (2 * 4 + 6) - 2.0 - (10.0 - 4.0)
    assert ann.order_days == 2.0
    assert found.loc["cal", "orders"] == 0  # later than 14 days
    assert found.unsubscribed.to_dict() == {"ann": 0.0, "bob": 1.0, "cal": 0.0, "dan": 0.0}
    assert responses(shop, END, people).loc["cal", "orders"] == 1
    weeks = by_week(shop, END, people, value="profit")
    assert weeks.value.sum() == pytest.approx(responses(shop, END, people).profit.sum())
    each = decided(shop, END, campaign="spring")
    assert brought(shop, END, each, value="profit", horizon_days=14)["ann"] == ann.profit


def test_where_items_have_no_cost_a_margin_tells_what_is_earned(shop: Tables) -> None:
    people = decided(shop, END, campaign="spring")[["user_id", "at"]]
    with pytest.raises(DataError, match=r"items\.cost too"):
        responses(shop, END, people, margin=0.5)
    bought = {name: shop[name].execute().dropna(axis=1, how="all") for name in ("orders", "offers")}
    uncosted = Tables.from_frames(**bought)
    assert responses(uncosted, END, people, horizon_days=14).profit.isna().all()
    found = responses(uncosted, END, people, horizon_days=14, margin=0.5).profit
    assert found.to_dict() == {"ann": 0.5 * (29.0 - 10.0) - 2.0, "bob": 0.0, "cal": 0.0, "dan": 0.0}
    weeks = by_week(uncosted, END, people, value="profit", horizon_days=14, margin=0.5)
    assert weeks.value.sum() == pytest.approx(found.sum())


def test_orders_over_the_channel_are_those_that_an_event_tells_so(shop: Tables) -> None:
    at = on(4, 11)
    each = pd.DataFrame({"decision_id": ["a", "b"], "user_id": "ann", "at": at, "channel": "email"})
    events = pd.DataFrame({
        "event_id": ["1", "2", "3"], "user_id": "ann", "occurred_at": on(5, 12, 12),
        "channel": ["web", "email", "email"], "event": ["order_completed", "order_completed", "product_viewed"],
    })  # fmt: skip
    bought = {name: shop[name].execute() for name in ("orders", "items", "offers")}
    told = Tables.from_frames(**{name: rows.dropna(axis=1, how="all") for name, rows in bought.items()}, events=events)
    every = brought(told, END, each, value="orders", horizon_days=5)
    over = brought(told, END, each, value="orders", horizon_days=5, over_channel=True)
    assert (every.tolist(), over.tolist()) == ([1, 1], [0, 1])
    profit = [brought(told, END, each, value="profit", horizon_days=5, over_channel=found) for found in (False, True)]
    assert profit[1].tolist() == [0.0, profit[0]["b"]]
    later = each.assign(channel="push")
    assert not brought(told, END, later, value="orders", horizon_days=5, over_channel=True).any()


def test_what_was_known_before_is_that_of_before(shop: Tables) -> None:
    people = decided(shop, END, campaign="spring")[["user_id", "at"]]
    ann = bought_before(shop, people).loc["ann"]
    assert (ann.spend_before, ann.orders_before, ann.days_since_order) == (10.0, 1, 5.0)
    assert bought_before(shop, people).loc["cal", ["spend_before", "orders_before"]].tolist() == [0, 0]
    assert first_decisions(shop, END).set_index("user_id")["at"]["ann"] == on(2)[0]
    found = attributes_before(shop, people, ["member_tier", "country"])
    assert found.member_tier.dropna().to_dict() == {"ann": "basic", "bob": "silver"}


def test_a_shop_without_prices_or_orders_tells_what_it_can() -> None:
    made = pd.DataFrame({
        "decision_id": ["1"], "user_id": ["ann"], "at": on(10), "kind": "offer", "placement": "home", "arm": "usual",
        "arm_share": 0.5, "chosen": [["a"]], "probability": [[1.0]], "model_version": "rule",
    })  # fmt: skip
    events = pd.DataFrame({"event_id": ["1"], "user_id": ["ann"], "event": "order_completed", "occurred_at": on(11)})
    shop = Tables.from_frames(decisions=made, events=events)
    found = responses(shop, END, decided(shop, END)[["user_id", "at"]], horizon_days=14)
    assert found.orders.tolist() == [1.0]
    assert found[["revenue", "profit"]].isna().all(axis=None)


def test_what_cannot_be_told_is_refused_with_a_remedy(shop: Tables) -> None:
    with pytest.raises(DataError, match=r"no table decisions.*attune sync"):
        decided(Tables.from_frames(users=pd.DataFrame({"user_id": ["ann"]})), END)
    with pytest.raises(DataError, match="no campaign 'autumn'; with decisions there are later, spring, winter"):
        decided(shop, END, campaign="autumn")
    with pytest.raises(DataError, match=r"no decision of kind offer.* is known from 2027-05-01 on, before"):
        decided(shop, END, since=datetime(2027, 5, 1, tzinfo=UTC))
    with pytest.raises(DataError, match="no decision of kind action"):
        decided(shop, END, kinds=["action"])
