"""Answers and hours in the shop, by the person's own clock."""

from __future__ import annotations

import pandas as pd
import pytest

from data.errors import DataError
from data.tables import Tables
from features.hours import Habits, habits

CUTOFF = pd.Timestamp("2026-07-01", tz="UTC")


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def a_shop(**more: pd.DataFrame) -> Tables:
    users = pd.DataFrame(
        {
            "user_id": ["ann", "bob", "cho", "dan"],
            "timezone": ["America/New_York", "Europe/Berlin", "Nowhere/Land", "Europe/Berlin"],
        }
    )
    messages = pd.DataFrame(
        [
            ("1", "ann", "email", at("2026-01-10 15:30"), at("2026-01-10 16:00"), False, pd.NaT),
            ("2", "ann", "email", at("2026-06-10 15:30"), pd.NaT, None, pd.NaT),
            ("3", "bob", "email", at("2026-06-10 15:30"), at("2026-06-10 15:31"), True, pd.NaT),
            ("4", "bob", "email", at("2026-06-11 15:30"), at("2026-06-11 15:31"), True, at("2026-06-11 16:00")),
            ("5", "bob", "push", at("2026-06-12 15:30"), at("2026-06-12 15:31"), False, pd.NaT),
            ("6", "cho", "push", at("2026-06-12 15:30"), pd.NaT, None, pd.NaT),
            ("7", "cho", "push", at("2026-06-30 15:30"), pd.NaT, None, pd.NaT),
        ],
        columns=["message_id", "user_id", "channel", "sent_at", "opened_at", "machine_opened", "clicked_at"],
    )
    events = pd.DataFrame(
        {
            "event_id": list("abcd"),
            "user_id": ["ann", "ann", "ann", None],
            "event": "page_viewed",
            "occurred_at": [at("2026-06-10 01:10"), at("2026-06-10 01:50"), at("2026-06-10 09:00"), CUTOFF],
            "channel": ["web", None, "push", "web"],
        }
    )
    return Tables.from_frames(**{"users": users, "messages": messages, "events": events, **more})


def known(**more: pd.DataFrame) -> Habits:
    return habits(a_shop(**more).as_of(CUTOFF), CUTOFF)


def test_the_hour_is_the_persons_own_summer_and_winter() -> None:
    found = known().answers
    assert found["user_id"].tolist() == ["ann", "ann", "bob", "bob", "bob", "cho"]
    assert found["hour"].tolist() == [10, 11, 17, 17, 17, 17]  # an unknown zone is the commonest one


def test_a_machines_opens_are_no_answers_and_hide_the_persons_own() -> None:
    found = known().answers
    assert found["by_click"].tolist() == [False, False, True, True, False, False]
    assert found["answered"].tolist() == [True, False, False, True, True, False]


def test_hours_in_the_shop_count_once_and_not_when_a_message_brought_them() -> None:
    found = known().active
    assert found["user_id"].tolist() == ["ann"]
    assert found["hour"].tolist() == [21]
    assert found["at"].tolist() == [at("2026-06-10 01:00")]


def test_without_opens_it_says_what_to_bring() -> None:
    orders = pd.DataFrame(
        {"order_id": ["1"], "line_id": ["1"], "user_id": ["ann"], "item_id": ["x"], "quantity": [1.0],
         "occurred_at": [at("2026-06-10 01:10")]}
    )  # fmt: skip
    shop = Tables.from_frames(orders=orders)
    with pytest.raises(DataError, match="opened_at"):
        habits(shop, CUTOFF)
