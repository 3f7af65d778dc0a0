"""Importers: a shop's files become the contract's tables in a workspace. A file per source.

An importer reads an `Intake` and returns `Brought` expressions; nothing is loaded, DuckDB streams the rows from the
file to `tables/`, so a file larger than memory imports.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from data.erasing import REASON, keep_out
from data.errors import DataError
from data.files import alone
from data.progress import timed
from data.sources.complete_journey import complete_journey
from data.sources.hillstrom import hillstrom
from data.sources.intake import Brought, Intake
from data.sources.movielens import movielens
from data.sources.online_retail import online_retail
from data.sources.retailrocket import retailrocket
from data.sources.segment import segment
from data.sources.starbucks_offers import starbucks_offers
from data.sources.tables import tables
from data.sources.write import ImportSummary, refuse_overwriting, write_refused, write_tables
from data.sql import literal
from data.tables import NOT_UTF_8, cause, connect
from data.workspace import Workspace

FILE_ERRORS = (
    OSError,
    EOFError,  # of a .gz file that breaks off
    duckdb.IOException,
    duckdb.InvalidInputException,
    duckdb.ConversionException,
    duckdb.OutOfMemoryException,
)
"""What a file or a disk is to blame for, rather than a mistake of ours."""

__all__ = ["SOURCES", "ImportSummary", "Source", "import_source"]


@dataclass(frozen=True)
class Source:
    """A kind of data that can be imported.

    Attributes:
        name: As it is called on the command line.
        about: What it reads, in one line.
        function: The importer.
        needs_mapping: Whether a mapping file says what its columns are.
    """

    name: str
    about: str
    function: Callable[[Intake], Brought]
    needs_mapping: bool = False


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source("segment", "Segment or RudderStack: JSON lines, a file or a folder of them", segment),
        Source("online-retail", "UCI Online Retail: invoice lines (Parquet or CSV)", online_retail),
        Source("retailrocket", "Retailrocket: views, carts and purchases, no prices", retailrocket),
        Source("complete-journey", "Dunnhumby Complete Journey: a folder of its tables", complete_journey),
        Source("movielens", "MovieLens: a folder with ratings, and films and users if there are", movielens),
        Source("hillstrom", "Hillstrom's e-mail experiment: two mails or none, drawn at random", hillstrom),
        Source("starbucks-offers", "Starbucks: ten offers or none, dealt at random in six waves", starbucks_offers),
        Source("tables", "Any CSV, Parquet or JSON lines, with --mapping FILE.toml", tables, needs_mapping=True),
    )
}
"""Every source by name."""


def import_source(
    source: str, path: Path | str, workspace: Path | str, *, mapping: Path | str | None = None, replace: bool = False
) -> ImportSummary:
    """Import a file or folder into a workspace, which is made if it is not there.

    Rows that became nothing go to `left-out/<source>.parquet`, each with its reason. The tables are written
    whole or not at all. Rows of people who were erased are removed again, and counted.

    Args:
        source: A name in `SOURCES`.
        path: The file or folder.
        workspace: The workspace's folder.
        mapping: What the columns of the `tables` source are.
        replace: Put the imported rows in the place of tables that are there already.

    Raises:
        DataError: a file is missing, empty or of another layout; or a table is there already.
    """
    path, home = Path(path), Workspace(Path(workspace))
    chosen = _chosen(source, path, mapping)
    home.path.mkdir(parents=True, exist_ok=True)
    with alone(home.path), tempfile.TemporaryDirectory(prefix=".import-", dir=home.path) as folder:
        scratch = Path(folder)
        backend = connect(memory_limit_gb=home.settings.data.memory_limit_gb)
        backend.raw_sql(f"SET temp_directory={literal(scratch / 'spill')}")
        try:
            with timed(f"reading {path}"):
                brought = chosen.function(Intake(backend, path, scratch, Path(mapping) if mapping else None))
            refuse_overwriting(home, brought.tables, replace=replace)
            refused_file = home.path / "left-out" / f"{source}.parquet"
            refused = write_refused(backend, brought.refused, refused_file)
            rows = write_tables(backend, home, brought.tables, scratch)
        except FILE_ERRORS as error:
            raise DataError(_explained(path, error)) from error
        finally:
            backend.disconnect()
    with alone(home.path):
        erased = keep_out(home)
    if erased:
        refused |= {REASON: erased}
    if not rows:
        why = ", ".join(f"{reason} (rows: {count:,})" for reason, count in refused.items()) or "it has no rows"
        where = f"; they are in {refused_file}" if refused_file.exists() else ""
        fits = f"Does {mapping} fit it (how times are written, say by time_format)?"
        ask = fits if chosen.needs_mapping else f"Is it a file of the source {source!r}?"
        raise DataError(f"nothing in {path} could be imported: {why}{where}. {ask}")
    notes = brought.notes
    if chosen.needs_mapping and "orders" in rows and not home.settings_file.exists():
        notes += (f"money is taken to be USD: if it is not, say so in {home.settings_file}, [shop] currency",)
    shop = Workspace.create(home.path, currency=brought.currency or "USD").settings.shop
    if brought.currency not in (None, shop.currency):
        notes += (f"amounts are in {brought.currency}, but [shop] currency in {home.settings_file} is {shop.currency}",)
    return ImportSummary(source, rows, refused, refused_file if refused else None, notes)


def _explained(path: Path, error: Exception) -> str:
    """Which file could not be imported, why and what to do."""
    named = re.search(r"^ *file = (.+)$", str(error), re.MULTILINE)  # DuckDB's of a CSV file, one of a folder perhaps
    file, why = named[1] if named else path, cause(error)
    if "utf-8 encoded" in why:
        return NOT_UTF_8.format(file)
    return f"{file} could not be imported: {why}. Mend the file, or make room on the disk, and import again."


def _chosen(source: str, path: Path, mapping: Path | str | None) -> Source:
    if source not in SOURCES:
        raise DataError(
            f"{source!r} is no source. Known: {', '.join(SOURCES)}. 'tables' reads any export by a mapping."
        )
    chosen = SOURCES[source]
    if not path.exists():
        raise DataError(f"{path} does not exist. Check the path.")
    if chosen.needs_mapping and mapping is None:
        raise DataError(f"The source {source!r} needs --mapping FILE.toml; docs/importing.md shows one.")
    if mapping is not None and not chosen.needs_mapping:
        raise DataError(f"The source {source!r} takes no mapping. Leave --mapping away, or import as 'tables'.")
    return chosen
