"""The one way that imported tables reach a workspace: streamed, whole or not at all, and never twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ibis.backends.duckdb import Backend
from ibis.expr import types as ir

from data.contract import TABLES, TableSpec
from data.errors import DataError
from data.files import replacing
from data.progress import timed
from data.sql import literal, quoted
from data.workspace import Workspace

SYNCED = "state.parquet"
"""What `attune sync` writes into a table's folder: an import leaves it alone."""


@dataclass(frozen=True)
class ImportSummary:
    """What an import did.

    Attributes:
        source: Name of the source.
        rows: Rows written, by table.
        refused: Rows of the source that became nothing, by reason.
        refused_file: Where those rows are; None if there are none.
        notes: What else was left out.
    """

    source: str
    rows: Mapping[str, int]
    refused: Mapping[str, int] = field(default_factory=dict)
    refused_file: Path | None = None
    notes: tuple[str, ...] = ()


def refuse_overwriting(workspace: Workspace, tables: Mapping[str, ir.Table], *, replace: bool) -> None:
    """An import never adds to a table: the same file twice would double every row.

    Raises:
        DataError: a table is there already, and `replace` was not asked for.
    """
    if replace:
        return
    there = sorted(
        name for name, table in tables.items() if _files(workspace, name) and table.limit(1).count().execute()
    )
    if there:
        raise DataError(
            f"{workspace.tables_dir} has {', '.join(there)} already. Add --replace to put the imported rows in their "
            "place, or give another --workspace. To import several files at once, give the folder that holds them."
        )


def write_tables(
    backend: Backend, workspace: Workspace, tables: Mapping[str, ir.Table], scratch: Path
) -> dict[str, int]:
    """Stream every table to `scratch`, then move all that have rows into the workspace; returns rows by table.

    Rows are sorted by time and key, so the same input gives the same file. A column without a single value is left
    out: the shop did not bring it.
    """
    rows: dict[str, int] = {}
    for name, table in tables.items():
        with timed(f"writing {name}"):
            rows[name] = _write(backend, table, TABLES[name], scratch / f"new-{name}.parquet")
    rows = {name: count for name, count in rows.items() if count}
    for name in rows:
        folder = workspace.tables_dir / name
        target = folder / "imported.parquet" if folder.is_dir() else folder.with_suffix(".parquet")
        with replacing(target) as beside:
            (scratch / f"new-{name}.parquet").rename(beside)
        for other in set(_files(workspace, name)) - {target}:
            other.unlink()
    return rows


def write_refused(backend: Backend, refused: ir.Table | None, target: Path) -> dict[str, int]:
    """Stream refused rows to `target`; returns how many per reason (a reason's part before the colon)."""
    target.unlink(missing_ok=True)
    if refused is None:
        return {}
    with replacing(target) as beside:
        backend.to_parquet(refused, beside)
        rows = f"SELECT split_part(reason, ':', 1), count(*) FROM read_parquet({literal(beside)})"
        counts = dict(backend.raw_sql(f"{rows} GROUP BY 1 ORDER BY 2 DESC, 1").fetchall())
    if not counts:
        target.unlink()
    return counts


def _write(backend: Backend, table: ir.Table, spec: TableSpec, file: Path) -> int:
    order = [name for name in dict.fromkeys((spec.happened_at, *spec.key)) if name in table.columns]
    backend.to_parquet(table.order_by(order), file)
    statistics = f"""
        SELECT path_in_schema, sum(num_values), sum(stats_null_count) FROM parquet_metadata({literal(file)}) GROUP BY 1
    """
    found = {name: (values, nulls) for name, values, nulls in backend.raw_sql(statistics).fetchall()}
    empty = [name for name in table.columns if name in found and found[name][0] == found[name][1]]
    rows = int(found.get(spec.key[0], (0, 0))[0])  # not of a list, which counts its elements
    if empty and rows:
        whole = file.rename(file.with_suffix(".all"))
        kept = f"SELECT * EXCLUDE ({', '.join(map(quoted, empty))}) FROM read_parquet({literal(whole)})"
        backend.raw_sql("SET preserve_insertion_order=true")
        backend.raw_sql(f"COPY ({kept}) TO {literal(file)} (FORMAT parquet)")
        whole.unlink()
    return rows


def _files(workspace: Workspace, name: str) -> list[Path]:
    """The files of a table that is there already, without what was synced."""
    loose = (workspace.tables_dir / f"{name}.{ending}" for ending in ("parquet", "csv", "jsonl"))
    folder = (path for path in (workspace.tables_dir / name).rglob("*.parquet") if path.name != SYNCED)
    return [path for path in (*loose, *folder) if path.is_file()]
