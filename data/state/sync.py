"""`attune sync`: the live state becomes tables, beside what was imported; the same state gives the same tables."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import sqlalchemy as sa
from ibis.backends.duckdb import Backend

from data.contract import TABLES, TableSpec
from data.errors import DataError
from data.files import alone, replacing
from data.progress import timed, track
from data.sql import literal
from data.state.arrow import SEQ, batches
from data.state.engine import State
from data.state.schema import APPENDED, tables
from data.tables import READERS, Tables, connect, read_raw
from data.workspace import Workspace

log = logging.getLogger("attune")

NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*")
"""What DuckDB calls columns of numbers."""


@dataclass(frozen=True)
class Synced:
    """What a sync did.

    Attributes:
        rows: Rows of the state that are in the tables now, by table.
        already_imported: Rows left out because an imported row has their key, by table.
        orders_left_out: Order lines not written because the imported shop tells its purchases by events alone.
        gone: Rows that the last sync wrote and the state has no more, by table; they went from the tables too.
    """

    rows: Mapping[str, int]
    already_imported: Mapping[str, int]
    orders_left_out: int = 0
    gone: Mapping[str, int] = field(default_factory=dict)


def sync(workspace: Workspace, state: State) -> Synced:
    """Write every table of the state to `tables/NAME/state.parquet`.

    An imported `tables/NAME.*` moves to `tables/NAME/imported.parquet` first; nothing of it changes. A row whose key
    was imported is left out. Streams: memory does not grow with the state.

    A shop that imported `order_completed` events and no orders keeps to events: with a table of orders, however short,
    its earlier purchases would count no more. The live ones are in its events too.

    Raises:
        DataError: an imported table cannot be read, or the tables have rows of another state, which would be lost.
        StateUnavailableError: the state cannot be read.
    """
    rows: dict[str, int] = {}
    already: dict[str, int] = {}
    left_out = 0
    workspace.tables_dir.mkdir(exist_ok=True)
    with (
        alone(workspace.path),
        tempfile.TemporaryDirectory(prefix=".sync.", dir=workspace.path) as scratch,
        timed("sync"),
    ):
        exported = _export(state, Path(scratch))
        gone = _gone(workspace, exported)
        if exported:
            _unpack(workspace)
        if "orders" in exported and _buys_by_events(workspace):
            left_out = pq.read_metadata(exported.pop("orders")).num_rows
        for name in track(list(exported), "writing tables"):
            backend = connect(memory_limit_gb=workspace.settings.data.memory_limit_gb)
            imported = _settle_import(backend, workspace, name)
            rows[name] = _write(backend, TABLES[name], exported[name], imported, workspace.tables_dir / name)
            already[name] = pq.read_metadata(exported[name]).num_rows - rows[name]
        for name in gone.keys() - exported.keys():
            (workspace.tables_dir / name / "state.parquet").unlink()
            rows[name] = already[name] = 0
    return Synced(rows, already, left_out, gone)


def _buys_by_events(workspace: Workspace) -> bool:
    """Whether the shop brought purchases as events and has no table of orders."""
    if any(workspace.tables_dir.glob("orders*")):
        return False
    events = Tables.open(workspace.tables_dir)["events"]
    return bool(events.count(where=events.event == "order_completed").execute())


def _export(state: State, scratch: Path) -> dict[str, Path]:
    """Every table of the state that has rows, as Parquet, all seen at one moment."""
    exported: dict[str, Path] = {}
    with state.reading() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        for name, table in tables.items():
            file = scratch / f"{name}.parquet"
            writer: pq.ParquetWriter | None = None
            order = [table.c.seq] if "seq" in table.c else [table.c[column] for column in TABLES[name].key]
            for batch in batches(connection, sa.select(table).order_by(*order), name):
                writer = writer or pq.ParquetWriter(file, batch.schema)
                writer.write_batch(batch)
            if writer is not None:
                writer.close()
                exported[name] = file
    return exported


def _gone(workspace: Workspace, exported: Mapping[str, Path]) -> dict[str, int]:
    """How many of the rows that were synced before this state has no more, by table.

    Raises:
        DataError: it has none of a table's: they came from another one, and are not written over.
    """
    gone: dict[str, int] = {}
    for name in APPENDED:
        before = workspace.tables_dir / name / "state.parquet"
        if not before.is_file():
            continue
        rows, known = _both(before, exported.get(name), TABLES[name].key)
        if rows and not known and (name in exported or not exported):
            raise DataError(
                f"{before} has {rows:,} rows, and this state has none of them: it is not the one that was synced "
                "before. Set state.url back, copy that state's rows into this one, or remove the file if its rows may "
                "go."
            )
        if rows > known:
            gone[name] = rows - known
    return gone


def _both(before: Path, exported: Path | None, key: tuple[str, ...]) -> tuple[int, int]:
    """How many rows were synced before, and how many of them are in the state."""
    if exported is None:
        return int(pq.read_metadata(before).num_rows), 0
    columns = ", ".join(f'"{column}"' for column in key)  # `at` is a word of SQL
    with duckdb.connect() as con:
        [(rows, known)] = con.execute(
            f"SELECT count(*), count(key) FROM read_parquet(?) LEFT JOIN (SELECT 1 AS key, {columns} "
            f"FROM read_parquet(?)) USING ({columns})",
            [str(before), str(exported)],
        ).fetchall()
    return int(rows), int(known)


def _settle_import(backend: Backend, workspace: Workspace, name: str) -> Path | None:
    """Where the imported rows of a table are from now on; None if none were imported."""
    home = workspace.tables_dir / name / "imported.parquet"
    loose = [workspace.tables_dir / f"{name}.{ending}" for ending in ("parquet", "csv", "jsonl")]
    found = next((path for path in loose if path.is_file()), None)
    if found is not None:
        home.parent.mkdir(exist_ok=True)
        if found.suffix == ".parquet":
            found.replace(home)
        else:
            with replacing(home) as beside:
                READERS[found.suffix](backend, found).to_parquet(beside)
            found.unlink()
    return home if home.is_file() else None


def _unpack(workspace: Workspace) -> None:
    """The tables of a DuckDB file as Parquet, because a table lives in one place; the file keeps another name."""
    for file in sorted(workspace.tables_dir.glob("*.duckdb")):
        for name, table in read_raw(connect(), workspace.tables_dir).items():
            if not any(workspace.tables_dir.glob(f"{name}.*")) and not (workspace.tables_dir / name).exists():
                with replacing(workspace.tables_dir / f"{name}.parquet") as beside:
                    table.to_parquet(beside)
        file.rename(file.with_name(f"{file.name}.imported"))


def _write(backend: Backend, spec: TableSpec, exported: Path, imported: Path | None, home: Path) -> int:
    """Write `home/state.parquet`: the exported rows that were not imported, attributes as columns; how many."""
    con = backend.con
    con.execute("SET preserve_insertion_order=true")
    kinds: dict[str, str] = {}
    if imported is not None:
        exported = _not_imported(backend, spec, exported, imported)
        described = con.execute("DESCRIBE imported").fetchall()
        counts = con.execute("SELECT count(COLUMNS(*)) FROM imported").fetchone()
        kinds = {column.lower(): kind for (column, kind, *_), n in zip(described, counts, strict=True) if n}
    con.execute(f"CREATE VIEW new AS SELECT * FROM read_parquet({literal(exported)})")
    kept = [column.name for column in spec.columns if column.required] + _filled(con, spec)
    columns = ", ".join([*(f'"{name}"' for name in kept), *_attributes(con, spec.name, kinds)])
    order = SEQ if SEQ in kept else ", ".join(spec.key)
    rows = int(pq.read_metadata(exported).num_rows)
    if rows:
        with replacing(home / "state.parquet") as beside:
            con.execute(f"COPY (SELECT {columns} FROM new ORDER BY {order}) TO {literal(beside)} (COMPRESSION zstd)")
    else:
        (home / "state.parquet").unlink(missing_ok=True)
    return rows


def _not_imported(backend: Backend, spec: TableSpec, exported: Path, imported: Path) -> Path:
    """A file beside the exported one with its rows whose key was not imported.

    A file, because DuckDB 2.0 gives up ("dict-surviving cache") where attributes are read straight from the join.
    """
    con = backend.con
    con.execute(f"CREATE VIEW imported AS SELECT * FROM read_parquet({literal(imported)})")
    if not {column.lower() for column in backend.table("imported").columns} >= set(spec.key):
        return exported
    types = {column: spec.schema[column] for column in spec.key}
    same = " AND ".join(
        f"TRY_CAST(i.{column} AS {'TIMESTAMPTZ' if types[column].is_timestamp() else 'VARCHAR'}) = e.{column}"
        for column in spec.key
    )
    found = exported.with_suffix(".new.parquet")
    con.execute(
        f"COPY (SELECT * FROM read_parquet({literal(exported)}) e "
        f"WHERE NOT EXISTS (SELECT 1 FROM imported i WHERE {same})) TO {literal(found)}"
    )
    return found


def _filled(con: Any, spec: TableSpec) -> list[str]:
    """The optional columns with at least one value: a column without any was not brought."""
    optional = [*(column.name for column in spec.columns if not column.required), SEQ]
    counts = con.execute(f"SELECT {', '.join(f'count({name})' for name in optional)} FROM new").fetchone()
    return [name for name, count in zip(optional, counts, strict=True) if count]


def _attributes(con: Any, table: str, kinds: Mapping[str, str]) -> list[str]:
    """SQL of a column for each attribute in `extra`: of its imported kind, else that of all values, else text."""
    found = con.execute(f"""
        SELECT name, bool_and(kind IN ('DOUBLE', 'UBIGINT', 'BIGINT')), bool_and(kind = 'BOOLEAN')
        FROM (
            SELECT name, json_type(extra, '$.' || name) AS kind
            FROM (SELECT extra, unnest(json_keys(extra)) AS name FROM new WHERE extra IS NOT NULL)
        ) WHERE kind <> 'NULL' AND name <> '{SEQ}' GROUP BY name ORDER BY name
    """).fetchall()
    columns = []
    for name, numeric, boolean in found:
        kind = kinds.get(name) or ("DOUBLE" if numeric else "BOOLEAN" if boolean else "VARCHAR")
        kind = "DOUBLE" if NUMBER.fullmatch(kind) else kind
        told, value = f"extra ->> '$.{name}'", f"TRY_CAST(extra ->> '$.{name}' AS {kind})"
        columns.append(f'{value} AS "{name}"')
        [(lost,)] = con.execute(f"SELECT count({told}) - count({value}) FROM new").fetchall()
        if lost:
            log.warning("%s.%s: %d values of the state are left out, which are no %s", table, name, lost, kind)
    return columns
