"""Clearing the workspace's files of people: each is searched for ids by their hashes, written beside and renamed."""

from __future__ import annotations

import csv
import glob
import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.contract import TABLES
from data.errors import DataError
from data.files import replacing
from data.sql import literal
from data.state.arrow import SEQ
from data.state.tombstones import Tombstones
from data.tables import connect, delimiter_of, read_raw
from data.workspace import Workspace

WORD = re.compile(r"\"([^\"]*)\"|'([^']*)'|([^\s\"'<>,;:=()\[\]{}|`]+)")
LEFT_BEHIND = (".sync.*", ".import-*", ".checked.*", ".quarantine.*")
"""Scratch folders of runs that were killed."""


def clear(workspace: Workspace, known: Tombstones, whose: Mapping[str, str]) -> Cleared:
    """Remove every row of the searched for from the workspace's files; tables that were checked stay so."""
    cleared, search = Cleared(), Search(known, whose)
    if not whose:
        return cleared
    was_checked = workspace.is_checked
    for pattern in LEFT_BEHIND:
        for folder in workspace.path.glob(pattern):
            shutil.rmtree(folder)
    files = sorted(file for folder in _folders(workspace) for file in folder.rglob("*") if file.is_file())
    places = [Clearing(f, str(f.relative_to(workspace.path)), _table_of(workspace, f), search, cleared) for f in files]
    for it in places:
        if it.table == "decisions":
            with _readable(it.file):
                search.decisions |= _decisions_of(it)
    for it in places:
        clear = next((clear for ending, clear in CLEARERS.items() if it.file.name.endswith(ending)), None)
        if clear is not None and it.file.exists():
            with _readable(it.file):
                clear(it)
    if was_checked:
        with replacing(workspace.checked_dir / "fingerprint.txt") as beside:
            beside.write_text(workspace.fingerprint(), encoding="utf-8")
    return cleared


@dataclass
class Cleared:
    """What was found in the files.

    Attributes:
        removed: Rows by erasure and file.
        orders_kept: Order lines that stay without their person, by erasure.
    """

    removed: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    orders_kept: Counter[str] = field(default_factory=Counter)

    def removed_rows(self, file: str, erasures: Iterable[str]) -> None:
        """Note rows of a file that were removed, each by its erasure."""
        for erasure, rows in Counter(erasures).items():
            self.removed[erasure][file] += rows


class Search:
    """Tells which erasure an id, a row or a text belongs to; each id is hashed once."""

    def __init__(self, known: Tombstones, whose: Mapping[str, str]) -> None:
        self._known = known
        self._whose = whose
        self._seen: dict[str, tuple[str, bool] | None] = {}
        self.decisions: dict[str, str] = {}

    def _find(self, id_: object) -> tuple[str, bool] | None:
        """The erasure that an id belongs to, and whether it leaves orders."""
        text = str(id_).removesuffix(".0") if isinstance(id_, float) else str(id_)  # as `data.tables.cast` reads it
        if text not in self._seen:
            # Columns of JSON write strings with their quotes.
            hashes = [self._known.hash(one) for one in (text, text.strip('"'))]
            found = next((hash_ for hash_ in hashes if hash_ in self._whose), None)
            self._seen[text] = (self._whose[found], self._known.hashes[found]) if found else None
        return self._seen[text]

    def person(self, id_: object) -> str | None:
        """The erasure of a user or visitor."""
        found = None if id_ is None or id_ == "" else self._find(id_)
        return found[0] if found else None

    def keeps_orders(self, id_: object) -> bool:
        """Whether this is somebody whose orders stay."""
        found = None if id_ is None or id_ == "" else self._find(id_)
        return found is not None and found[1]

    def decision(self, id_: object) -> str | None:
        """The erasure of the person whom a decision was made for."""
        return self.decisions.get(str(id_))

    def text(self, text: object, *, numbers: bool = True) -> str | None:
        """The erasure of somebody whose id stands in a text: as all of it, between quotes or as a word.

        Without `numbers` a number counts only between quotes: a report is full of them.
        """
        if text is None:
            return None
        found = self.person(text)
        for double, single, word in () if found else WORD.findall(str(text)):
            bare = word.rstrip(".")
            found = found or self.person(double or single or ("" if bare.isdigit() and not numbers else bare))
        return found


def _folders(workspace: Workspace) -> tuple[Path, ...]:
    """Where people may be named. Models are not among them: they hold nobody."""
    return (
        workspace.tables_dir, workspace.checked_dir, workspace.quarantine_dir, workspace.path / "left-out",
        workspace.snapshots_dir, workspace.reports_dir,
    )  # fmt: skip


def _table_of(workspace: Workspace, file: Path) -> str | None:
    """Which table of the contract a file has rows of; None for rows of no certain layout."""
    if workspace.tables_dir in file.parents or workspace.checked_dir in file.parents:
        within = file.relative_to(workspace.path).parts[1]
        return within.partition(".")[0]
    return "users" if workspace.snapshots_dir in file.parents else None


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, duckdb.Error, OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file} cannot be cleared of a person who is to be erased: {error}. Write it again or remove it; then "
            "`attune erase` goes on."
        ) from error


@dataclass(frozen=True)
class Clearing:
    """One file that is being cleared.

    Attributes:
        file: Which.
        name: Within the workspace.
        table: The table that it has rows of; None if its columns may be any.
        search: Who is searched for.
        cleared: Where is noted what was found.
    """

    file: Path
    name: str
    table: str | None
    search: Search
    cleared: Cleared

    def erasure_of(self, row: Mapping[str, Any]) -> str | None:
        """The erasure that a row belongs to; a visitor's row that names a user is the user's."""
        if self.table is None:
            return next((found for value in row.values() if (found := self.search.text(value))), None)
        if self.table == "outcomes":
            return self.search.decision(row.get("decision_id"))
        user_id = row.get("user_id")
        return self.search.person(row.get("anonymous_id") if user_id in (None, "") else user_id)

    def left(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """What stays of a row: all of it, nothing, or an order without its person."""
        erasure = self.erasure_of(row)
        if erasure is None:
            return dict(row)
        if self.table == "orders" and self.search.keeps_orders(row.get("user_id")):
            self.cleared.orders_kept[erasure] += 1
            return {name: value if name in KEPT_OF_ORDERS else None for name, value in row.items()}
        self.cleared.removed_rows(self.name, [erasure])
        return None

    def marks(self, rows: pa.Table) -> Marks:
        """As `left`, for many rows at once; the table has its columns spelt as the contract has them."""
        if self.table is None:
            columns = [_told(column, self.search.text) for column in rows.columns]
            erasures = columns[0] if columns else np.empty(rows.num_rows, object)
            for further in columns[1:]:
                erasures = np.where(erasures == None, further, erasures)  # noqa: E711 - of each element
            return Marks(erasures, np.zeros(rows.num_rows, bool))
        nobody = pa.chunked_array([pa.nulls(rows.num_rows, pa.string())])
        column = {name: rows[name] if name in rows.column_names else nobody for name in KEYS}
        if self.table == "outcomes":
            return Marks(_told(column["decision_id"], self.search.decision), np.zeros(rows.num_rows, bool))
        named = _told(column["user_id"], lambda id_: id_ not in (None, "")).astype(bool)
        users, visitors = (_told(column[name], self.search.person) for name in ("user_id", "anonymous_id"))
        stays = self.table == "orders" and _told(column["user_id"], self.search.keeps_orders).astype(bool)
        return Marks(np.where(named, users, visitors), np.broadcast_to(stays, rows.num_rows))

    def note(self, marks: Marks) -> None:
        """Count what was found."""
        self.cleared.removed_rows(self.name, marks.erasures[marks.gone])
        self.cleared.orders_kept.update(marks.erasures[marks.anonymised])


@dataclass(frozen=True, eq=False)
class Marks:
    """What becomes of rows, each array of shape (n,).

    Attributes:
        erasures: The erasure that a row belongs to, or None.
        stays: Whether it is an order that stays without its person.
    """

    erasures: np.ndarray
    stays: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """Rows of somebody who is searched for."""
        return self.erasures != None  # noqa: E711 - of each element

    @property
    def gone(self) -> np.ndarray:
        """Rows to remove."""
        return self.found & ~self.stays

    @property
    def anonymised(self) -> np.ndarray:
        """Order lines to leave without their person."""
        return self.found & self.stays


KEYS = ("user_id", "anonymous_id", "decision_id")
KEPT_OF_ORDERS = frozenset({*TABLES["orders"].by_name, SEQ} - {"user_id"})
"""Attributes outside the contract may tell who it was."""


def _told(column: pa.ChunkedArray, tell: Callable[[Any], Any]) -> np.ndarray:
    """What `tell` says of each value, object (n,); each different value is asked about once."""
    if pa.types.is_nested(column.type):
        column = pa.chunked_array([pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())])
    coded = column.combine_chunks().dictionary_encode()
    coded = coded if isinstance(coded, pa.DictionaryArray) else coded.combine_chunks()
    told = np.array([*map(tell, coded.dictionary.to_pylist()), tell(None)], dtype=object)
    found: np.ndarray = told[coded.indices.fill_null(len(told) - 1).to_numpy(zero_copy_only=False)]
    return found


def _clear_parquet(it: Clearing) -> None:
    file = pq.ParquetFile(it.file)
    spelt = _spelt(file.schema_arrow.names)
    wanted = [
        given for given, name in zip(file.schema_arrow.names, spelt, strict=True) if it.table is None or name in KEYS
    ]
    groups = range(file.num_row_groups)
    marks = [it.marks(_renamed(file.read_row_group(group, columns=wanted))) for group in groups]
    if not any(one.found.any() for one in marks):
        return
    codec = file.metadata.row_group(0).column(0).compression
    with replacing(it.file) as beside, pq.ParquetWriter(beside, file.schema_arrow, compression=codec) as writer:
        for group, one in zip(groups, marks, strict=True):
            rows = file.read_row_group(group)
            if one.anonymised.any():
                lost = [i for i, name in enumerate(spelt) if name not in KEPT_OF_ORDERS]
                for i in lost:
                    empty = pa.scalar(None, rows.schema.field(i).type)
                    rows = rows.set_column(i, rows.schema.field(i), pc.if_else(one.anonymised, empty, rows.column(i)))
            rows = rows.filter(~one.gone)
            if rows.num_rows:
                writer.write_table(rows)
            it.note(one)


def _renamed(rows: pa.Table) -> pa.Table:
    return rows.rename_columns(_spelt(rows.column_names))


def _clear_csv(it: Clearing) -> None:
    with it.file.open(encoding="utf-8-sig") as file:
        delimiter = delimiter_of(file.readline())
    header, rows = _csv_rows(it.file, delimiter)
    if not any(it.erasure_of(row) for _, row in rows):
        return
    with replacing(it.file) as beside, beside.open("w", encoding="utf-8", newline="") as to:
        writer = csv.writer(to, delimiter=delimiter, lineterminator="\n")
        writer.writerow(header)
        for line, row in _csv_rows(it.file, delimiter)[1]:
            left = it.left(row)
            if left is not None:
                writer.writerow(line if left == row else [value or "" for value in left.values()])


def _csv_rows(path: Path, delimiter: str) -> tuple[list[str], Iterator[tuple[list[str], dict[str, str]]]]:
    """The header, and each line as it is and by column as the contract spells it."""

    def rows() -> Iterator[tuple[list[str], dict[str, str]]]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=delimiter)
            spelt = _spelt(next(lines, []))
            yield from ((line, dict(zip(spelt, line, strict=False))) for line in lines)

    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file, delimiter=delimiter), []), rows()


def _clear_json_lines(it: Clearing) -> None:
    with it.file.open(encoding="utf-8") as file:
        if not any(it.search.text(line) if (row := _object(line)) is None else it.erasure_of(row) for line in file):
            return
        file.seek(0)
        with replacing(it.file) as beside, beside.open("w", encoding="utf-8") as to:
            for line in file:
                row = _object(line)
                left = it.left(row) if row is not None else None
                if row is None and (erasure := it.search.text(line)):
                    it.cleared.removed_rows(it.name, [erasure])
                elif left == row:
                    to.write(line)
                elif left is not None:
                    to.write(json.dumps(left, ensure_ascii=False) + "\n")


def _object(line: str) -> dict[str, Any] | None:
    """A row, its columns spelt as the contract has them; None if the line is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return dict(zip(_spelt(list(found)), found.values(), strict=True)) if isinstance(found, dict) else None


def _clear_duckdb(it: Clearing) -> None:
    """Deleted rows stay in a DuckDB file, so what is left is copied to a new one."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH {literal(it.file)} AS shop (READ_ONLY)")
        found = {name: rows for name, rows in _keys_in(connection) if replace(it, table=name).marks(rows).found.any()}
        if not found:
            return
        connection.execute("DETACH shop")
        with replacing(it.file) as beside:
            copy = shutil.copyfile(it.file, beside.with_name("copy"))
            connection.execute(f"ATTACH {literal(copy)} AS shop; ATTACH {literal(beside)} AS new")
            for name, rows in found.items():
                _clear_duckdb_table(connection, rows, replace(it, table=name))
            connection.execute("COPY FROM DATABASE shop TO new; DETACH shop; DETACH new")


def _keys_in(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, pa.Table]]:
    """Each table of the database `shop` that names people or decisions, with those columns and `row`, the row's id."""
    query = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'shop' AND schema_name = 'main'"
    for (name,) in connection.execute(query).fetchall():
        given = [column for column, *_ in connection.execute(f'DESCRIBE shop.main."{name}"').fetchall()]
        keys = [f'"{column}"' for column in given if _spelt([column])[0] in KEYS]
        if keys:
            rows = connection.sql(f'SELECT {", ".join(keys)}, rowid AS "row" FROM shop.main."{name}"')
            yield name, _renamed(rows.to_arrow_table())


def _clear_duckdb_table(connection: duckdb.DuckDBPyConnection, rows: pa.Table, it: Clearing) -> None:
    table, marks = f'shop.main."{it.table}"', it.marks(rows)
    given = [column for column, *_ in connection.execute(f"DESCRIBE {table}").fetchall()]
    lost = ", ".join(f'"{column}" = NULL' for column in given if _spelt([column])[0] not in KEPT_OF_ORDERS)
    for which, change in ((marks.anonymised, f"UPDATE {table} SET {lost}"), (marks.gone, f"DELETE FROM {table}")):
        if which.any():
            connection.register("chosen", rows.filter(pa.array(which)).select(["row"]))
            connection.execute(f'{change} WHERE rowid IN (SELECT "row" FROM chosen)')
    it.note(marks)


def _clear_report(it: Clearing) -> None:
    """A report that names the person goes, with those beside it that say the same: it can be made again."""
    erasure = it.search.text(it.file.read_text("utf-8", errors="replace"), numbers=False)
    if erasure is None:
        return
    for file in it.file.parent.glob(f"{glob.escape(it.file.stem)}.*"):
        file.unlink()
        it.cleared.removed_rows(str(Path(it.name).with_name(file.name)), [erasure])


CLEARERS: dict[str, Callable[[Clearing], None]] = {
    ".parquet": _clear_parquet,
    ".csv": _clear_csv,
    ".jsonl": _clear_json_lines,
    ".duckdb": _clear_duckdb,
    ".duckdb.imported": _clear_duckdb,
    ".md": _clear_report,
    ".json": _clear_report,
    ".html": _clear_report,
}
"""How a file is cleared, by the ending of its name."""


def _decisions_of(it: Clearing) -> dict[str, str]:
    """Decisions that were made for those searched for, each with its erasure: outcomes tell only the decision."""
    if it.file.suffix == ".parquet":
        file = pq.ParquetFile(it.file)
        rows = _renamed(file.read(columns=[name for name in file.schema_arrow.names if _spelt([name])[0] in KEYS]))
    else:
        rows = read_raw(connect(), it.file.parent, names=("decisions",))["decisions"].to_pyarrow()
    erasures, ids = it.marks(rows).erasures, rows["decision_id"].to_pylist()
    return {str(ids[row]): erasures[row] for row in np.flatnonzero(erasures)}


def _spelt(names: Sequence[str]) -> list[str]:
    """Column names as the contract spells them."""
    return [name.strip().lower() for name in names]
