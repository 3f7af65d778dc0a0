"""Any CSV, Parquet or JSON lines files, with a TOML file that says which column is what."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from data.contract import TABLES, TableSpec
from data.errors import DataError
from data.sources.intake import Brought, Intake, literal, moment, quoted, with_id

MADE = {"events": "event_id", "messages": "message_id", "orders": "line_id"}
"""Ids that are made where the mapping names no column for them."""


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("no such time zone; give an IANA name such as Europe/Amsterdam")
    return name


class Constant(BaseModel):
    """A column that says the same in every row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    constant: str | float | bool


class FileMapping(BaseModel):
    """How one file becomes rows of one table: `[TABLE]`, or `[[TABLE]]` for each of several files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field("", description="file or folder under PATH; empty = PATH itself")
    columns: dict[str, str | Constant] = Field(min_length=1, description="our column = theirs, or {constant = ...}")
    values: dict[str, dict[str, str]] = Field({}, description="per column of ours: their value = ours")
    time_format: str = Field("iso", description="iso, epoch_seconds, epoch_milliseconds, or a strptime pattern")
    time_zone: Annotated[str, AfterValidator(_known_zone)] = Field("UTC", description="of times that tell no zone")


Mapping = TypeAdapter(dict[str, FileMapping | list[FileMapping]])


def tables(intake: Intake) -> Brought:
    """Every table of the mapping, its files put together.

    Columns that the mapping does not name stay behind. Numbers stay as they are written: `attune check` judges them.
    A row with a time that cannot be read is refused. Where no column is named for `event_id`, `message_id` or
    `line_id`, an id is made from the row.

    Raises:
        DataError: the mapping is no TOML, has an unknown key, table or column, or leaves a required column out.
    """
    mapping = read_mapping(intake.mapping or Path())
    brought, refused, notes = {}, [], []
    for name, entries in mapping.items():
        spec = TABLES[name]
        parts = []
        for number, entry in enumerate(entries):
            part = f"part_{name}_{number}"
            intake.view(part, _part(intake, spec, entry, raw=f"raw_{name}_{number}"))
            parts.append(f"SELECT * EXCLUDE (reason, source) FROM {part} WHERE reason IS NULL")
            line = f"'{name}' AS \"table\", reason, source::VARCHAR AS line"
            refused.append(f"SELECT {line} FROM {part} WHERE reason IS NOT NULL")
        together = intake.view(f"together_{name}", " UNION ALL BY NAME ".join(parts))
        brought[name] = intake.view(f"table_{name}", _with_ids(name, list(together.columns)))
        if others := sorted(set(together.columns) - set(spec.by_name)):
            notes.append(f"{name}: {', '.join(others)}: not in the contract, kept as attributes")
    return Brought(brought, refused=intake.view("refused", " UNION ALL ".join(refused)), notes=tuple(notes))


def read_mapping(file: Path) -> dict[str, list[FileMapping]]:
    """The mapping's files by table.

    Raises:
        DataError: see `tables`.
    """
    if not file.is_file():
        raise DataError(f"{file} does not exist. Write the mapping; docs/importing.md shows one.")
    try:
        found = Mapping.validate_python(tomllib.loads(file.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not valid TOML: {error}. Mend that line.") from error
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
        raise DataError(f"{file}: {places}. docs/importing.md shows every key.") from error
    if not found:
        raise DataError(f"{file} names no table. Give [events.columns], [orders.columns] or others of {list(TABLES)}.")
    mapping = {name: entries if isinstance(entries, list) else [entries] for name, entries in found.items()}
    for name, entries in mapping.items():
        if name not in TABLES:
            raise DataError(f"{file}: {name!r} is no table. The contract has {list(TABLES)}.")
        for entry in entries:
            made = MADE.get(name)
            missing = [c for c in TABLES[name].required if c not in entry.columns and c != made]
            if missing:
                raise DataError(f"{file}: [{name}.columns] must say what {missing} are. Add a line for each.")
            if strangers := set(entry.values) - set(entry.columns):
                raise DataError(f"{file}: [{name}.values] has {sorted(strangers)}, which [{name}.columns] has not.")
    return mapping


def _part(intake: Intake, spec: TableSpec, entry: FileMapping, *, raw: str) -> str:
    file = intake.path / entry.file if entry.file else intake.path
    theirs = [column for column in entry.columns.values() if isinstance(column, str)]
    schema = intake.read(raw, file, needs=theirs).schema()
    selected, reasons = [], []
    for name, column in entry.columns.items():
        kind = spec.by_name[name].type if name in spec.by_name else None
        if isinstance(column, Constant):
            selected.append(f"{_constant(column.constant)} AS {quoted(name)}")
            continue
        value = f"raw.{quoted(column)}"
        if kind == "time":
            time = moment(value, form=entry.time_format, zone=entry.time_zone)
            text = f"nullif({value}::VARCHAR, '')"
            reasons.append(f"WHEN {text} IS NOT NULL AND ({time}) IS NULL THEN '{name} is not a time: ' || {text}")
            value = time
        elif kind == "string":
            if schema[column].is_floating():  # pandas makes numbers of ids with gaps: 17850.0
                value = f"TRY_CAST({value} AS BIGINT)"
            value = f"nullif({value}::VARCHAR, '')"
        if translated := entry.values.get(name):
            cases = " ".join(f"WHEN {literal(old)} THEN {literal(new)}" for old, new in translated.items())
            value = f"CASE {value}::VARCHAR {cases} ELSE {value} END"
        selected.append(f"{value} AS {quoted(name)}")
    reason = f"CASE {' '.join(reasons)} END" if reasons else "NULL::VARCHAR"
    return f"SELECT {', '.join(selected)}, {reason} AS reason, to_json(raw) AS source FROM {raw} AS raw"


def _with_ids(name: str, columns: list[str]) -> str:
    made = MADE.get(name)
    if made is None or made in columns:
        return f"SELECT * FROM together_{name}"
    if made != "line_id":
        return with_id(made, f"SELECT * FROM together_{name}")
    content = ", ".join(map(quoted, columns))
    return f"""
        SELECT (row_number() OVER (PARTITION BY order_id ORDER BY {content}))::VARCHAR AS line_id, *
        FROM together_{name}
    """


def _constant(value: str | float | bool) -> str:
    return literal(value) if isinstance(value, str) else str(value).lower()
