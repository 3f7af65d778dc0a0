"""The state's database schema: a table per table of the contract, the API keys, counters, and who was erased."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from data.contract import TABLES, TableSpec

APPENDED = ("events", "orders", "identities", "consents", "preferences", "decisions", "outcomes")
"""Tables that only grow. Each row has `seq`, a number that rises with every row stored."""

UPSERTED = ("users", "items", "offers", "variants", "messages")
"""Tables whose row with the same key is replaced. Each row has `changed_at`."""

AT_ONCE = 1_000
"""Values in one statement: a database takes only so many."""

T = TypeVar("T")

INDEXES: dict[str, tuple[tuple[str, ...], ...]] = {
    "events": (("user_id", "seq"), ("anonymous_id", "seq")),
    "orders": (("user_id", "seq"),),
    "identities": (("user_id",),),
    "consents": (("user_id",),),
    "preferences": (("user_id",),),
    "decisions": (("user_id", "kind"),),
    "outcomes": (("decision_id",),),
    "messages": (("user_id",),),
}


class Utc(sa.types.TypeDecorator[datetime]):
    """A moment in UTC: `timestamptz` in PostgreSQL, ISO text in SQLite; always read back with its time zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Any time zone goes in."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """UTC comes out."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TYPES: dict[str, Any] = {
    "string": sa.Text(),
    "time": Utc(),
    "float": sa.Double(),
    "int": sa.BigInteger(),
    "bool": sa.Boolean(),
    "strings": sa.JSON(none_as_null=True),
    "floats": sa.JSON(none_as_null=True),
}

metadata = sa.MetaData()


def slices(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The values in parts of `AT_ONCE`, each for a statement of its own.

    Example:
        >>> [len(part) for part in slices(range(2_500))]
        [1000, 1000, 500]
    """
    return (values[begin : begin + AT_ONCE] for begin in range(0, len(values), AT_ONCE))


def _table(spec: TableSpec) -> sa.Table:
    """The contract's columns, `extra` for attributes outside it, and `seq` or `changed_at`."""
    columns = [
        sa.Column(column.name, TYPES[column.type], nullable=not (column.required or column.name in spec.key))
        for column in spec.columns
    ]
    extra = sa.Column("extra", sa.JSON(none_as_null=True))
    indexes = [sa.Index(f"{spec.name}_by_{'_'.join(names)}", *names) for names in INDEXES.get(spec.name, ())]
    if spec.name in APPENDED:
        seq = sa.Column("seq", SERIAL, primary_key=True, autoincrement=True)
        unique = sa.UniqueConstraint(*spec.key, name=f"{spec.name}_key")
        return sa.Table(spec.name, metadata, seq, *columns, extra, unique, *indexes, sqlite_autoincrement=True)
    changed: sa.Column[datetime] = sa.Column("changed_at", Utc(), nullable=False)
    indexes.append(sa.Index(f"{spec.name}_by_changed_at", "changed_at"))
    key = sa.PrimaryKeyConstraint(*spec.key, name=f"{spec.name}_key")
    return sa.Table(spec.name, metadata, *columns, extra, changed, key, *indexes)


tables: dict[str, sa.Table] = {name: _table(TABLES[name]) for name in (*APPENDED, *UPSERTED)}
"""The contract's tables in the state."""

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("created_at", Utc(), nullable=False),
    sa.Column("revoked_at", Utc()),
)

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("about", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, primary_key=True, server_default=""),
    sa.Column("used", sa.Double, nullable=False),
    sa.Index("counters_by_user_id", "user_id"),
)
"""How much of something limited is used, such as an offer's redemptions; see `counting`."""

tombstones = sa.Table(
    "tombstones",
    metadata,
    sa.Column("seq", SERIAL, primary_key=True, autoincrement=True),
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("keep_orders", sa.Boolean, nullable=False),
    sa.UniqueConstraint("person", name="tombstones_key"),
    sqlite_autoincrement=True,
)
"""Who was erased, by the keyed hash of each of their ids; see `tombstones.py`."""

erasures = sa.Table(
    "erasures",
    metadata,
    sa.Column("erasure_id", sa.Text, primary_key=True),
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("pending", sa.JSON(none_as_null=True)),
    sa.Column("receipt", sa.JSON(none_as_null=True), nullable=False),
    sa.Index("erasures_by_person", "person"),
)
"""What was removed of whom. `pending` lists the hashes to look for in files, until those are done with."""
