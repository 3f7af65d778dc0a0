"""Features, habits and happenings online: the SQL of training, compiled once, run over the rows of a few customers."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import duckdb
import pandas as pd
import pyarrow as pa

from data import settings as config
from data.errors import DataError
from data.tables import Tables
from features import hours
from features.happenings import happenings
from features.snapshots import compiled, feature_names, set_cutoff, symbolic, symbolic_sql


class OnlineFeatures:
    """Computes feature rows that equal the offline snapshot's. One object serves many threads, one at a time.

    Attributes:
        sql: What is run.
        columns: Names of the features in their order, as a snapshot has them.
        tables: Names of the tables it reads; what the shop had not brought at compile time is not looked at, but for
            who visitors became.

    Example:
        >>> shop = Tables.from_frames(events=pd.DataFrame({
        ...     "event_id": ["1"], "user_id": ["ann"], "event": ["product_added"], "item_id": ["tea"],
        ...     "occurred_at": pd.to_datetime(["2026-01-01"], utc=True)}))
        >>> online = OnlineFeatures(shop, config.Features())
        >>> rows = {"events": shop["events"].to_pyarrow()}
        >>> online.compute(rows, pd.Timestamp("2026-01-02", tz="UTC"))["cart_items"].tolist()
        [1]
    """

    def __init__(self, tables: Tables, settings: config.Features, *, categories: Sequence[str] = ()) -> None:
        """Compile for the columns that `tables` brought; `categories` are those of the snapshots."""
        tables = _with_visitors(tables)
        self.sql = symbolic_sql(tables, settings, categories=categories)
        self.columns = feature_names(tables, settings, categories=categories)
        self._queries = _Queries(tables, {"features": self.sql})
        self.tables = self._queries.tables

    def compute(self, rows: Mapping[str, pa.Table], cutoff: datetime) -> pd.DataFrame:
        """`user_id` and the features of everybody in `rows`, sorted by `user_id`.

        Args:
            rows: For each of `tables`, all rows of the customers wanted (with their `identities` and the anonymous
                events that go with them), and the `items`. A table or column left out reads as empty; one that was
                not there at compile time is ignored.
            cutoff: The moment, with its time zone; rows at or after it do not count.

        Raises:
            DataError: a naive cutoff, or a column that cannot be read as its type.
        """
        return self._queries.run(rows, cutoff)["features"].sort_values("user_id", ignore_index=True)


class OnlineHabits:
    """Finds habits that equal those of `features.hours.habits`. One object serves many threads, one at a time.

    Attributes:
        tables: Names of the tables it reads.
        usual_zone: The shop's commonest time zone.
    """

    def __init__(self, tables: Tables) -> None:
        """Compile for the columns that `tables` brought.

        Raises:
            DataError: there are no messages, or none says whether it was opened.
        """
        tables = _with_visitors(tables)
        unbound, cutoff = symbolic(tables)
        found = hours.expressions(unbound.as_of(cutoff), cutoff)
        self._queries = _Queries(tables, {name: compiled(rows, tables) for name, rows in found.items()})
        self.tables = self._queries.tables
        self.usual_zone = hours.zone_of_most(tables.as_of(datetime.now(UTC)))

    def compute(self, rows: Mapping[str, pa.Table], cutoff: datetime) -> hours.Habits:
        """The habits of everybody in `rows`; arguments and errors are those of `OnlineFeatures.compute`."""
        return hours.from_rows(self._queries.run(rows, cutoff), usual_zone=self.usual_zone)


class OnlineHappenings:
    """Finds what `features.happenings.happenings` does. One object serves many threads, one at a time.

    Attributes:
        tables: Names of the tables it reads.
    """

    def __init__(self, tables: Tables, answers: Sequence[str] = ()) -> None:
        """Compile for the columns that `tables` brought; `answers` are further columns of events."""
        tables = _with_visitors(tables)
        unbound, cutoff = symbolic(tables)
        every = happenings(unbound.as_of(cutoff), cutoff, answers=answers)
        self._queries = _Queries(tables, {"happenings": compiled(every, tables)})
        self.tables = self._queries.tables

    def compute(self, rows: Mapping[str, pa.Table], cutoff: datetime) -> pd.DataFrame:
        """What everybody in `rows` did; arguments and errors are those of `OnlineFeatures.compute`."""
        return self._queries.run(rows, cutoff)["happenings"]


class _Queries:
    """SQL of `symbolic` tables, run for any cutoff over rows that are brought."""

    def __init__(self, tables: Tables, sql: Mapping[str, str]) -> None:
        self.tables = tuple(name for name in sorted(tables.brought) if any(f'"{name}"' in one for one in sql.values()))
        self._sql = sql
        self._schemas = {name: tables[name].schema().to_pyarrow() for name in self.tables}
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone='UTC'")
        self._connection.execute("SET threads=1")
        self._lock = threading.Lock()

    def run(self, rows: Mapping[str, pa.Table], cutoff: datetime) -> dict[str, pd.DataFrame]:
        """What each query finds."""
        if cutoff.tzinfo is None:
            raise DataError(f"cutoff {cutoff} has no time zone; say {cutoff:%Y-%m-%dT%H:%M:%S}+00:00.")
        fitted = {name: _fit(rows.get(name), schema, name) for name, schema in self._schemas.items()}
        with self._lock:
            for name, table in fitted.items():
                self._connection.register(name, table)
            self._connection.execute(set_cutoff(cutoff))
            found = {name: self._connection.sql(sql).to_arrow_table() for name, sql in self._sql.items()}
            for name in fitted:
                self._connection.unregister(name)
        return {name: table.to_pandas() for name, table in found.items()}


def _with_visitors(tables: Tables) -> Tables:
    """As if `identities` was brought: a visitor may sign in before any table tells of one who did."""
    if "events" not in tables.brought:
        return tables
    return replace(tables, brought={"identities": frozenset(), **tables.brought})


def _fit(table: pa.Table | None, schema: pa.Schema, name: str) -> pa.Table:
    """`table` with exactly the columns and types of `schema`; what is missing is null."""
    if table is None:
        return schema.empty_table()
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        try:
            columns.append(table.column(field.name).cast(field.type, safe=False))
        except pa.ArrowInvalid as error:
            raise DataError(f"{name}.{field.name} is no {field.type}: {error}. Send it as one.") from error
    return pa.Table.from_arrays(columns, schema=schema)
