"""Any CSV, Parquet or JSON lines files, with a TOML file that says which column is what."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import available_timezones

from ibis.expr import types as ir
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from data.contract import TABLES, TableSpec
from data.errors import DataError
from data.sources.intake import EPOCHS, Brought, Intake, moment, number, reachable, with_id
from data.sql import literal, quoted

MADE = {"events": "event_id", "messages": "message_id", "orders": "line_id", "decisions": "decision_id"}
"""Ids that are made where the mapping names no column for them."""

NAMED_OFTEN = ("users", "items", "identities")
"""Tables that are often made of files which name one user or item many times, such as order lines and events."""

REASON, LINE = "attune_reason", "attune_line"
"""What a row is left out for, and the row as it was: names that no shop gives an attribute."""


def _known_format(told: str | dict[str, str]) -> str | dict[str, str]:
    for form in [told] if isinstance(told, str) else told.values():
        if form not in ("iso", *EPOCHS) and "%" not in form:
            raise ValueError(f"write iso, {', '.join(EPOCHS)}, or a pattern such as %d.%m.%Y %H:%M")
    return told


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
    time_format: Annotated[str | dict[str, str], AfterValidator(_known_format)] = Field(
        "iso", description=f"iso, {', '.join(EPOCHS)}, or a strptime pattern; or one for each column of ours"
    )
    time_zone: Annotated[str, AfterValidator(_known_zone)] = Field("UTC", description="of times that tell no zone")
    decimal_mark: Literal[".", ","] | None = Field(
        None, description="of numbers with thousands or currency signs; empty = they are plain"
    )


Mapping = TypeAdapter(dict[str, list[FileMapping]])


def tables(intake: Intake) -> Brought:
    """Every table of the mapping, its files put together.

    Columns that the mapping does not name stay behind. What is no number stays as it is written: `attune check` judges
    it. A row with a time that cannot be read is refused. Where no column is named for an id in
    `MADE`, it is made from the row. Of `NAMED_OFTEN` a row is brought where it says something new.

    Raises:
        DataError: the mapping is no TOML, has an unknown key, table or column, or leaves a required column out.
    """
    mapping = read_mapping(intake.mapping or Path())
    brought, refused, notes = {}, [], []
    for name, entries in mapping.items():
        spec = TABLES[name]
        parts = []
        for place, entry in enumerate(entries):
            part = f"part_{name}_{place}"
            intake.view(part, _part(intake, spec, entry, raw=f"raw_{name}_{place}"))
            parts.append(f"SELECT * EXCLUDE ({REASON}, {LINE}) FROM {part} WHERE {REASON} IS NULL")
            line = f"'{name}' AS \"table\", {REASON} AS reason, {LINE}::VARCHAR AS line"
            refused.append(f"SELECT {line} FROM {part} WHERE {REASON} IS NOT NULL")
        rows = " UNION ALL BY NAME ".join(parts)
        if name in NAMED_OFTEN:
            together, said = _once(intake, spec, rows)
            notes += said
        else:
            together = intake.view(f"together_{name}", rows)
        if name == "orders" and "line_id" not in together.columns:
            notes += _twice(intake)
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
        told = tomllib.loads(file.read_text(encoding="utf-8"))
        mapping = Mapping.validate_python({n: one if isinstance(one, list) else [one] for n, one in told.items()})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not valid TOML: {error}. Mend that line.") from error
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
        raise DataError(f"{file}: {places}. docs/importing.md shows every key.") from error
    if not mapping:
        raise DataError(f"{file} names no table. Give [events.columns], [orders.columns] or others of {list(TABLES)}.")
    for name, entries in mapping.items():
        if name not in TABLES:
            raise DataError(f"{file}: {name!r} is no table. The contract has {list(TABLES)}.")
        made = MADE.get(name)
        if len({made in entry.columns for entry in entries}) > 1:
            raise DataError(
                f"{file}: some of [[{name}]] say what {made} is and some do not. Say it of all, or of none."
            )
        for entry in entries:
            missing = [c for c in TABLES[name].required if c not in entry.columns and c != made]
            if missing:
                raise DataError(f"{file}: [{name}.columns] must say what {missing} are. Add a line for each.")
            formats = entry.time_format if isinstance(entry.time_format, dict) else {}
            for key, named in (("values", entry.values), ("time_format", formats)):
                if strangers := set(named) - set(entry.columns):
                    raise DataError(f"{file}: [{name}.{key}] has {sorted(strangers)}, which [{name}.columns] has not.")
    return mapping


def _part(intake: Intake, spec: TableSpec, entry: FileMapping, *, raw: str) -> str:
    file = intake.path / entry.file if entry.file else intake.path
    theirs = [column for column in entry.columns.values() if isinstance(column, str)]
    there = reachable(intake.read(raw, file, needs=theirs).schema())
    selected, reasons = [], []
    for name, column in entry.columns.items():
        kind = spec.by_name[name].type if name in spec.by_name else None
        if isinstance(column, Constant):
            selected.append(f"{_constant(column.constant)} AS {quoted(name)}")
            continue
        way, of = there[column]
        value = f"(raw.{way} ->> '$')" if of.is_json() else f"raw.{way}"  # values of several types
        if kind == "time":
            form = entry.time_format if isinstance(entry.time_format, str) else entry.time_format.get(name, "iso")
            time = moment(value, form=form, zone=entry.time_zone)
            text = f"nullif({value}::VARCHAR, '')"
            reasons.append(f"WHEN {text} IS NOT NULL AND ({time}) IS NULL THEN '{name} is not a time: ' || {text}")
            value = time
        elif kind == "string":
            if of.is_floating():  # pandas makes numbers of ids with gaps: 17850.0
                whole = f"TRY_CAST({value} AS BIGINT)::VARCHAR"
                value = f"CASE WHEN {value} = trunc({value}) THEN {whole} ELSE {value}::VARCHAR END"
            value = f"nullif({value}::VARCHAR, '')"
        elif kind in ("float", "int") and entry.decimal_mark:
            value = number(value, mark=entry.decimal_mark)
        if translated := entry.values.get(name):
            cases = " ".join(f"WHEN {literal(old)} THEN {literal(new)}" for old, new in translated.items())
            value = f"CASE {value}::VARCHAR {cases} ELSE {value}{'' if kind == 'time' else '::VARCHAR'} END"
        selected.append(f"{value} AS {quoted(name)}")
    reason = f"CASE {' '.join(reasons)} END" if reasons else "NULL::VARCHAR"
    return f"SELECT {', '.join(selected)}, {reason} AS {REASON}, to_json(raw) AS {LINE} FROM {raw} AS raw"


def _once(intake: Intake, spec: TableSpec, rows: str) -> tuple[ir.Table, list[str]]:
    """Rows that name somebody or something and say what was not known of it before; how many others there were."""
    columns = list(intake.stage(f"every_{spec.name}", rows).columns)
    ids = [name for name in spec.key if name in spec.required]
    named = " AND ".join(f"{name} IS NOT NULL" for name in ids)
    said = ", ".join(quoted(name) for name in columns if name != spec.happened_at)
    new = f"SELECT DISTINCT * FROM every_{spec.name} WHERE {named}"
    if spec.happened_at and spec.happened_at in columns:
        history = f"PARTITION BY {', '.join(ids)} ORDER BY {quoted(spec.happened_at)} NULLS FIRST, row({said})"
        new += f" QUALIFY row({said}) IS DISTINCT FROM lag(row({said})) OVER ({history})"
    once = intake.stage(f"together_{spec.name}", new)
    count = f"SELECT count(*), count(*) FILTER ({named}) FROM every_{spec.name}"
    ((total, with_ids),) = intake.backend.raw_sql(count).fetchall()
    brought = once.count().execute()
    counts = {
        f"without {' or '.join(ids)}": total - with_ids,
        "that only say again what another says": with_ids - brought,
    }
    return once, [f"{spec.name}: not brought are rows {what}: {n:,}" for what, n in counts.items() if n]


def _twice(intake: Intake) -> list[str]:
    """Whether order lines say all that another says: an order may name an item twice, or the export holds it twice."""
    ((again,),) = intake.backend.raw_sql(
        "SELECT count(*) - count(DISTINCT hash(said)) FROM together_orders AS said"
    ).fetchall()
    if not again:
        return []
    alike = "1 line says" if again == 1 else f"{again:,} lines say"
    lines = f"orders: {alike} just what another line of the order says, and counts: an order may name an item twice. "
    return [lines + "If the export has such lines by mistake, name the column that numbers an order's lines as line_id"]


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
