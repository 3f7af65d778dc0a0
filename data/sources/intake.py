"""What every importer is given (`Intake`) and gives back (`Brought`), and how it reads files without loading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ibis.backends.duckdb import Backend
from ibis.expr import types as ir

from data.errors import DataError

READERS = {
    ".parquet": "read_parquet({files})",
    ".csv": "read_csv({files}, all_varchar=true)",
    ".tsv": "read_csv({files}, all_varchar=true, delim='\t')",
    ".jsonl": "read_json({files}, format='newline_delimited')",
    ".ndjson": "read_json({files}, format='newline_delimited')",
    ".json": "read_json({files}, format='auto')",
    ".dat": "read_csv({files}, all_varchar=true, delim='::', header=false, quote='', encoding='latin-1')",
}
"""How DuckDB streams a file, by the end of its name (`.gz` after it is fine). CSV columns stay text: a wrong value
can then be told from a missing one."""

EPOCHS = {"epoch_seconds": 1, "epoch_milliseconds": 1000}


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

        Optional columns that the file has not are null, as text. All other columns of the file are there too.

        Raises:
            DataError: the file cannot be read, lacks columns or has no rows.
        """
        found = list(self.view(name, f"SELECT * FROM {scan(file)}").columns)
        missing = [column for column in needs if column not in found]
        if missing:
            raise DataError(f"{file}: columns {missing} are missing; it has {found}. Is it the right file?")
        absent = [f"NULL::VARCHAR AS {quoted(column)}" for column in optional if column not in found]
        table = self.view(name, f"SELECT {', '.join(['*', *absent])} FROM {scan(file)}")
        if not self.backend.raw_sql(f"SELECT 1 FROM {name} LIMIT 1").fetchall():
            raise DataError(f"{file} has no rows. Import a file that has some.")
        return table


def scan(path: Path) -> str:
    """The SQL that streams a file, or all files of one kind in a folder.

    Raises:
        DataError: no such path, or a kind that is not known.

    Example:
        >>> with __import__("tempfile").NamedTemporaryFile(suffix=".csv.gz") as file:
        ...     scan(Path(file.name))
        "read_csv(['/...csv.gz'], all_varchar=true)"
    """
    files = files_of(path)
    kinds = {ending(file) for file in files}
    if len(kinds) > 1 or not kinds <= set(READERS):
        raise DataError(f"{path}: cannot read {sorted(kinds)}. Give files of one kind of {', '.join(READERS)}.")
    return READERS[kinds.pop()].format(files=f"[{', '.join(map(literal, files))}]")


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


def literal(value: object) -> str:
    """A value as an SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A column's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def moment(column: str, *, form: str = "iso", zone: str = "UTC") -> str:
    """SQL that reads an SQL expression as a time in UTC, null where it is none.

    Args:
        column: SQL of any type.
        form: `iso`, `epoch_seconds`, `epoch_milliseconds`, or a strptime pattern.
        zone: Time zone (IANA name) of times that do not tell their own.
    """
    if form in EPOCHS:
        return f"TRY(to_timestamp(TRY_CAST({column} AS DOUBLE) / {EPOCHS[form]}))"
    text = f"({column})::VARCHAR"
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
