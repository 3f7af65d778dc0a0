"""Who may be written to on which channel: the last word counts, and leaving a channel after it."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from data.tables import Tables
from features.reach import reach

CUTOFF = datetime(2026, 3, 1, tzinfo=UTC)


def days(*told: str) -> pd.DatetimeIndex:
    return pd.to_datetime([f"2026-{day}" for day in told], utc=True)


def shop(said: list[tuple[str, bool, str]], *, left: str | None = None, channels: list[str] | None = None) -> Tables:
    purposes, granted, at = zip(*said, strict=True)
    users = pd.DataFrame({"user_id": ["ann"], **({"channels": [channels]} if channels else {})})
    consents = pd.DataFrame({"user_id": "ann", "purpose": purposes, "granted": granted, "at": days(*at)})
    sent = {"message_id": ["1"], "user_id": "ann", "channel": "email", "sent_at": days("01-02")}
    messages = {"messages": pd.DataFrame({**sent, "unsubscribed_at": days(left)})} if left else {}
    return Tables.from_frames(users=users, consents=consents, **messages)


YES = [("marketing", True, "01-01"), ("email", True, "01-01")]


@pytest.mark.parametrize(
    ("tables", "can"),
    [
        (shop(YES), True),
        (shop([*YES, ("email", False, "02-01")]), False),
        (shop([*YES, ("email", False, "03-02")]), True),  # said after the cutoff
        (shop([("email", True, "01-01")]), False),  # nothing said of marketing
        (shop(YES, left="02-01"), False),
        (shop([*YES, ("email", True, "02-15")], left="02-01"), True),  # came back
        (shop(YES, channels=["email"]), True),
        (shop(YES, channels=["sms"]), False),
    ],
)
def test_the_last_word_counts(tables: Tables, can: bool) -> None:
    assert reach(tables, CUTOFF)["email"].tolist() == [can]


def test_what_is_assumed_needs_no_word_and_a_no_is_one() -> None:
    assert reach(shop([("email", True, "01-01")]), CUTOFF, assumed=("marketing",))["email"].tolist() == [True]
    no = shop([("email", True, "01-01"), ("marketing", False, "01-02")])
    assert reach(no, CUTOFF, assumed=("marketing",))["email"].tolist() == [False]


def test_a_shop_that_tells_nothing_has_no_channels() -> None:
    assert reach(Tables.from_frames(users=pd.DataFrame({"user_id": ["ann"]})), CUTOFF).columns.empty
