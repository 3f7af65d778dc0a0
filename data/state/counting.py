"""What is limited: redemptions of an offer, money of a budget, messages to a person. Limits hold for all processes."""

from __future__ import annotations

import sqlalchemy as sa

from data.state.schema import counters
from data.state.writes import INSERTS


def take(
    connection: sa.Connection, kind: str, about: str, *, limit: float, amount: float = 1.0, user_id: str = ""
) -> bool:
    """Use `amount` of what there is `limit` of, or nothing; whether there was enough left.

    One statement, so two processes that take at once never take more than there is. An undone transaction gives back.

    Args:
        connection: From `State.writing`.
        kind: What is counted, such as `redemptions`.
        about: Of what, such as an offer's id, with the period if it is limited by one.
        limit: So much may be used in all.
        amount: So much is asked for; a negative amount gives back.
        user_id: Of whom, where each person has a limit of their own; goes when the person is erased.

    Example:
        >>> from data.state import State
        >>> with State.open("sqlite://").writing() as connection:
        ...     [take(connection, "redemptions", "ten percent", limit=2) for _ in range(3)]
        [True, True, False]
    """
    if amount > limit:
        return False
    insert = INSERTS[connection.dialect.name](counters).values(kind=kind, about=about, user_id=user_id, used=amount)
    after = counters.c.used + insert.excluded.used
    statement = insert.on_conflict_do_update(
        index_elements=["kind", "about", "user_id"], set_={"used": after}, where=after <= limit
    )
    return connection.scalar(statement.returning(counters.c.used)) is not None


def used(connection: sa.Connection, kind: str, *, user_id: str = "") -> dict[str, float]:
    """How much is used of everything of a kind, by what it is about.

    Example:
        >>> from data.state import State
        >>> with State.open("sqlite://").writing() as connection:
        ...     _ = take(connection, "budget", "2026-01", limit=100, amount=2.5)
        ...     used(connection, "budget")
        {'2026-01': 2.5}
    """
    query = sa.select(counters.c.about, counters.c.used).where(counters.c.kind == kind, counters.c.user_id == user_id)
    return {row.about: row.used for row in connection.execute(query)}
