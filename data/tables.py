"""A shop's tables as Ibis expressions that fit the contract, and the one place that knows what was known when."""

from __future__ import annotations

import contextlib
import csv
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pandas as pd
from ibis.backends.duckdb import Backend
from ibis.expr import types as ir

from data.contract import IBIS_TYPES, TABLES, TableSpec
from data.errors import DataError
from data.sql import literal

EPOCH = "timestamp('UTC')"
NOT_UTF_8 = "{} is not UTF-8. Save it as CSV UTF-8, or `iconv -f cp1252 -t utf-8` (`-f utf-16`), and try again."
LAST = datetime.max.replace(tzinfo=UTC)
"""No later time can be read."""


def connect(*, memory_limit_gb: float | None = None) -> Backend:
    """An in-memory DuckDB whose session time zone is UTC."""
    backend = ibis.duckdb.connect()
    backend.raw_sql("SET TimeZone='UTC'")
    backend.raw_sql("SET preserve_insertion_order=false")
    with contextlib.suppress(duckdb.InvalidInputException):  # in Jupyter without ipywidgets there is no bar
        backend.raw_sql("SET enable_progress_bar=false")  # it would be written into the command's output
    spill = literal(Path(tempfile.gettempdir()) / "attune-spill")
    backend.raw_sql(f"SET temp_directory={spill}")  # else DuckDB spills into the current folder
    backend.raw_sql("SET lambda_syntax='ENABLE_SINGLE_ARROW'")  # Ibis 12 writes lambdas as DuckDB 1 read them
    if memory_limit_gb is not None:
        backend.raw_sql(f"SET memory_limit='{memory_limit_gb}GB'")
    return backend


def read_raw(backend: Backend, folder: Path, *, names: Collection[str] = tuple(TABLES)) -> dict[str, ir.Table]:
    """The tables of a folder as brought: `NAME.parquet|csv|jsonl`, `NAME/*.parquet`, or one `*.duckdb`.

    Of those in `names`; all by default.

    CSV columns are all strings, so that a wrong value can be told from a missing one. Column names that differ from
    the contract's by case or blanks alone (`Order_ID`) get the contract's spelling.

    Raises:
        DataError: no such folder, a table that is there twice, or a file that cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. `attune import` makes it.")
    found = {name: files_of(folder, name) for name in names}
    raw: dict[str, ir.Table] = {}
    for number, file in enumerate(sorted(folder.glob("*.duckdb"))):
        with _readable(file):
            backend.attach(file, name=f"shop{number}", read_only=True)
            # Not backend.list_tables: Ibis 12 asks DuckDB 2 for a method that it no longer has.
            query = f"SELECT table_name FROM information_schema.tables WHERE table_catalog = 'shop{number}'"
            for name in sorted({row[0] for row in backend.con.execute(query).fetchall()} & set(names)):
                found[name].append(file)
                raw[name] = backend.table(name, database=(f"shop{number}", "main"))
    for name, paths in found.items():
        if len(paths) > 1:
            raise DataError(f"{name} is there twice: {', '.join(map(str, paths))}. Keep one of them.")
        if paths and name not in raw:
            with _readable(paths[0]):
                raw[name] = READERS[paths[0].suffix](backend, paths[0])
    return {name: _spelt(raw[name], spec) for name, spec in TABLES.items() if name in raw}


def files_of(folder: Path, name: str) -> list[Path]:
    """The files that a table is read from, its folder of Parquet files among them; none where a DuckDB file has it."""
    files = [path for ending in READERS if (path := folder / f"{name}{ending}").is_file()]
    return [*files, folder / name] if (folder / name).is_dir() else files


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(NOT_UTF_8.format(path)) from error
    except (duckdb.Error, OSError) as error:
        raise DataError(f"{path} cannot be read: {cause(error)}. Write it again, or remove it.") from error


def cause(error: Exception) -> str:
    """What DuckDB says is wrong, on one line and without its advice."""
    told = str(error).strip() or type(error).__name__
    told = told.partition("\nPossible")[0] if "CSV Error" in told else told.partition("\n\n")[0]
    return ", ".join(line.strip().rstrip(".") for line in told.splitlines() if line.strip())


def _read_csv(backend: Backend, path: Path) -> ir.Table:
    """Every column as text under the names of the first line: nothing is guessed, so no bad line is taken for a header.

    The delimiter is the comma, semicolon, tab or bar of which the header has the most.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
    if not header.strip():
        raise DataError(f"{path} is empty. Write at least a line with the column names, or remove it.")
    delimiter = delimiter_of(header)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]
    if len({name.lower() for name in names}) < len(names) or "" in names:
        raise DataError(
            f"{path} cannot be read: its columns are {names}. Give each a name of its own in the first line."
        )
    columns = dict.fromkeys(names, "VARCHAR")
    return backend.read_csv(path, columns=columns, header=True, auto_detect=False, delim=delimiter)


def delimiter_of(header: str) -> str:
    """What parts the columns of a CSV file, by its first line."""
    return max(",;\t|", key=header.count)


def _read_json_lines(backend: Backend, path: Path) -> ir.Table:
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty. Remove it.")
    lines = "newline_delimited"
    columns = json_columns(backend, f"read_json({literal(path)}, format='{lines}', sample_size=-1)")
    return backend.read_json(path, format=lines, columns=columns)


def json_columns(backend: Backend, source: str) -> dict[str, str]:
    """The types of a `read_json`'s columns, in which text is text.

    DuckDB takes text that looks so for an UUID or a time, and writes it its own way: an id in capitals was another one.
    They come from all lines, not from the first few, so that a late odd value is no error.
    """
    guessed = r"\b(UUID|DATE|TIME|TIMESTAMP)( WITH TIME ZONE)?(?=[,)\[]|$)"  # after a field's name stands its type
    types = backend.raw_sql(f"DESCRIBE SELECT * FROM {source}").fetchall()
    return {column: re.sub(guessed, "VARCHAR", kind) for column, kind, *_ in types}


READERS: dict[str, Callable[[Backend, Path], ir.Table]] = {
    ".parquet": lambda backend, path: backend.read_parquet(path),
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    "": lambda backend, folder: backend.read_parquet(str(folder / "**/*.parquet"), union_by_name=True),
}
"""How a table is read, by the ending of its file; a folder has none."""


def _spelt(raw: ir.Table, spec: TableSpec) -> ir.Table:
    """`raw` with the contract's spelling of the columns that it has."""
    others = {column: column.strip().lower() for column in raw.columns if column not in spec.by_name}
    return raw.rename({
        name: column for column, name in others.items() if name in spec.by_name and name not in raw.columns
    })  # fmt: skip


def conform(raw: ir.Table | None, spec: TableSpec) -> ir.Table:
    """A table with the contract's columns and types: what cannot be cast is null, what is missing is null.

    Other columns are kept, after the known ones. `None` gives an empty table.
    """
    if raw is None:
        empty = pd.DataFrame({name: pd.Series(dtype="object") for name in spec.by_name})
        return ibis.memtable(empty, schema=spec.schema)
    return raw.select(**typed(raw, spec))


def typed(raw: ir.Table, spec: TableSpec) -> dict[str, ir.Value]:
    """The columns of `raw` as the contract types them, and its other columns as they are."""
    columns: dict[str, ir.Value] = {}
    for column in spec.columns:
        wanted = IBIS_TYPES[column.type]
        columns[column.name] = cast(raw[column.name], wanted) if column.name in raw.columns else ibis.null(wanted)
    return columns | {name: raw[name] for name in raw.columns if name not in columns}


def cast(value: ir.Value, wanted: str) -> ir.Value:
    """`value` as the contract's type `wanted`, null where it cannot be read as one."""
    if value.type() == ibis.dtype(wanted):
        return value
    if value.type().is_json() and not wanted.startswith("array"):
        value = ibis.coalesce(value.str, value.cast("string")).nullif("null")  # the text without JSON's quotes
    if value.type().is_string() and wanted.startswith("array"):
        text = value.re_replace(r"^[\s\[]+|[\s\]]+$|[\"']", "")
        value = (text == "").ifelse(ibis.literal([], type="array<string>"), text.re_split(r"\s*,\s*"))
    elif value.type().is_numeric() and wanted.startswith("array"):
        value = value.notnull().ifelse(ibis.array([value]), ibis.null(f"array<{value.type()}>"))
    elif value.type().is_floating() and wanted == IBIS_TYPES["string"]:  # pandas makes numbers of ids with gaps
        text = value.cast("string").re_replace(r"\.0$", "")
        value = (value - value == 0).ifelse(text, ibis.null("string"))  # NaN is no id
    elif wanted == IBIS_TYPES["int"] and (value.type().is_string() or value.type().is_floating()):  # DuckDB rounds
        number = value.try_cast("float64")
        value = (number == number.floor()).ifelse(value, ibis.null(value.type()))
    read = value.try_cast(wanted)
    if wanted == EPOCH:  # 'infinity' is a time to DuckDB, and to nothing that reads it from there
        read = (read < ibis.literal(LAST, type=EPOCH)).ifelse(read, ibis.null(EPOCH))
    return read


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
        - of a history (users, items) each entity's latest row before the cutoff is there; a row without `updated_at`
          is known from `created_at` on, and always if it has neither;
        - events of an anonymous visitor carry the user who they became known as before the cutoff;
        - offers and variants are as they are today: their `starts_at` and `ends_at` are plans, known beforehand.
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


def unused(name: str, table: ir.Table) -> str:
    """The name, or a longer one that no column has: a shop's attributes may be called anything."""
    while name in table.columns:
        name += "_"
    return name


def _known(table: ir.Table, spec: TableSpec, moment: ir.TimestampScalar) -> ir.Table:
    conditions: list[Any] = []
    if spec.history:
        known_from = ibis.coalesce(table[spec.happened_at], table["created_at"])
        conditions.append(known_from.isnull() | (known_from < moment))
    elif spec.happened_at:
        conditions.append(table[spec.happened_at] < moment)
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
        place = unused("newest", table)
        newest = ibis.row_number().over(group_by=list(spec.history), order_by=order)
        table = table.mutate(**{place: newest}).filter(lambda t: t[place] == 0).drop(place)
    return table


def _named(events: ir.Table, identities: ir.Table) -> ir.Table:
    """Events whose anonymous visitor is known by now carry the user who was first named for that visitor."""
    rank = ibis.row_number().over(group_by="anonymous_id", order_by=["at", "user_id"])
    visitor, user = unused("known_anonymous_id", events), unused("known_user_id", events)
    first = (
        identities.mutate(rank=rank)
        .filter(lambda t: t["rank"] == 0)
        .select(**{visitor: "anonymous_id", user: "user_id"})
    )
    joined = events.left_join(first, events.anonymous_id == first[visitor])
    named = joined.mutate(user_id=ibis.coalesce(joined.user_id, joined[user]))
    return named.select(*events.columns)  # `drop` of two columns writes them in an order that changes by process
