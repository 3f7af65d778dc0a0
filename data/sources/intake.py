"""What every importer is given (`Intake`) and gives back (`Brought`), and how it reads files without loading them."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
from ibis.backends.duckdb import Backend
from ibis.expr import types as ir

from data.errors import DataError
from data.sql import literal, quoted
from data.tables import NOT_UTF_8, delimiter_of, json_columns

READERS = {
    ".parquet": "read_parquet({files})",
    ".csv": "read_csv({files}, columns={columns}, header=true, auto_detect=false, delim={delimiter})",
    ".tsv": "read_csv({files}, columns={columns}, header=true, auto_detect=false, delim={delimiter})",
    ".jsonl": "read_json({files}, format='newline_delimited', sample_size=-1)",
    ".ndjson": "read_json({files}, format='newline_delimited', sample_size=-1)",
    ".json": "read_json({files}, format='auto', sample_size=-1)",
    ".dat": "read_csv({files}, all_varchar=true, delim='::', header=false, quote='', encoding='latin-1')",
}
"""How DuckDB streams a file, by the end of its name (`.gz` after it is fine). CSV columns stay text: a wrong value
can then be told from a missing one. Their names and what parts them are those of the first line: DuckDB's own guess is
misled by a line that is broken. Types in JSON come from all lines, so that a late odd value is no error."""

EPOCHS = {"epoch_seconds": 1, "epoch_milliseconds": 1000, "epoch_microseconds": 1_000_000}


@dataclass(frozen=True)
class Brought:
    """What an importer makes of its files.

    Attributes:
        tables: Expressions by name of the contract's table; only the columns that the source has.
        refused: The source's rows that became nothing, each with its `reason`; None if that cannot happen.
        currency: ISO code, where the source says it.
        notes: What else a person should know of what was left out.
    """

    tables: Mapping[str, ir.Table]
    refused: ir.Table | None = None
    currency: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Intake:
    """What an importer is given.

    Attributes:
        backend: A DuckDB that spills to disk.
        path: The file or folder to import.
        scratch: A folder that lives as long as the import.
        mapping: The TOML file of the `tables` source.
    """

    backend: Backend
    path: Path
    scratch: Path
    mapping: Path | None = None

    def view(self, name: str, query: str) -> ir.Table:
        """Name a query over the views made so far; it is read again at every use."""
        self.backend.raw_sql(f"CREATE OR REPLACE VIEW {name} AS {query}")
        return self.backend.table(name)

    def stage(self, name: str, query: str) -> ir.Table:
        """Name a query and keep its rows in scratch: for what is costly to read twice."""
        file = literal(self.scratch / f"{name}.parquet")
        self.backend.raw_sql(f"COPY ({query}) TO {file} (FORMAT parquet)")
        return self.view(name, f"SELECT * FROM read_parquet({file})")

    def file(self, *names: str) -> Path:
        """`path` itself if it is a file, else the first of `names` in it, with any known ending.

        Raises:
            DataError: the folder has none of them.
        """
        found = self.optional_file(*names)
        if found is None:
            raise DataError(
                f"{self.path} has no {' or '.join(names)} ({', '.join(READERS)}); "
                f"it has {sorted(p.name for p in self.path.iterdir())[:12]}. Point at the folder or file that does."
            )
        return found

    def optional_file(self, *names: str) -> Path | None:
        """As `file`, None where there is none."""
        if self.path.is_file():
            return self.path
        return next((p for n in names for e in READERS if (p := self.path / f"{n}{e}").is_file()), None)

    def read(self, name: str, file: Path, *, needs: Sequence[str], optional: Sequence[str] = ()) -> ir.Table:
        """The view `name` over a file or a folder of files, with the columns `needs` and `optional`.

        Optional columns that the file has not are null, as text. All other columns of the file are there too, and a
        needed one may lie within another (`reachable`).

        Raises:
            DataError: the file cannot be read, lacks columns or has no rows.
        """
        source = scan(file)
        if source.startswith("read_json"):  # its types are looked for once, not at every use
            types = json_columns(self.backend, source)
            columns = ", ".join(f"{literal(column)}: {literal(kind)}" for column, kind in types.items())
            source = source.replace("sample_size=-1", f"columns={{{columns}}}")
        found = list(reachable(self.view(name, f"SELECT * FROM {source}").schema()))
        missing = [column for column in needs if column not in found]
        if missing:
            raise DataError(f"{file}: columns {missing} are missing; it has {found}. Is it the right file?")
        absent = [f"NULL::VARCHAR AS {quoted(column)}" for column in optional if column not in found]
        table = self.view(name, f"SELECT {', '.join(['*', *absent])} FROM {source}")
        if not self.backend.raw_sql(f"SELECT 1 FROM {name} LIMIT 1").fetchall():
            raise DataError(f"{file} has no rows. Import a file that has some.")
        return table


def scan(path: Path) -> str:
    r"""The SQL that streams a file, or all files of one kind in a folder.

    Raises:
        DataError: no such path, nothing in it, or a kind that is not known.

    Example:
        >>> with __import__("tempfile").NamedTemporaryFile(suffix=".csv.gz") as file:
        ...     _ = file.write(gzip.compress(b"a,b")), file.flush()
        ...     scan(Path(file.name))
        "read_csv(['/...csv.gz'], columns={'a': 'VARCHAR', 'b': 'VARCHAR'}, header=true, auto_detect=false, delim=',')"
    """
    files = [file for file in files_of(path) if file.stat().st_size]
    if not files:
        raise DataError(f"{path} is empty: it has not even the names of columns. Export it again.")
    kinds = {ending(file) for file in files}
    if len(kinds) > 1 or not kinds <= set(READERS):
        raise DataError(f"{path}: cannot read {sorted(kinds)}. Give files of one kind of {', '.join(READERS)}.")
    kind, given = kinds.pop(), {"files": f"[{', '.join(map(literal, files))}]"}
    if kind in (".csv", ".tsv"):
        first, delimiter = _header(files[0])
        for file in files[1:]:
            if _header(file)[0] != first:
                raise DataError(
                    f"{file}: its columns are {_header(file)[0]}, those of {files[0]} are {first}. Map each."
                )
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in first)
        given |= {"columns": f"{{{columns}}}", "delimiter": literal(delimiter)}
    return READERS[kind].format(**given)


def _header(file: Path) -> tuple[list[str], str]:
    """The names in the first line of a CSV file, each once, and what parts them."""
    opening = gzip.open if file.suffix == ".gz" else open
    with opening(file, "rb") as lines:
        start = lines.readline()
    try:
        line = start.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(NOT_UTF_8.format(file)) from None
    if not line.strip():
        raise DataError(f"{file}: its first line is empty. Let it name the columns.")
    delimiter = delimiter_of(line)
    names: list[str] = []
    for place, name in enumerate(next(csv.reader([line], delimiter=delimiter))):
        said = name.strip() or f"column{place}"
        names.append(said if said not in names else f"{said}_{place}")
    return names, delimiter


def files_of(path: Path) -> list[Path]:
    """The file, or every file in the folder, sorted.

    Raises:
        DataError: there is none.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] != ".")
    if not files:
        raise DataError(f"{path} does not exist or is an empty folder. Check the path.")
    return files


def ending(file: Path) -> str:
    """The end of a file's name that tells its kind, without a `.gz` after it."""
    return (file.with_suffix("") if file.suffix == ".gz" else file).suffix.lower()


def reachable(schema: ibis.Schema) -> dict[str, tuple[str, ibis.DataType]]:
    """Each column's SQL and type by its name; what lies within an object by the way there.

    Example:
        >>> list(reachable(ibis.schema({"id": "string", "item": "struct<id: int64, tags: array<string>>"})))
        ['id', 'item', 'item.id', 'item.tags']
    """
    found: dict[str, tuple[str, ibis.DataType]] = {}
    for name, kind in schema.items():
        found[name] = quoted(name), kind
        if kind.is_struct():
            inside = reachable(ibis.schema(dict(kind.fields)))
            found |= {f"{name}.{way}": (f"{quoted(name)}.{sql}", of) for way, (sql, of) in inside.items()}
    return found


def number_as_id(column: str) -> str:
    """SQL of an id that is a number, as text: pandas makes 7.0 of 7 in a column with gaps.

    Example:
        >>> import duckdb
        >>> duckdb.sql("SELECT " + ", ".join(map(number_as_id, ("7.0", "7", "'v7.0'", "''")))).fetchall()
        [('7', '7', 'v7.0', None)]
    """
    return rf"nullif(regexp_replace(({column})::VARCHAR, '^(\d+)\.0$', '\1'), '')"


def number(column: str, *, mark: str) -> str:
    """SQL that reads a number with that decimal mark, without thousands and currency; what is none stays as it is.

    Example:
        >>> import duckdb
        >>> duckdb.sql("SELECT " + ", ".join(number(f"'{x}'", mark=",") for x in ("-1.299,50 €", "two"))).fetchall()
        [('-1299.5', 'two')]
    """
    text = f"({column})::VARCHAR"
    beside = r"[\s\p{Z}\p{Sc}''’" + ("." if mark == "," else ",") + "]|[A-Z]{3}"
    bare = f"replace(regexp_replace({text}, '{beside}', '', 'g'), {literal(mark)}, '.')"
    return f"coalesce(TRY_CAST({bare} AS DOUBLE)::VARCHAR, {text})"


def moment(column: str, *, form: str = "iso", zone: str = "UTC") -> str:
    """SQL that reads an SQL expression as a time in UTC, null where it is none.

    Args:
        column: SQL of any type.
        form: `iso`, a name in `EPOCHS`, or a strptime pattern.
        zone: Time zone (IANA name) of times that do not tell their own.
    """
    if form in EPOCHS:
        return f"TRY(to_timestamp(TRY_CAST({column} AS DOUBLE) / {EPOCHS[form]}))"
    text = f"({column})::VARCHAR"
    if re.search("(?<!%)(%%)*%[zZ]", form):
        return f"TRY_STRPTIME({text}, {literal(form)})"
    if form != "iso":
        return f"timezone({literal(zone)}, TRY_STRPTIME({text}, {literal(form)})::TIMESTAMP)"
    if zone == "UTC":
        return f"TRY_CAST({text} AS TIMESTAMPTZ)"
    tells_zone = r"regexp_matches(" + text + r", ':\d\d(\.\d+)? ?(Z|UTC|[+-]\d\d(:?\d\d)?)$')"
    naive = f"timezone({literal(zone)}, TRY_CAST({text} AS TIMESTAMP))"
    return f"CASE WHEN {tells_zone} THEN TRY_CAST({text} AS TIMESTAMPTZ) ELSE {naive} END"


def with_id(name: str, query: str) -> str:
    """SQL of the query's rows with an id made from what each says, and a running number for rows that say the same.

    The same file gives the same ids whatever the order of its rows. Rows that say the same are counted, not numbered
    in a window: a count takes half the memory.
    """
    alike = f"SELECT said, count(*) AS copies FROM ({query}) AS said GROUP BY said"
    return f"""
        SELECT left(md5(said::VARCHAR), 20) || '-' || unnest(range(1, copies + 1)) AS {name}, said.* FROM ({alike})
    """
