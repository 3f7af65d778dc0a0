"""A shop's tables as Ibis expressions that fit the contract, and the one place that knows what was known when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
from ibis.backends.duckdb import Backend
from ibis.expr import types as ir

from data.contract import IBIS_TYPES, TABLES, TableSpec
from data.errors import DataError

EPOCH = "timestamp('UTC')"


def connect(*, memory_limit_gb: float | None = None) -> Backend:
    """An in-memory DuckDB whose session time zone is UTC."""
    backend = ibis.duckdb.connect()
    backend.raw_sql("SET TimeZone='UTC'")
    backend.raw_sql("SET preserve_insertion_order=false")
    if memory_limit_gb is not None:
        backend.raw_sql(f"SET memory_limit='{memory_limit_gb}GB'")
    return backend


def read_raw(backend: Backend, folder: Path) -> dict[str, ir.Table]:
    """The tables of a folder exactly as brought: `NAME.parquet|csv|jsonl`, `NAME/*.parquet`, or one `*.duckdb`.

    CSV columns are all strings, so that a wrong value can be told from a missing one.

    Raises:
        DataError: no such folder, or a file that cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. `attune import` makes it.")
    raw: dict[str, ir.Table] = {}
    for file in sorted(folder.glob("*.duckdb")):
        backend.attach(file, name="shop", read_only=True)
        # Not backend.list_tables: Ibis 12 asks DuckDB 2 for a method that it no longer has.
        there = backend.con.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_catalog = 'shop'"
        ).fetchall()
        raw |= {name: backend.table(name, database=("shop", "main")) for (name,) in there if name in TABLES}
    for name in TABLES:
        readers = {
            f"{name}.parquet": backend.read_parquet,
            f"{name}.csv": lambda path: backend.read_csv(path, all_varchar=True),
            f"{name}.jsonl": backend.read_json,
        }
        found = [folder / file for file in readers if (folder / file).is_file()]
        if (folder / name).is_dir():
            found.append(folder / name)
        if len(found) > 1:
            raise DataError(f"{name} is there twice: {', '.join(map(str, found))}. Keep one of them.")
        for path in found:
            try:
                if path.is_dir():
                    raw[name] = backend.read_parquet(str(path / "**/*.parquet"), union_by_name=True)
                else:
                    raw[name] = readers[path.name](str(path))
            except Exception as error:
                raise DataError(f"{path} cannot be read: {error}. Write it again, or remove it.") from error
    return raw


def conform(raw: ir.Table | None, spec: TableSpec) -> ir.Table:
    """A table with the contract's columns and types: what cannot be cast is null, what is missing is null.

    Other columns are kept, after the known ones. `None` gives an empty table.
    """
    if raw is None:
        empty = pd.DataFrame({name: pd.Series(dtype="object") for name in spec.by_name})
        return ibis.memtable(empty, schema=spec.schema)
    columns: dict[str, ir.Value] = {}
    for column in spec.columns:
        wanted = IBIS_TYPES[column.type]
        if column.name not in raw.columns:
            columns[column.name] = ibis.null(wanted)
        elif raw[column.name].type() == ibis.dtype(wanted):
            columns[column.name] = raw[column.name]
        else:
            columns[column.name] = cast(raw[column.name], wanted)
    for name in raw.columns:
        columns.setdefault(name, raw[name])
    return raw.select(**columns)


def cast(value: ir.Value, wanted: str) -> ir.Value:
    """`value` as the contract's type `wanted`, null where it cannot be read as one."""
    if wanted.startswith("array") and value.type().is_string():
        parts = value.re_replace(r"[\[\]\"' ]", "").split(",")
        return parts if wanted == "array<string>" else parts.try_cast(wanted)
    return value.try_cast(wanted)


@dataclass(frozen=True)
class Tables(Mapping[str, ir.Table]):
    """The contract's tables. A table or column the shop did not bring reads as empty or null.

    Attributes:
        backend: The DuckDB behind the expressions.
        conformed: Every table of the contract, typed.
        brought: For each table the shop brought, the columns it brought.
    """

    backend: Backend
    conformed: Mapping[str, ir.Table]
    brought: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, backend: Backend, raw: Mapping[str, ir.Table]) -> Tables:
        """Fit raw tables of `backend` to the contract."""
        return cls(
            backend=backend,
            conformed={name: conform(raw.get(name), spec) for name, spec in TABLES.items()},
            brought={name: frozenset(table.columns) for name, table in raw.items()},
        )

    @classmethod
    def open(cls, folder: Path | str, *, memory_limit_gb: float | None = None) -> Tables:
        """The tables of a folder (see `read_raw`)."""
        backend = connect(memory_limit_gb=memory_limit_gb)
        return cls.of(backend, read_raw(backend, Path(folder)))

    @classmethod
    def from_frames(cls, **frames: pd.DataFrame) -> Tables:
        """Tables from pandas frames, for tests, notebooks and small shops.

        Example:
            >>> shop = Tables.from_frames(consents=pd.DataFrame({
            ...     "user_id": ["ann"], "purpose": ["email"], "granted": [True], "at": ["2026-01-01"]}))
            >>> shop["consents"].count().execute()
            1
        """
        backend = connect()
        unknown = set(frames) - set(TABLES)
        if unknown:
            raise DataError(f"{sorted(unknown)}: no such table. The contract has {sorted(TABLES)}.")
        return cls.of(backend, {name: backend.create_table(name, frame) for name, frame in frames.items()})

    def __getitem__(self, name: str) -> ir.Table:
        return self.conformed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.conformed)

    def __len__(self) -> int:
        return len(self.conformed)

    def has(self, table: str, *columns: str) -> bool:
        """Whether the shop brought a table, with all these columns."""
        return table in self.brought and self.brought[table] >= set(columns)

    def as_of(self, cutoff: datetime | ir.TimestampScalar) -> Tables:
        """The tables as they were known just before `cutoff`: the one gate that every feature passes.

        - a row whose time, or whose `received_at`, is at or after the cutoff is not there;
        - a later time (an open, a click) at or after the cutoff is null, with what hangs on it;
        - of a history (users, items) each entity's latest row before the cutoff is there;
        - events of an anonymous visitor carry the user who they became known as before the cutoff.
        """
        moment = cutoff_literal(cutoff)
        known = {name: _known(table, TABLES[name], moment) for name, table in self.conformed.items()}
        if "identities" in self.brought:
            known["events"] = _named(known["events"], known["identities"])
        return Tables(backend=self.backend, conformed=known, brought=self.brought)


def cutoff_literal(cutoff: datetime | ir.TimestampScalar) -> ir.TimestampScalar:
    """A cutoff as an Ibis scalar in UTC.

    Raises:
        DataError: a datetime without a time zone.
    """
    if isinstance(cutoff, ir.Value):
        return cutoff
    if cutoff.tzinfo is None:
        raise DataError(f"cutoff {cutoff} has no time zone; say 2026-01-01T00:00:00+00:00.")
    return ibis.literal(pd.Timestamp(cutoff).tz_convert("UTC"), type=EPOCH)


def _known(table: ir.Table, spec: TableSpec, moment: ir.TimestampScalar) -> ir.Table:
    conditions: list[Any] = []
    if spec.happened_at:
        happened = table[spec.happened_at] < moment
        conditions.append((table[spec.happened_at].isnull() | happened) if spec.history else happened)
    if "received_at" in spec.by_name:
        conditions.append(table["received_at"].isnull() | (table["received_at"] < moment))
    if conditions:
        table = table.filter(*conditions)
    hidden: dict[str, ir.Value] = {}
    for later, columns in (spec.later or {}).items():
        for column in columns:
            hidden[column] = (table[later] < moment).ifelse(table[column], ibis.null(table[column].type()))
    if hidden:
        table = table.mutate(**hidden)
    if spec.history:
        order = [
            ibis.desc(table[spec.happened_at]),
            *(table[c] for c in table.columns if c not in (*spec.history, spec.happened_at)),
        ]
        newest = ibis.row_number().over(group_by=list(spec.history), order_by=order)
        table = table.mutate(newest=newest).filter(lambda t: t.newest == 0).drop("newest")
    return table


def _named(events: ir.Table, identities: ir.Table) -> ir.Table:
    """Events whose anonymous visitor is known by now carry the user who was first named for that visitor."""
    rank = ibis.row_number().over(group_by="anonymous_id", order_by=["at", "user_id"])
    first = (
        identities.mutate(rank=rank)
        .filter(lambda t: t["rank"] == 0)
        .select(known_anonymous_id="anonymous_id", known_user_id="user_id")
    )
    joined = events.left_join(first, events.anonymous_id == first.known_anonymous_id)
    return joined.mutate(user_id=ibis.coalesce(joined.user_id, joined.known_user_id)).drop(
        "known_anonymous_id", "known_user_id"
    )
