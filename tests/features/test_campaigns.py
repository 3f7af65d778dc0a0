"""Whom a campaign reached and what they did: what counts, and what does not."""

from __future__ import annotations

import pandas as pd
import pytest

from data.errors import DataError
from data.tables import Tables
from features.campaigns import NO_CAMPAIGN, recipients


@pytest.fixture
def shop(messages, orders, ago):
    spring = {"campaign_id": "spring"}
    return Tables.from_frames(
        messages=messages(
            ("ann", "email", 20, spring | {"opened_at": ago(19), "clicked_at": ago(19)}),
            ("ann", "sms", 18, spring | {"opened_at": ago(18), "machine_opened": True}),
            ("bob", "email", 20, spring | {"bounced_at": ago(20), "opened_at": ago(19)}),
            ("cid", "push", 5, spring | {"unsubscribed_at": ago(4)}),
            ("cid", "email", 5, {}),
            ("dan", "email", -1, spring),
        ),
        orders=orders(
            ("ann", "o1", "tea", 1, 100.0, 25, {}),
            ("ann", "o2", "tea", 2, 10.0, 17, {}),
            ("ann", "o2", "pot", 1, 30.0, 17, {}),
            ("ann", "o3", "tea", 1, 10.0, 10, {}),
            ("ann", "o4", "tea", -1, 10.0, 9, {}),
            ("ann", "o5", "tea", 1, 500.0, 2, {}),
            ("cid", "o6", "tea", 1, 10.0, -1, {}),
        ),
    )


@pytest.fixture
def rows(shop, cutoff):
    found = recipients(shop, cutoff, horizon_days=14).execute()
    return found.set_index(["campaign_id", "user_id"]).sort_index()


def test_a_person_is_there_once_a_campaign_with_the_channel_of_the_first_message(rows):
    assert list(rows.index) == [(NO_CAMPAIGN, "cid"), ("spring", "ann"), ("spring", "bob"), ("spring", "cid")]
    assert rows.loc[("spring", "ann"), ["channel", "sent", "delivered"]].tolist() == ["email", 2, 2]


def test_machine_opens_are_out_and_bounces_are_not_delivered(rows):
    assert rows.loc[("spring", "ann"), ["readable", "opened", "clicked"]].tolist() == [1, 1, 1]
    assert rows.loc[("spring", "bob"), ["delivered", "readable", "opened"]].tolist() == [0, 0, 0]
    assert rows.loc[("spring", "cid"), "unsubscribed"] == 1


def test_what_is_bought_counts_from_the_message_to_the_horizon_less_returns(rows):
    ann = rows.loc[("spring", "ann")]
    assert ann[["orders", "revenue", "order_days"]].tolist() == [2, 50.0, 3.0]
    assert ann["spend_life"] == 100 + 50 + 10 - 10 + 500
    cid = rows.loc[("spring", "cid")]
    assert cid[["orders", "revenue", "watched_days"]].tolist() == [0, 0.0, 5.0]
    assert pd.isna(cid["order_days"])


def test_one_campaign_can_be_asked_about(shop, cutoff):
    assert recipients(shop, cutoff, horizon_days=14, campaign="spring").count().execute() == 3


def test_a_shop_without_prices_has_no_revenue_and_one_without_messages_no_campaigns(messages, orders, cutoff):
    bought = orders(("ann", "o1", "tea", 1, 10.0, 3, {})).drop(columns=["unit_price", "discount"])
    sent = messages(("ann", "email", 5, {"campaign_id": "spring"}))
    row = recipients(Tables.from_frames(messages=sent, orders=bought), cutoff, horizon_days=14).execute().iloc[0]
    assert row["orders"] == 1
    assert pd.isna(row["revenue"])
    with pytest.raises(DataError, match="did not bring"):
        recipients(Tables.from_frames(orders=bought), cutoff, horizon_days=14)
