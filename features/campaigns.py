"""Whom campaigns reached, and what came of it: a row per campaign and recipient, for the measures of campaigns."""

from __future__ import annotations

from datetime import datetime

import ibis
import pandas as pd
from ibis.expr import types as ir

from data.errors import DataError
from data.tables import Tables, cutoff_literal
from features.definitions import SECONDS_PER_DAY, epoch_seconds, exact
from features.purchases import purchases

NO_CAMPAIGN, DECIDED = "(no campaign)", "(decided)"


def recipients(
    tables: Tables,
    until: datetime,
    *,
    horizon_days: float,
    campaign: str | None = None,
    decisions: pd.Series | None = None,
) -> ir.Table:
    """What each recipient of a campaign did in the horizon after its first message, as known just before `until`.

    An order counts for every campaign that reached its customer within the horizon: this tells what happened after a
    campaign, not because of it; the effect is a treated arm against a control.

    Args:
        tables: With `messages`.
        until: The moment up to which everything is known.
        horizon_days: How long after the first message what people do still counts.
        campaign: One campaign; None = each of them.
        decisions: Ids: only messages of these decisions, as if all were one campaign.

    Returns:
        `campaign_id, user_id, channel` (of the first message), `sent_at` (its time), `watched_days` (how long it is
        known what the person did, at most the horizon); counts of messages: `sent`, `delivered` (not bounced),
        `readable` (delivered and not opened by a machine, which hides whether the person did), `opened` (by the
        person), `clicked`, `unsubscribed`; and of what was bought: `orders`, `revenue` (less discounts and returns,
        null in a shop without prices), `order_days` (from the message to the first order, null without one),
        `spend_life` (all revenue of the person so far).

    Raises:
        DataError: the shop brought no messages.

    Example:
        >>> import pandas as pd
        >>> def on(*days): return pd.to_datetime([f"2026-01-{day:02}" for day in days], utc=True)
        >>> shop = Tables.from_frames(
        ...     messages=pd.DataFrame({"message_id": ["1", "2"], "user_id": ["ann", "bob"], "channel": "email",
        ...         "campaign_id": "spring", "sent_at": on(5, 5), "clicked_at": [*on(6), pd.NaT]}),
        ...     orders=pd.DataFrame({"order_id": ["1"], "line_id": ["1"], "user_id": ["ann"], "item_id": ["tea"],
        ...         "quantity": [2.0], "unit_price": [4.5], "occurred_at": on(8)}))
        >>> from datetime import UTC
        >>> rows = recipients(shop, datetime(2026, 2, 1, tzinfo=UTC), horizon_days=14).order_by("user_id").execute()
        >>> rows[["user_id", "clicked", "orders", "revenue", "order_days"]].values.tolist()
        [['ann', 1, 1, 9.0, 3.0], ['bob', 0, 0, 0.0, nan]]
    """
    if "messages" not in tables.brought:
        raise DataError("campaigns are told by the table messages, which this shop did not bring.")
    known = tables.as_of(until)
    messages = known["messages"]
    if decisions is not None:
        asked = ibis.memtable(pd.DataFrame({"asked": decisions.astype("str").to_numpy()}))
        messages = messages.semi_join(asked, messages.decision_id == asked.asked).mutate(
            campaign_id=ibis.literal(DECIDED)
        )
    reached = _reached(messages, campaign)
    bought = _bought(known, reached, horizon_days)
    joined = reached.left_join(bought, [reached.campaign_id == bought.campaign, reached.user_id == bought.buyer])
    life = _life(known)
    joined = joined.left_join(life, joined.user_id == life.customer)
    watched = (epoch_seconds(cutoff_literal(until)) - epoch_seconds(joined.sent_at)).cast("float64") / SECONDS_PER_DAY
    priced = tables.has("orders", "unit_price")
    return joined.select(
        *reached.columns,
        watched_days=ibis.least(watched, ibis.literal(float(horizon_days))),
        orders=joined.orders.fill_null(0),
        revenue=joined.revenue.fill_null(0.0) if priced else ibis.null("float64"),
        order_days=joined.order_days,
        spend_life=joined.spend_life.fill_null(0.0) if priced else ibis.null("float64"),
    )


def _reached(messages: ir.Table, campaign: str | None) -> ir.Table:
    messages = messages.mutate(campaign_id=messages.campaign_id.fill_null(NO_CAMPAIGN))
    if campaign is not None:
        messages = messages.filter(messages.campaign_id == campaign)
    by_machine = messages.machine_opened.fill_null(False)
    delivered = messages.bounced_at.isnull()
    first = ibis.row_number().over(group_by=["campaign_id", "user_id"], order_by=["sent_at", "message_id"])
    messages = messages.mutate(
        first_channel=(first == 0).ifelse(messages.channel, ibis.null("string")),
        readable=delivered & ~by_machine,
        delivered=delivered,
        opened=delivered & ~messages.opened_at.isnull() & ~by_machine,
        clicked=delivered & ~messages.clicked_at.isnull(),
        unsubscribed=delivered & ~messages.unsubscribed_at.isnull(),
    )
    counted = {
        name: messages[name].cast("int64").sum()
        for name in ("delivered", "readable", "opened", "clicked", "unsubscribed")
    }
    return messages.group_by("campaign_id", "user_id").agg(
        channel=messages.first_channel.max(), sent_at=messages.sent_at.min(), sent=messages.count(), **counted
    )


def _bought(known: Tables, reached: ir.Table, horizon_days: float) -> ir.Table:
    """What recipients bought from their first message on, within the horizon."""
    lines = purchases(known)
    reached = reached.select("campaign_id", "user_id", "sent_at")
    after = lines.inner_join(reached, lines.user_id == reached.user_id)
    seconds = epoch_seconds(after["at"]) - epoch_seconds(after.sent_at)
    after = after.mutate(seconds=seconds, is_order=after.quantity > 0)
    after = after.filter(after.seconds >= 0, after.seconds < int(horizon_days * SECONDS_PER_DAY))
    return after.group_by(campaign="campaign_id", buyer="user_id").agg(
        orders=after.order_id.nunique(where=after.is_order),
        revenue=exact(after.money).sum().cast("float64"),
        order_days=after.seconds.min(where=after.is_order).cast("float64") / SECONDS_PER_DAY,
    )


def _life(known: Tables) -> ir.Table:
    lines = purchases(known)
    lines = lines.filter(~lines.user_id.isnull())
    return lines.group_by(customer="user_id").agg(spend_life=exact(lines.money).sum().cast("float64"))
