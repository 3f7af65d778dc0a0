"""Storing rows: appends that a second sending does not change, and upserts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from data.contract import TABLES
from data.state import tombstones
from data.state.schema import tables

Row = Mapping[str, Any]
Key = tuple[Any, ...]

INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def append(connection: sa.Connection, name: str, rows: Sequence[Row]) -> set[Key]:
    """Store rows whose key is not there yet; the keys newly stored (of two rows with one key, the first is kept).

    Nothing of people who were erased is stored, see `tombstones.without_erased`.

    Args:
        connection: From `State.writing`.
        name: One of `schema.APPENDED`.
        rows: As `rows.fit` gives them; a column that is left out is empty.

    Example:
        >>> from data.state import State
        >>> row = {"anonymous_id": "a1", "user_id": "ann", "at": datetime.fromisoformat("2026-01-01T00:00:00+00:00")}
        >>> with State.open("sqlite://").writing() as connection:
        ...     [append(connection, "identities", [row]) for sending in (1, 2)]
        [{('a1', 'ann')}, set()]
    """
    rows = _whole(connection, name, rows)
    if not rows:
        return set()
    return {tuple(stored) for stored in connection.execute(_append(connection.dialect.name, name, told=True), rows)}


def add(connection: sa.Connection, name: str, rows: Sequence[Row]) -> None:
    """As `append`, without telling what was new, which costs less.

    Args:
        connection: From `State.writing`.
        name: One of `schema.APPENDED`.
        rows: As `rows.fit` gives them; a column that is left out is empty.
    """
    if rows := _whole(connection, name, rows):
        connection.execute(_append(connection.dialect.name, name, told=False), rows)


def _whole(connection: sa.Connection, name: str, rows: Sequence[Row]) -> list[Row]:
    """The rows that may be stored, all with every column: decisions of several kinds differ."""
    kept = tombstones.without_erased(tombstones.of(connection), name, rows) if rows else ()
    return [{**_blank(name), **row} for row in kept]


@lru_cache
def _blank(name: str) -> Row:
    """A row without values."""
    return dict.fromkeys(column.name for column in tables[name].columns if column.name != "seq")


@lru_cache
def _append(dialect: str, name: str, *, told: bool) -> sa.Executable:
    table, key = tables[name], TABLES[name].key
    insert = INSERTS[dialect](table).on_conflict_do_nothing(index_elements=key)
    return insert.returning(*(table.c[column] for column in key)) if told else insert  # type: ignore[no-any-return]


def upsert(connection: sa.Connection, name: str, rows: Sequence[Row], *, at: datetime) -> int:
    """Store rows, each in the place of the one with its key; the number of different keys.

    Nothing of people who were erased is stored.

    Args:
        connection: From `State.writing`.
        name: One of `schema.UPSERTED`.
        rows: As `rows.fit` gives them; of two rows with one key the later is kept.
        at: The moment of the change. A history (users, items) without `updated_at` is known from then on.
    """
    rows = tombstones.without_erased(tombstones.of(connection), name, rows) if rows else ()
    if not rows:
        return 0
    table, spec = tables[name], TABLES[name]
    # Readers know what is new by the newest: clocks differ and are set back, but writers take turns.
    newest = connection.scalar(sa.select(sa.func.max(table.c.changed_at)))
    changed_at = at if newest is None else max(at, newest + timedelta(microseconds=1))
    latest: dict[Key, dict[str, Any]] = {}
    for row in rows:
        whole = {**row, "changed_at": changed_at}
        if spec.history and spec.happened_at:
            whole[spec.happened_at] = whole.get(spec.happened_at) or at
        latest[tuple(whole[column] for column in spec.key)] = whole
    insert = INSERTS[connection.dialect.name](table)
    replaced = {column.name: insert.excluded[column.name] for column in table.c if column.name not in spec.key}
    statement = insert.on_conflict_do_update(index_elements=spec.key, set_=replaced)
    connection.execute(statement, list(latest.values()))
    return len(latest)
