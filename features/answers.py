"""Own answers: of which offers somebody was told by message before, and over which of these messages they ordered."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import numpy as np
import pandas as pd
from ibis.expr import types as ir

from data.answers import answered_column, told_column
from data.tables import Tables

ANSWER_DAYS = 14
"""An order answers the last message on its channel, if that was sent within so many days before it."""
OFFER = "offer"


def own_answers(tables: Tables, people: pd.DataFrame, offers: Sequence[str]) -> pd.DataFrame:
    """How often people were told of each offer by message before a moment of their own, and ordered over it.

    An order answers the last message of any kind that its person was sent on its channel before it, which an event
    `order_completed` tells. What happened or arrived at or after the moment is not known.

    Args:
        tables: Of the shop.
        people: `user_id` and `at`, n rows.
        offers: Ids.

    Returns:
        `told_column` and `answered_column` of each offer, a row for each of `people`, with its index; no columns where
        no message tells its offer or no order its channel.

    Example:
        >>> day = pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03"], utc=True)
        >>> shop = Tables.from_frames(
        ...     messages=pd.DataFrame({"message_id": ["1"], "user_id": ["ann"], "channel": ["email"],
        ...                            "offer_id": ["gift"], "sent_at": day[:1]}),
        ...     events=pd.DataFrame({"event_id": ["1"], "user_id": ["ann"], "event": ["order_completed"],
        ...                          "channel": ["email"], "occurred_at": day[1:2]}))
        >>> own_answers(shop, pd.DataFrame({"user_id": ["ann", "ann"], "at": day[1:]}), ["gift"]).values.tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    named = tables.has("messages", "offer_id") or _decided(tables)
    if not (named and tables.has("events", "channel") and len(offers)):
        return pd.DataFrame(index=people.index)
    sent = _sent(tables)
    told = sent.select("user_id", "offer_id", "known", answered=ibis.literal(0))
    every = told.union(_answered(sent, tables["events"]).mutate(answered=ibis.literal(1)))
    every = every.filter(every.offer_id.isin(list(offers)))
    moments = people["at"].astype("datetime64[us, UTC]").array
    users = people["user_id"].to_numpy(dtype=object)
    asked = ibis.memtable(pd.DataFrame({"row": range(len(people)), "asked": users, "moment": moments}))
    known = every.inner_join(asked, [every.user_id == asked.asked, every.known < asked.moment])
    counts = known.group_by("row", "offer_id").agg(answered=known.answered.sum(), both=known.count()).execute()
    found = np.zeros((len(people), 2 * len(offers)))
    told_at = 2 * pd.Index(offers).get_indexer(counts["offer_id"])
    found[counts["row"], told_at] = counts["both"] - counts["answered"]
    found[counts["row"], told_at + 1] = counts["answered"]
    names = [name for offer in offers for name in (told_column(offer), answered_column(offer))]
    return pd.DataFrame(found, index=people.index, columns=names)


def _sent(tables: Tables) -> ir.Table:
    """Messages: `message_id, user_id, channel, offer_id` (or that of its decision), and from when on it is `known`."""
    messages = tables["messages"]
    if not _decided(tables):
        return messages.select("message_id", "user_id", "channel", "offer_id", known="sent_at")
    made = tables["decisions"]
    made = made.filter(made.kind == OFFER).select(made="decision_id", decided="at", first=made.chosen[0])
    joined = messages.left_join(made, [messages.decision_id == made.made, made.decided <= messages.sent_at])
    offer = ibis.coalesce(joined.offer_id, joined["first"])
    return joined.select("message_id", "user_id", "channel", offer_id=offer, known="sent_at")


def _decided(tables: Tables) -> bool:
    """Whether messages tell of which decision they are."""
    return "decisions" in tables.brought and tables.has("messages", "decision_id")


def _answered(sent: ir.Table, events: ir.Table) -> ir.Table:
    """Messages that were ordered over: `user_id, offer_id`, and from when on that is `known`."""
    events = events.filter(events.event == "order_completed", ~events.user_id.isnull(), ~events.channel.isnull())
    heard = ibis.coalesce(events.received_at, events.occurred_at)
    orders = events.select("event_id", buyer="user_id", over="channel", at="occurred_at", heard=heard)
    pairs = orders.inner_join(
        sent,
        [
            orders.buyer == sent.user_id,
            orders.over == sent.channel,
            sent.known <= orders["at"],
            sent.known > orders["at"] - ibis.interval(days=ANSWER_DAYS),
        ],
    )
    last = ibis.row_number().over(group_by="event_id", order_by=[ibis.desc(pairs.known), pairs.message_id])
    pairs = pairs.mutate(place=last).filter(lambda t: t.place == 0)
    one = pairs.group_by("message_id").agg(
        user_id=pairs.user_id.min(), offer_id=pairs.offer_id.min(), known=pairs.heard.min()
    )
    return one.select("user_id", "offer_id", "known")
