"""`attune sync`: the live state becomes tables, beside what was imported; the same state gives the same tables."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from ibis.backends.duckdb import Backend

from data.contract import TABLES, ColumnType, TableSpec
from data.files import replacing
from data.progress import timed, track
from data.state.engine import State
from data.state.schema import APPENDED, tables
from data.tables import connect, read_raw
from data.workspace import Workspace

SEQ = "state_seq"
"""Column of a synced table: the row's `seq` in the state. The largest in the checked tables tells serving which of
the state's rows are not in them yet."""

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
    "float": pa.float64(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "strings": pa.list_(pa.string()),
    "floats": pa.list_(pa.float64()),
}
ROWS_AT_ONCE = 50_000


@dataclass(frozen=True)
class Synced:
    """What a sync did.

    Attributes:
        rows: Rows of the state that are in the tables now, by table.
        already_imported: Rows left out because an imported row has their key, by table.
    """

    rows: Mapping[str, int]
    already_imported: Mapping[str, int]


def sync(workspace: Workspace, state: State) -> Synced:
    """Write every table of the state to `tables/NAME/state.parquet`.

    An imported `tables/NAME.*` moves to `tables/NAME/imported.parquet` first; nothing of it changes. A row whose key
    was imported is left out. Streams: memory does not grow with the state.

    Raises:
        DataError: an imported table cannot be read.
        StateUnavailableError: the state cannot be read.
    """
    rows: dict[str, int] = {}
    already: dict[str, int] = {}
    workspace.tables_dir.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sync.", dir=workspace.path) as scratch, timed("sync"):
        exported = _export(state, Path(scratch))
        for name in track(list(exported), "writing tables"):
            backend = connect(memory_limit_gb=workspace.settings.data.memory_limit_gb)
            imported = _settle_import(backend, workspace, name)
            rows[name] = _write(backend, TABLES[name], exported[name], imported, workspace.tables_dir / name)
            already[name] = pq.read_metadata(exported[name]).num_rows - rows[name]
    return Synced(rows, already)


def _export(state: State, scratch: Path) -> dict[str, Path]:
    """Every table of the state that has rows, as Parquet, all seen at one moment."""
    exported: dict[str, Path] = {}
    with state.reading() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        for name, table in tables.items():
            file = scratch / f"{name}.parquet"
            schema = _arrow_schema(name)
            writer: pq.ParquetWriter | None = None
            for batch in _batches(connection, table, schema):
                writer = writer or pq.ParquetWriter(file, schema)
                writer.write_batch(batch)
            if writer is not None:
                writer.close()
                exported[name] = file
    return exported


def _arrow_schema(name: str) -> pa.Schema:
    fields = [(column.name, ARROW_TYPES[column.type]) for column in TABLES[name].columns]
    serial = [(SEQ, pa.int64())] if name in APPENDED else []
    return pa.schema([*fields, *serial, ("extra", pa.string())])


def _batches(connection: sa.Connection, table: sa.Table, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    order = [table.c.seq] if "seq" in table.c else [table.c[column] for column in TABLES[table.name].key]
    columns = [table.c.seq.label(SEQ) if name == SEQ else table.c[name] for name in schema.names]
    result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(sa.select(*columns).order_by(*order))
    for partition in result.partitions():
        found: list[list[Any]] = [list(values) for values in zip(*partition, strict=True)]
        found[-1] = [None if value is None else json.dumps(value, sort_keys=True) for value in found[-1]]
        yield pa.RecordBatch.from_arrays(
            [pa.array(values, field.type) for values, field in zip(found, schema, strict=True)], schema=schema
        )


def _settle_import(backend: Backend, workspace: Workspace, name: str) -> Path | None:
    """Where the imported rows of a table are from now on; None if none were imported."""
    home = workspace.tables_dir / name / "imported.parquet"
    loose = [workspace.tables_dir / f"{name}.{ending}" for ending in ("parquet", "csv", "jsonl")]
    found = [path for path in loose if path.is_file()]
    if not found and not home.parent.is_dir():
        brought = read_raw(backend, workspace.tables_dir).get(name)  # in a DuckDB file
        if brought is None:
            return None
        with replacing(home) as beside:
            brought.to_parquet(beside)
    elif found and found[0].suffix == ".parquet":
        home.parent.mkdir(exist_ok=True)
        found[0].replace(home)
    elif found:
        read = backend.read_json if found[0].suffix == ".jsonl" else _read_csv(backend)
        with replacing(home) as beside:
            read(str(found[0])).to_parquet(beside)
        found[0].unlink()
    return home if home.is_file() else None


def _read_csv(backend: Backend) -> Any:
    return lambda path: backend.read_csv(path, all_varchar=True)


def _write(backend: Backend, spec: TableSpec, exported: Path, imported: Path | None, home: Path) -> int:
    """Write `home/state.parquet`: the exported rows that were not imported, attributes as columns; how many."""
    con = backend.con
    con.execute("SET preserve_insertion_order=true")
    con.execute(f"CREATE VIEW exported AS SELECT * FROM read_parquet('{_quoted(exported)}')")
    new = "exported"
    if imported is not None:
        con.execute(f"CREATE VIEW imported AS SELECT * FROM read_parquet('{_quoted(imported)}')")
        had = set(ibis.schema(backend.table("imported").schema()).names)
        if had >= set(spec.key):
            types = {column: spec.schema[column] for column in spec.key}
            same = " AND ".join(
                f"TRY_CAST(i.{column} AS {'TIMESTAMPTZ' if types[column].is_timestamp() else 'VARCHAR'}) = e.{column}"
                for column in spec.key
            )
            new = f"(SELECT e.* FROM exported e WHERE NOT EXISTS (SELECT 1 FROM imported i WHERE {same}))"
    kept = [column.name for column in spec.columns if column.required] + _filled(con, spec, new)
    attributes = _attributes(con, new)
    columns = ", ".join([*(f'"{name}"' for name in kept), *attributes])
    order = SEQ if SEQ in kept else ", ".join(spec.key)
    rows = int(con.execute(f"SELECT count(*) FROM {new}").fetchone()[0])
    if rows:
        with replacing(home / "state.parquet") as beside:
            con.execute(
                f"COPY (SELECT {columns} FROM {new} ORDER BY {order}) TO '{_quoted(beside)}' (COMPRESSION zstd)"
            )
    else:
        (home / "state.parquet").unlink(missing_ok=True)
    return rows


def _filled(con: Any, spec: TableSpec, source: str) -> list[str]:
    """The optional columns with at least one value: a column without any was not brought."""
    optional = [column.name for column in spec.columns if not column.required]
    if spec.name in APPENDED:
        optional.append(SEQ)
    counts = con.execute(f"SELECT {', '.join(f'count({name})' for name in optional)} FROM {source}").fetchone()
    return [name for name, count in zip(optional, counts, strict=True) if count]


def _attributes(con: Any, source: str) -> list[str]:
    """SQL of a column for each attribute in `extra`: a number or a truth where every value is one, else text."""
    found = con.execute(f"""
        SELECT name, bool_and(kind IN ('DOUBLE', 'UBIGINT', 'BIGINT')), bool_and(kind = 'BOOLEAN')
        FROM (
            SELECT name, json_type(extra, '$.' || name) AS kind
            FROM (SELECT extra, unnest(json_keys(extra)) AS name FROM {source} WHERE extra IS NOT NULL)
        ) WHERE kind <> 'NULL' AND name <> '{SEQ}' GROUP BY name ORDER BY name
    """).fetchall()
    columns = []
    for name, numeric, boolean in found:
        kind = "DOUBLE" if numeric else "BOOLEAN" if boolean else "VARCHAR"
        columns.append(f"CAST(extra ->> '$.{name}' AS {kind}) AS \"{name}\"")
    return columns


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
