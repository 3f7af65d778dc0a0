"""The hot read: what one person did lately, in one prepared round trip."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from data.state.schema import tables

NEWEST = 500
"""At most so many rows of a person are read, the newest: bounds the time of a request."""

ORDER = "order"
"""What an order line is called in `recommender.event_weights`."""


class Touch(NamedTuple):
    """An item that somebody touched.

    Attributes:
        item_id: Which.
        event: By what event; 'order' for an order line.
        at: When.
    """

    item_id: str
    event: str
    at: datetime


@dataclass(frozen=True)
class Watermarks:
    """Up to which `seq` the rows of each table are in the checked tables already."""

    events: int = 0
    orders: int = 0
    identities: int = 0


def _recent() -> sa.Select[Any]:
    events, orders, identities = tables["events"].c, tables["orders"].c, tables["identities"].c
    user: sa.BindParameter[str] = sa.bindparam("user_id")
    visitor: sa.BindParameter[str] = sa.bindparam("anonymous_id")
    earlier = tables["identities"].alias("earlier").c
    own = sa.select(events.item_id, events.event, events.occurred_at, events.seq).where(
        events.user_id == user, events.seq > sa.bindparam("events"), events.item_id.is_not(None)
    )
    # A visitor's events join the user who was first named for that visitor.
    named = sa.select(events.item_id, events.event, events.occurred_at, events.seq).where(
        identities.user_id == user,
        identities.anonymous_id == events.anonymous_id,
        events.user_id.is_(None),
        events.item_id.is_not(None),
        sa.or_(events.seq > sa.bindparam("events"), identities.seq > sa.bindparam("identities")),
        ~sa.exists().where(
            earlier.anonymous_id == identities.anonymous_id,
            sa.or_(earlier.at < identities.at, sa.and_(earlier.at == identities.at, earlier.user_id < user)),
        ),
    )
    # All of a visitor's events: what is checked knows visitors only by the user they became.
    visits = sa.select(events.item_id, events.event, events.occurred_at, events.seq).where(
        events.anonymous_id == visitor, events.user_id.is_(None), events.item_id.is_not(None)
    )
    bought = sa.select(orders.item_id, sa.literal(ORDER), orders.occurred_at, orders.seq).where(
        orders.user_id == user, orders.seq > sa.bindparam("orders"), orders.quantity > 0
    )
    every = sa.union_all(own, named, visits, bought).subquery()
    newest = every.c.occurred_at.desc(), every.c.seq.desc()
    return sa.select(every.c.item_id, every.c.event, every.c.occurred_at).order_by(*newest).limit(NEWEST)


RECENT = _recent()


def recent(
    connection: sa.Connection,
    *,
    user_id: str | None = None,
    anonymous_id: str | None = None,
    since: Watermarks = Watermarks(),
) -> list[Touch]:
    """What a user, a visitor or both touched and the checked tables do not know yet, the newest first.

    Args:
        connection: From `State.reading`.
        user_id: Their own events and orders, and those of visitors who became them.
        anonymous_id: A visitor's events.
        since: What is in the checked tables.
    """
    values = {
        "user_id": user_id,
        "anonymous_id": anonymous_id,
        "events": since.events,
        "orders": since.orders,
        "identities": since.identities,
    }
    return [Touch(*row) for row in connection.execute(RECENT, values)]
