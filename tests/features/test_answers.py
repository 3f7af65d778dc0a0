"""How people answered each offer: counted as somebody would by hand, with nothing of what came later."""

from __future__ import annotations

import numpy as np
import pandas as pd

from data.answers import answered_column, told_column
from data.tables import Tables
from features.answers import ANSWER_DAYS, own_answers

OFFERS = ["gift", "ten"]


def on(days: object) -> pd.DatetimeIndex:
    return pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(days, unit="D")


def drawn(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Messages and orders of a few people over two channels; some orders reach us days later."""
    rng = np.random.default_rng(seed)
    n, m = 60, 40
    messages = pd.DataFrame({
        "message_id": [f"m{number}" for number in range(n)], "user_id": rng.choice(["ann", "bob", "cal"], n),
        "channel": rng.choice(["email", "push"], n), "offer_id": rng.choice([*OFFERS, "gone", None], n),
        "sent_at": on(rng.integers(0, 200, n) / 2),
    })  # fmt: skip
    at = rng.integers(0, 220, m) / 2
    events = pd.DataFrame({
        "event_id": [f"e{number}" for number in range(m)], "user_id": rng.choice(["ann", "bob", "cal", None], m),
        "event": rng.choice(["order_completed", "order_completed", "product_viewed"], m),
        "channel": rng.choice(["email", "push", "web", None], m), "occurred_at": on(at),
        "received_at": on(at + rng.choice([0, 0, 9], m)),
    })  # fmt: skip
    return messages, events


def by_hand(messages: pd.DataFrame, events: pd.DataFrame, user: str, moment: pd.Timestamp, offer: str) -> list[int]:
    """Messages before the moment, and those of them that are the last before an order heard of before it."""
    mine = messages[messages.user_id == user]
    told = mine[(mine.offer_id == offer) & (mine.sent_at < moment)]
    answered = set()
    for order in events[(events.user_id == user) & (events.event == "order_completed")].itertuples():
        before = mine[(mine.channel == order.channel) & (mine.sent_at <= order.occurred_at)]
        before = before[before.sent_at > order.occurred_at - pd.Timedelta(days=ANSWER_DAYS)]
        if len(before) and order.received_at < moment:
            answered.add(before.sort_values(["sent_at", "message_id"], ascending=[False, True]).iloc[0].message_id)
    return [len(told), len(told[told.message_id.isin(answered)])]


def test_counts_are_those_that_a_hand_finds() -> None:
    found = 0
    for seed in range(5):
        messages, events = drawn(seed)
        shop = Tables.from_frames(messages=messages, events=events)
        people = pd.DataFrame({"user_id": ["ann", "bob", "cal", "dan"] * 3, "at": np.repeat(on([20, 60.5, 300]), 4)})
        told = own_answers(shop, people, OFFERS)
        for row, (user, moment) in people.iterrows():
            for offer in OFFERS:
                counts = told.loc[row, [told_column(offer), answered_column(offer)]].tolist()
                assert counts == by_hand(messages, events, user, moment, offer)
                found += counts[1]
    assert found > 20


def test_a_message_that_names_its_decision_alone_is_of_that_offer() -> None:
    messages, events = drawn(1)
    decisions = pd.DataFrame({
        "decision_id": messages["message_id"], "user_id": messages["user_id"], "at": messages["sent_at"],
        "kind": "offer", "placement": "email", "arm": "random", "arm_share": 0.5,
        "chosen": [[offer or "none"] for offer in messages["offer_id"]], "probability": [[0.5]] * len(messages),
        "model_version": "even",
    })  # fmt: skip
    people = pd.DataFrame({"user_id": ["ann", "bob"], "at": on([90, 90])})
    named = own_answers(Tables.from_frames(messages=messages, events=events), people, OFFERS)
    messages = messages.assign(decision_id=messages["message_id"]).drop(columns="offer_id")
    shop = Tables.from_frames(messages=messages, events=events, decisions=decisions)
    pd.testing.assert_frame_equal(own_answers(shop, people, OFFERS), named)
    assert named.to_numpy().sum() > 10


def test_where_nothing_tells_what_was_ordered_over_a_message_nothing_is_said() -> None:
    messages, events = drawn(2)
    people = pd.DataFrame({"user_id": ["ann"], "at": on([90])}, index=[7])
    for shop in (
        Tables.from_frames(messages=messages, events=events.drop(columns="channel")),
        Tables.from_frames(messages=messages.drop(columns="offer_id"), events=events),
        Tables.from_frames(events=events),
    ):
        told = own_answers(shop, people, OFFERS)
        assert (told.index.tolist(), told.columns.tolist()) == ([7], [])
