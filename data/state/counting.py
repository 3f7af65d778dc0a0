"""What is limited: redemptions of an offer, money of a budget, requests of a key. Limits hold for all processes."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any, NamedTuple

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
    values = {"kind_": kind, "about_": about, "user_id_": user_id, "amount": amount, "limit": limit}
    return connection.scalar(_take(connection.dialect.name), values) is not None


@lru_cache
def _take(dialect: str) -> sa.Executable:
    named: dict[str, Any] = {name: sa.bindparam(f"{name}_") for name in KEY}
    insert = INSERTS[dialect](counters).values(**named, used=sa.bindparam("amount"))
    after = counters.c.used + insert.excluded.used
    statement = insert.on_conflict_do_update(
        index_elements=KEY, set_={"used": after}, where=after <= sa.bindparam("limit", type_=sa.Double())
    )
    return statement.returning(counters.c.used)  # type: ignore[no-any-return]


def forget(connection: sa.Connection, kind: str, *, before: str) -> None:
    """Remove what was counted of this kind about what sorts before, such as the minutes that are past.

    Args:
        connection: From `State.writing`.
        kind: What was counted.
        before: The first `about`, compared as text, to be kept.

    Example:
        >>> from data.state import State
        >>> with State.open("sqlite://").writing() as connection:
        ...     _ = [take(connection, "requests", minute, limit=9) for minute in ("29912340", "29912341")]
        ...     forget(connection, "requests", before="29912341")
        ...     [counted.about for counted in used(connection, ["requests"])]
        ['29912341']
    """
    connection.execute(counters.delete().where(counters.c.kind == kind, counters.c.about < before))


class Counted(NamedTuple):
    """What is counted, as `take` calls it."""

    kind: str
    about: str
    user_id: str = ""


def used(connection: sa.Connection, kinds: Collection[str], *, user_ids: Collection[str] = ()) -> dict[Counted, float]:
    """How much is used of everything of these kinds.

    Args:
        connection: From `State.writing`, where it is to stay true until the end of the transaction.
        kinds: What is counted.
        user_ids: Of whom, beside what is counted of nobody in particular.

    Example:
        >>> from data.state import State
        >>> with State.open("sqlite://").writing() as connection:
        ...     _ = take(connection, "budget", "2026-01", limit=100, amount=2.5)
        ...     used(connection, ["budget"])
        {Counted(kind='budget', about='2026-01', user_id=''): 2.5}
    """
    found = connection.execute(USED, {"kinds": list(kinds), "user_ids": ["", *user_ids]})
    return {Counted(*key): amount for *key, amount in found}


KEY = Counted._fields
USED = sa.select(*(counters.c[name] for name in KEY), counters.c.used).where(
    counters.c.kind.in_(sa.bindparam("kinds", expanding=True)),
    counters.c.user_id.in_(sa.bindparam("user_ids", expanding=True)),
)
