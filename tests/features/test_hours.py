"""Answers and hours in the shop, by the person's own clock."""

from __future__ import annotations

from datetime import datetime
from itertools import product
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.tables import Tables
from features.hours import NO_ZONE, Habits, from_rows, habits, zone_of_most

CUTOFF = pd.Timestamp("2026-07-01", tz="UTC")


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def a_shop(without: str = "", **more: pd.DataFrame) -> Tables:
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
    frames = {"users": users, "messages": messages, "events": events, **more}
    return Tables.from_frames(**{name: frame for name, frame in frames.items() if name != without})


def known(without: str = "", **more: pd.DataFrame) -> Habits:
    return habits(a_shop(without, **more).as_of(CUTOFF), CUTOFF)


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


def test_an_hour_in_the_shop_is_one_of_the_clock_where_that_is_half_an_hour_off() -> None:
    users = pd.DataFrame({"user_id": ["ann", "bob"], "timezone": ["Asia/Kolkata", "Asia/Kathmandu"]})
    moments = [at("2026-06-10 04:45"), at("2026-06-10 05:15"), at("2026-06-10 05:40"), at("2026-06-10 04:20")]
    events = pd.DataFrame(
        {"event_id": list("abcd"), "user_id": ["ann", "ann", "ann", "bob"], "event": "page_viewed",
         "occurred_at": moments, "channel": "web"}
    )  # fmt: skip
    found = known(users=users, events=events).active
    assert found["user_id"].tolist() == ["ann", "ann", "bob"]
    assert found["hour"].tolist() == [10, 11, 10]  # 10:15 and 10:45, 11:10, 10:05
    assert found["at"].tolist() == [at("2026-06-10 04:30"), at("2026-06-10 05:30"), at("2026-06-10 04:15")]


def test_without_opens_it_says_what_to_bring() -> None:
    orders = pd.DataFrame(
        {"order_id": ["1"], "line_id": ["1"], "user_id": ["ann"], "item_id": ["x"], "quantity": [1.0],
         "occurred_at": [at("2026-06-10 01:10")]}
    )  # fmt: skip
    shop = Tables.from_frames(orders=orders)
    with pytest.raises(DataError, match="opened_at"):
        habits(shop, CUTOFF)


ZONES = ("America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "UTC")
MOMENTS = st.integers(1_700_000_000, 1_800_000_000)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(MOMENTS, st.sampled_from(ZONES)), min_size=1, max_size=12))
def test_every_hour_is_that_of_the_persons_own_clock(sent: list[tuple[int, str]]) -> None:
    ids = [f"p{number:02}" for number in range(len(sent))]
    rows = pd.DataFrame({"user_id": ids, "second": [second for second, _ in sent]})
    people = pd.DataFrame({"user_id": ids, "timezone": [zone for _, zone in sent]})
    found = from_rows({"answers": rows, "active": rows, "people": people}, usual_zone="Asia/Tokyo")
    wanted = [datetime.fromtimestamp(second, ZoneInfo(zone)).hour for second, zone in sent]
    assert found.answers["hour"].tolist() == found.active["hour"].tolist() == wanted


def test_a_machines_opens_change_no_answer_whatever_else_happened() -> None:
    """Two messages to each of 256 people: every channel, opened or not, by a machine or not, clicked or not."""
    kinds = list(product(["email", "push"], *[[False, True]] * 3))
    sent = pd.DataFrame(
        [(f"{a:02}-{b:02}", *kinds[one]) for a, b in product(range(16), repeat=2) for one in (a, b)],
        columns=["user_id", "channel", "opened", "machine_opened", "clicked"],
    )
    number = sent.groupby("user_id").cumcount()
    messages = sent.assign(
        message_id=sent.user_id + number.astype(str), sent_at=at("2026-06-01 12:00") + pd.to_timedelta(number, unit="h")
    )
    answered_at = messages.sent_at + pd.Timedelta(minutes=5)
    messages["opened_at"] = answered_at.where(messages.pop("opened") | messages.machine_opened)
    messages["clicked_at"] = answered_at.where(messages.pop("clicked"))
    found = habits(Tables.from_frames(messages=messages).as_of(CUTOFF), CUTOFF).answers
    hidden = sent.groupby(["user_id", "channel"])["machine_opened"].transform("any")
    assert (found["message_id"] == messages["message_id"]).all()
    assert (found["by_click"] == hidden).all()
    assert (found["answered"] == sent.clicked | (sent.opened & ~hidden)).all()


def test_orders_tell_of_hours_where_there_are_no_events_and_their_choice_is_the_newest() -> None:
    orders = pd.DataFrame(
        {"order_id": ["1"], "line_id": ["1"], "user_id": ["bob"], "item_id": ["x"], "quantity": [1.0],
         "occurred_at": [at("2026-06-10 01:10")]}
    )  # fmt: skip
    chosen = pd.DataFrame(
        {"user_id": "eve", "name": ["hours", "hours", "topics"], "value": ["08-10", "22-01", "05-06"],
         "at": [at("2026-01-01"), at("2026-02-01"), at("2026-03-01")]}
    )  # fmt: skip
    found = known(orders=orders, preferences=chosen, without="events")
    assert found.active["hour"].tolist() == [3]
    assert np.flatnonzero(found.wanted(pd.Index(["eve", "ann"]))[0]).tolist() == [0, 22, 23]
    assert not found.wanted(pd.Index(["ann", "nobody"])).any()
    assert found.zones(pd.Index(["bob", "cho", "eve"])) == ["Europe/Berlin", None, None]


@pytest.mark.parametrize("zone", ["+02:00", "UTC+02:00", "utc", "dateutil/Europe/Berlin", "tzlocal()"])
def test_what_only_pandas_takes_for_a_zone_is_nobodys(zone: str) -> None:
    """Rules and moments to send at go by Python's own clock, which knows none of these."""
    shop = a_shop(users=pd.DataFrame({"user_id": ["ann", "bob"], "timezone": zone}))
    assert zone_of_most(shop) == NO_ZONE
    assert habits(shop.as_of(CUTOFF), CUTOFF).zones(pd.Index(["ann"])) == [None]
