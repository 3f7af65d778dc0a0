"""The hot read: what people did lately, in one prepared round trip for all who are asked about at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from data.contract import TABLES
from data.state.arrow import SEQ
from data.state.schema import tables
from data.tables import Tables

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

    @classmethod
    def of(cls, checked: Tables) -> Watermarks:
        """The largest `state_seq` of each table that has one: synced rows are in the tables up to there."""
        synced = [name for name in ("events", "orders", "identities") if checked.has(name, SEQ)]
        return cls(**{name: int(checked[name][SEQ].max().fill_null(0).execute()) for name in synced})


def unlike(connection: sa.Connection, checked: Tables, since: Watermarks) -> str:
    """The table whose newest synced row this state has not, so that `since` tells nothing of it; empty if none.

    A backup was put in its place, or it is another state. A row that was erased alone says nothing.

    Args:
        connection: From `State.reading`.
        checked: The checked tables.
        since: What is in them.
    """
    for name, seq in asdict(since).items():
        if not seq:
            continue
        row, key = tables[name].c, TABLES[name].key
        newest = connection.scalar(sa.select(sa.func.max(row.seq))) or 0
        own = connection.execute(sa.select(*(row[column] for column in key)).where(row.seq == seq)).mappings().first()
        [synced] = checked[name].filter(lambda t, seq=seq: t[SEQ] == seq).select(*key).limit(1).to_pyarrow().to_pylist()
        if newest < seq or own not in (None, synced):
            return name
    return ""


@dataclass(frozen=True)
class Newest:
    """When a table whose rows are replaced last changed; `writes.upsert` dates each change after the one before.

    Attributes:
        at: What changed later is not known yet.
    """

    at: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    def of(self, connection: sa.Connection, name: str) -> Newest:
        """Those of now; itself if nothing changed since it was read.

        Args:
            connection: From `State.reading`.
            name: One of `schema.UPSERTED`.

        Example:
            >>> from data.state import State
            >>> with State.open("sqlite://").reading() as connection:
            ...     (seen := Newest()).of(connection, "offers") is seen
            True
        """
        newest = connection.scalar(_changed_last(name))
        return self if newest is None or newest <= self.at else Newest(newest)


@lru_cache
def _changed_last(name: str) -> sa.Select[Any]:
    return sa.select(sa.func.max(tables[name].c.changed_at))


class Who(NamedTuple):
    """Whose touches are asked for: a user's, a visitor's or both."""

    user_id: str | None = None
    anonymous_id: str | None = None


def _recent() -> sa.Select[Any]:
    """Touches by whose they are: what a user did has their id in `user_id`, what a visitor did in `anonymous_id`."""
    events, orders, identities = tables["events"].c, tables["orders"].c, tables["identities"].c
    users: sa.BindParameter[Any] = sa.bindparam("user_ids", expanding=True)
    visitors: sa.BindParameter[Any] = sa.bindparam("anonymous_ids", expanding=True)
    nobody: sa.ColumnElement[Any] = sa.literal_column("CAST(NULL AS TEXT)")
    earlier = tables["identities"].alias("earlier").c

    def did(user_id: Any, anonymous_id: Any = nobody) -> sa.Select[Any]:
        whose = user_id.label("user_id"), anonymous_id.label("anonymous_id")
        return sa.select(*whose, events.item_id, events.event, events.occurred_at, events.seq)

    own = did(events.user_id).where(
        events.user_id.in_(users), events.seq > sa.bindparam("events"), events.item_id.is_not(None)
    )
    # A visitor's events join the user who was first named for that visitor.
    named = did(identities.user_id).where(
        identities.user_id.in_(users),
        identities.anonymous_id == events.anonymous_id,
        events.user_id.is_(None),
        events.item_id.is_not(None),
        sa.or_(events.seq > sa.bindparam("events"), identities.seq > sa.bindparam("identities")),
        ~sa.exists().where(
            earlier.anonymous_id == identities.anonymous_id,
            sa.or_(
                earlier.at < identities.at,
                sa.and_(earlier.at == identities.at, earlier.user_id < identities.user_id),
            ),
        ),
    )
    # All of a visitor's events: what is checked knows visitors only by the user they became.
    visits = did(nobody, events.anonymous_id).where(
        events.anonymous_id.in_(visitors), events.user_id.is_(None), events.item_id.is_not(None)
    )
    bought = sa.select(
        orders.user_id, nobody, orders.item_id, sa.literal_column(f"'{ORDER}'", sa.Text), orders.occurred_at, orders.seq
    ).where(orders.user_id.in_(users), orders.seq > sa.bindparam("orders"), orders.quantity > 0)
    every = sa.union_all(own, named, visits, bought).subquery().c
    newest = every.occurred_at.desc(), every.seq.desc()
    place = sa.func.row_number().over(partition_by=(every.user_id, every.anonymous_id), order_by=newest)
    ranked = sa.select(*every, place.label("place")).subquery().c
    columns = (ranked.user_id, ranked.anonymous_id, ranked.item_id, ranked.event, ranked.occurred_at, ranked.seq)
    return sa.select(*columns).where(ranked.place <= NEWEST)


RECENT = _recent()


def recent(connection: sa.Connection, asked: Sequence[Who], *, since: Watermarks = Watermarks()) -> list[list[Touch]]:
    """What each of these people touched and the checked tables do not know yet, the newest first.

    Args:
        connection: From `State.reading`.
        asked: Of whom: a user's own events and orders, with those of visitors who became them; a visitor's events.
        since: What is in the checked tables.

    Example:
        >>> from data.state import State
        >>> with State.open("sqlite://").reading() as connection:
        ...     recent(connection, [Who("ann"), Who(anonymous_id="a1")])
        [[], []]
    """
    values = {
        "user_ids": list({who.user_id for who in asked} - {None}),
        "anonymous_ids": list({who.anonymous_id for who in asked} - {None}),
        "events": since.events,
        "orders": since.orders,
        "identities": since.identities,
    }
    found: dict[Who, list[tuple[datetime, int, Touch]]] = defaultdict(list)
    for user_id, anonymous_id, item_id, event, at, seq in connection.execute(RECENT, values):
        found[Who(user_id, anonymous_id)].append((at, seq, Touch(item_id, event, at)))
    return [_newest(found.get(Who(who.user_id), []) + found.get(Who(None, who.anonymous_id), [])) for who in asked]


def _newest(touched: list[tuple[datetime, int, Touch]]) -> list[Touch]:
    touched.sort(key=lambda one: one[:2], reverse=True)
    return [touch for _, _, touch in touched[:NEWEST]]
