"""What people said, were sent and bought lately, as the rules of a decision want it: one prepared round trip."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from data.state.reads import Watermarks
from data.state.schema import Utc, slices, tables

What = Literal[
    "consent", "preference", "zone", "channels", "sent", "unsubscribed", "bounced", "answered", "order", "action"
]
NOTHING_CHOSEN = '["none"]'
NO_ACTION = "send-time"
"""Slot of decisions that choose an hour to send at: nothing was sent by them."""
_DECIDED = tables["decisions"].c
HANDED_OUT = sa.and_(
    _DECIDED.kind == "action", _DECIDED.slot != NO_ACTION, sa.cast(_DECIDED.chosen, sa.Text) != NOTHING_CHOSEN
)
"""Which decisions handed out an action."""


class Fact(NamedTuple):
    """Something about somebody.

    Attributes:
        user_id: Whom it is about.
        what: What kind of thing. Of `answered`, the last open or click on a channel; of `consent` and `preference`, the
            last time that it was said.
        name: The purpose, the preference, the channel or, of a message its id, of an action its trigger.
        value: `yes` or `no`, the value chosen, the time zone, of a message its channel; as JSON the channels or, of an
            action, its context.
        decision_id: What a message or an action was decided by.
        at: When; None where it was always so.
    """

    user_id: str
    what: What
    name: str | None
    value: str | None
    decision_id: str | None
    at: datetime | None


def _facts() -> tuple[sa.CompoundSelect[Any], sa.Select[Any]]:
    """Everything, and consents alone."""
    said, chose, sent, bought = (tables[name].c for name in ("consents", "preferences", "messages", "orders"))
    did, users, decided = (tables[name].c for name in ("events", "users", "decisions"))
    asked: sa.BindParameter[Any] = sa.bindparam("user_ids", expanding=True)
    nothing: sa.ColumnElement[Any] = sa.literal_column("CAST(NULL AS TEXT)")

    def select(
        of: Any, what: What, at: Any, *, name: Any = nothing, value: Any = nothing, decision_id: Any = nothing
    ) -> sa.Select[Any]:
        columns = {"user_id": of.user_id, "name": name, "value": value, "decision_id": decision_id, "at": at}
        named = [column.label(label) for label, column in columns.items()]
        return sa.select(named[0], sa.literal_column(f"'{what}'", sa.Text).label("what"), *named[1:]).where(
            of.user_id.in_(asked)
        )

    def newest(what: What, at: Any) -> sa.Select[Any]:
        """By channel; the times are Utc, which a function of them is not known to be."""
        latest = sa.type_coerce(sa.func.max(at), Utc())
        found = select(sent, what, latest, name=sent.channel)
        return found.where(at.is_not(None)).group_by(sent.user_id, sent.channel)

    answered = sa.func.coalesce(sent.clicked_at, sent.opened_at)
    yes = sa.case((said.granted, sa.literal_column("'yes'")), else_=sa.literal_column("'no'"))
    ordered = sa.type_coerce(sa.func.max(bought.occurred_at), Utc())
    completed = sa.type_coerce(sa.func.max(did.occurred_at), Utc())
    said_at, chosen_at = (sa.type_coerce(sa.func.max(of["at"]), Utc()) for of in (said, chose))
    # The last yes and the last no, or the last time of each choice: who says much costs no more.
    consents = select(said, "consent", said_at, name=said.purpose, value=yes).group_by(
        said.user_id, said.purpose, said.granted
    )
    every = (
        consents,
        select(chose, "preference", chosen_at, name=chose["name"], value=chose["value"]).group_by(
            chose.user_id, chose["name"], chose["value"]
        ),
        select(users, "zone", users.updated_at, value=users.timezone),
        select(users, "channels", users.updated_at, value=sa.cast(users.channels, sa.Text)),
        select(
            sent, "sent", sent.sent_at, name=sent.message_id, value=sent.channel, decision_id=sent.decision_id
        ).where(sent.sent_at > sa.bindparam("sent_after", type_=Utc())),
        newest("unsubscribed", sent.unsubscribed_at),
        newest("bounced", sent.bounced_at),
        newest("answered", answered),
        select(bought, "order", ordered)
        .where(bought.seq > sa.bindparam("orders"), bought.quantity > 0)
        .group_by(bought.user_id),
        select(did, "order", completed)
        .where(did.seq > sa.bindparam("events"), did.event == "order_completed")
        .group_by(did.user_id),
        select(
            decided, "action", decided["at"], name=decided.slot, value=decided.context, decision_id=decided.decision_id
        ).where(HANDED_OUT),
    )
    return sa.union_all(*every), consents


EVERYTHING, CONSENTS = _facts()


def facts(
    connection: sa.Connection,
    user_ids: Sequence[str],
    *,
    sent_after: datetime,
    since: Watermarks,
    consents_only: bool = False,
) -> list[Fact]:
    """What the state knows of people.

    Args:
        connection: From `State.reading`.
        user_ids: Of whom.
        sent_after: Older messages are not told, but for what they were answered with.
        since: Orders and events that are in the checked tables are not told again.
        consents_only: What they consented to and nothing else, which costs a fourth.

    Example:
        >>> from datetime import UTC
        >>> from data.state import State
        >>> with State.open("sqlite://").reading() as connection:
        ...     facts(connection, ["ann"], sent_after=datetime(2026, 1, 1, tzinfo=UTC), since=Watermarks())
        []
    """
    query = CONSENTS if consents_only else EVERYTHING
    values = {"sent_after": sent_after, "orders": since.orders, "events": since.events}
    return [
        Fact(*row) for some in slices(user_ids) for row in connection.execute(query, {**values, "user_ids": list(some)})
    ]
