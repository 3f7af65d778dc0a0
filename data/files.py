"""Files that are whole or not there, folders that one process at a time changes, and files of rows."""

from __future__ import annotations

import fcntl
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import DataError, WorkspaceError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes `path`'s place, on failure it goes away.

    Works for a file or a folder, whichever the body creates. Readers see the old or the new, never a part.

    Raises:
        FileNotFoundError: the body created nothing; what was at `path` stays.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     target = Path(folder) / "a.txt"
        ...     with replacing(target) as beside:
        ...         _ = beside.write_text("whole")
        ...     target.read_text()
        'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    beside = workplace / path.name
    try:
        yield beside
        if beside.is_file():
            descriptor = os.open(beside, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if not beside.exists():
            raise FileNotFoundError(f"nothing was written to take the place of {path}")
        if path.is_dir():
            path.rename(workplace / "old")
        beside.replace(path)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process changes a folder, then keep others waiting; a killed process keeps nobody.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder, alone(Path(folder)):
        ...     os.listdir(folder)
        []
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


SUFFIXES = (".parquet", ".csv")
LONGEST = 2**63
"""Whole numbers from here on are ids, and stay text."""
NOTHING = ("", "NA", "NaN", "nan", "null", "NULL")
"""What a CSV has where there is nothing, if its columns are typed; "None" is a word, as it may name an arm."""


def check_suffix(to: Path) -> None:
    """Refuse a file of rows that is neither CSV nor Parquet.

    Raises:
        WorkspaceError: it is neither.
    """
    if to.suffix not in SUFFIXES:
        kind = to.suffix or "no suffix"
        raise WorkspaceError(f"--to {to}: {kind!r} is no kind of file here; end it on .parquet or .csv.")


@contextmanager
def writing_rows(to: Path, schema: pa.Schema) -> Iterator[Callable[[list[dict[str, Any]] | pd.DataFrame], None]]:
    """Yield what writes rows to a CSV or Parquet file, batch by batch; the file is whole or not there.

    Args:
        to: The file; its suffix says which kind.
        schema: Its columns; what a row does not have is missing.

    Raises:
        WorkspaceError: a suffix that is neither.

    Example:
        >>> import pyarrow as pa
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     target = Path(folder) / "a.csv"
        ...     with writing_rows(target, pa.schema([("user_id", pa.string())])) as write:
        ...         write([{"user_id": "ann"}])
        ...     target.read_text().split()
        ['"user_id"', '"ann"']
    """
    import pyarrow as pa  # noqa: PLC0415 - few that write files write rows
    import pyarrow.csv as pacsv  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    check_suffix(to)
    with replacing(to) as beside:
        opened = pq.ParquetWriter if to.suffix == ".parquet" else pacsv.CSVWriter
        with opened(beside, schema) as writer:

            def write(rows: list[dict[str, Any]] | pd.DataFrame) -> None:
                if isinstance(rows, list):
                    writer.write_table(pa.Table.from_pylist(rows, schema))
                else:
                    writer.write_table(pa.Table.from_pandas(rows, schema, preserve_index=False))

            yield write


def read_rows(file: Path, columns: Sequence[str] = (), *, typed: bool = True, empty: bool = False) -> pd.DataFrame:
    r"""All rows of a Parquet file, or of a CSV file with a header, any separator, compressed or not.

    Args:
        file: Parquet if it ends on .parquet or .pq, else CSV.
        columns: It must have these; it is read with all others that it has.
        typed: Whether columns of a CSV become numbers, dates, and yes or no where all values are; else they stay text.
        empty: Whether it may have no rows.

    Raises:
        DataError: there is no such file, it cannot be read, or has no rows or not one of the columns.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "a.csv"
        ...     _ = file.write_text("arm;spend\nNone;1.50")
        ...     read_rows(file).values.tolist(), read_rows(file, typed=False).values.tolist()
        ([['None', 1.5]], [['None', '1.50']])
    """
    import duckdb  # noqa: PLC0415 - as above

    from data.tables import cause  # noqa: PLC0415 - as above

    if not file.is_file():
        raise DataError(f"{file} is no file. Give a Parquet or CSV file.")
    if not file.stat().st_size:
        raise DataError(f"{file} is empty. Export it again.")
    try:
        with duckdb.connect() as connection:
            table: pd.DataFrame
            if file.suffix.lower() in (".parquet", ".pq"):
                table = connection.read_parquet(str(file)).df()
            elif typed:
                read = partial(connection.read_csv, str(file), header=True, na_values=list(NOTHING), sample_size=-1)
                table = read().df()
                if ids := [name for name in table.select_dtypes("float") if _are_ids(table[name])]:
                    table = read(dtype=dict.fromkeys(ids, "VARCHAR")).df()
            else:
                table = connection.read_csv(str(file), header=True, all_varchar=True).df()
    except duckdb.Error as error:
        raise DataError(f"{file} cannot be read: {cause(error)}. Give a whole Parquet or CSV file in UTF-8.") from error
    if missing := [name for name in columns if name not in table]:
        raise DataError(f"{file} has no column {missing[0]!r}; it has {', '.join(map(str, table.columns))}.")
    if not len(table) and not empty:
        raise DataError(f"{file} has no rows.")
    return table.drop(
        columns="__index_level_0__", errors="ignore"
    )  # pandas' numbering of rows is nothing known of them


def _are_ids(column: pd.Series) -> bool:
    """Whether numbers are so long that they are ids: as numbers, which DuckDB makes of them, many would be one."""
    return bool(((column.abs() >= LONGEST) & (column.abs() < math.inf)).any())
