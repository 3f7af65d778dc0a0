"""The checks: one list of what makes a row bad or doubtful, from which come the quarantine, the audit and the docs."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial, reduce
from pathlib import Path

import duckdb
import ibis
from ibis.backends.duckdb import Backend
from ibis.expr import types as ir

from data import audit
from data.audit import Audit, Finding
from data.contract import (
    BEFORE,
    EARLIEST,
    EVENT_NAMES,
    IN_FUTURE,
    NEGATIVE,
    NONE_OF,
    RESERVED,
    TABLES,
    TOO_EARLY,
    ColumnType,
    TableSpec,
)
from data.erasing import keep_out
from data.errors import DataError
from data.files import alone, replacing
from data.merge_fields import NAME, known_columns
from data.progress import track
from data.sql import literal
from data.tables import EPOCH, READERS, cause, conform, connect, files_of, read_raw, typed
from data.workspace import Workspace

SMALLEST_SHARE = 1e-12
"""A probability of a choice that was made is above nought."""

MEMORY_LIMIT_GB = 2.0
"""What DuckDB may use here unless the settings say otherwise; more does not make a check faster."""

ROW, REASONS = "row_number", "reasons"
"""The columns that quarantine adds to a row as it was brought: where it stood (from 1) and what is wrong with it."""


@dataclass(frozen=True)
class Rows:
    """The rows of one table while they are judged; `rows["price"]` is a column in the contract's type.

    Attributes:
        raw: The rows as brought.
        spec: What they should look like.
        now: No time may lie after it, but for the clock skew.
        skew: By how much clocks may disagree.
        good: The good rows of the tables that were checked before.
        surplus: Numbers of the rows whose key another row has and keeps; None where there are none.
    """

    raw: ir.Table
    spec: TableSpec
    now: datetime
    skew: timedelta
    good: Mapping[str, ir.Table]
    surplus: ir.Table | None = None

    @cached_property
    def columns(self) -> dict[str, ir.Value]:
        """Every column in the contract's type; an empty text is a missing value."""
        return {
            name: value.nullif("") if value.type().is_string() and name in self.spec.by_name else value
            for name, value in typed(self.raw, self.spec).items()
        }

    def __getitem__(self, column: str) -> ir.Value:
        return self.columns[column]

    def absent(self, column: str) -> ir.BooleanValue:
        """Whether the row brings no value."""
        if column not in self.raw.columns:
            return ibis.literal(value=True)
        value = self.raw[column]
        if value.type().is_floating() and self.spec.by_name[column].type == "string":
            value = self[column]  # NaN is no id
        return value.isnull() | (value == "") if value.type().is_string() else value.isnull()

    @property
    def numbered(self) -> Rows:
        """The same rows, each with its place in the file."""
        return replace(self, raw=self.raw.mutate(**{ROW: ibis.row_number() + 1}))


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be wrong with a row.

    Attributes:
        table: The table it is about.
        column: The column that is to blame.
        reason: What is wrong, in words that follow the column's name.
        bad: Whether a row is bad, as an Ibis expression (null = not bad); None where the tables cannot tell.
        refuse: A bad row goes to quarantine; otherwise it is kept and counted.
    """

    table: str
    column: str
    reason: str
    bad: Callable[[Rows], ir.BooleanValue | None]
    refuse: bool = True

    @property
    def label(self) -> str:
        """The reason as quarantine and audit give it."""
        return f"{self.column}: {self.reason}"


NOT_READ: dict[ColumnType, str] = {
    "time": "not a time",
    "float": "not a number",
    "int": "not a whole number",
    "bool": "not true or false",
    "strings": "not a list",
    "floats": "not a list of numbers",
}

REFERS = {
    ("events", "item_id"): "items",
    ("events", "user_id"): "users",
    ("orders", "item_id"): "items",
    ("orders", "user_id"): "users",
    ("orders", "offer_id"): "offers",
    ("messages", "user_id"): "users",
    ("messages", "offer_id"): "offers",
    ("messages", "variant_id"): "variants",
    ("messages", "decision_id"): "decisions",
    ("identities", "user_id"): "users",
}
"""Ids that should be in another table. Shops forget old items and users, so such a row is kept and counted."""


def _missing(rows: Rows, column: str) -> ir.BooleanValue:
    return rows.absent(column)


def _unread(rows: Rows, column: str) -> ir.BooleanValue:
    value = rows[column]
    unread = value.isnull()
    if isinstance(value, ir.ArrayValue):
        unread |= value.filter(lambda one: one.isnull()).length() > 0
    return ~rows.absent(column) & unread


def _not_finite(rows: Rows, column: str) -> ir.BooleanValue:
    # Not isnan: DuckDB answers that from Parquet's minimum and maximum, in which a NaN does not count.
    return rows[column] - rows[column] != 0


def _too_early(rows: Rows, column: str) -> ir.BooleanValue:
    return rows[column] < ibis.literal(EARLIEST, type=EPOCH)


def _in_future(rows: Rows, column: str) -> ir.BooleanValue:
    return rows[column] > ibis.literal(rows.now + rows.skew, type=EPOCH)


def _surplus(rows: Rows) -> ir.BooleanValue | None:
    return None if rows.surplus is None else rows.raw[ROW].isin(rows.surplus[ROW])


def _before(rows: Rows, column: str, earlier: str) -> ir.BooleanValue:
    return rows[column] < rows[earlier] - ibis.interval(seconds=int(rows.skew.total_seconds()))


def _just_before(rows: Rows, column: str, earlier: str) -> ir.BooleanValue:
    return rows[column] < rows[earlier]


def _negative(rows: Rows, column: str) -> ir.BooleanValue:
    return rows[column] < 0


def _none_of(rows: Rows, column: str, known: Iterable[str]) -> ir.BooleanValue:
    return ~rows[column].isin(sorted(known))


def _reserved(rows: Rows, column: str, value: str) -> ir.BooleanValue:
    return (rows[column] == value) & (rows["kind"].fill_null("") != value)


def _unknown(rows: Rows, column: str, parent: str) -> ir.BooleanValue | None:
    return ~rows[column].isin(rows.good[parent][TABLES[parent].key[0]]) if parent in rows.good else None


def _no_share(rows: Rows, column: str) -> ir.BooleanValue:
    return ~rows[column].between(SMALLEST_SHARE, 1)


def _no_shares(rows: Rows, column: str) -> ir.BooleanValue:
    return rows[column].filter(lambda share: ~share.between(SMALLEST_SHARE, 1)).length() > 0


def _one_text(rows: Rows, column: str) -> ir.BooleanValue:
    return rows[column].filter(lambda one: one.re_search("[;|]")).length() > 0


def _unknown_field(rows: Rows) -> ir.BooleanValue:
    users = rows.good.get("users")
    columns = known_columns(() if users is None else users.columns)
    known = "|".join(sorted(column for column in columns if NAME.fullmatch(f"user.{column}")))
    others = rows["text"].re_replace(rf"\{{\s*user\.({known})\s*\|[^{{}}]*\}}", "")
    return others.re_search(r"\{[^{}|]*\|[^{}]*\}")


def _lengths_differ(rows: Rows) -> ir.BooleanValue:
    return rows["probability"].length() != rows["chosen"].length()


def _general(spec: TableSpec) -> Iterator[Check]:
    """What holds for every table."""
    for column in spec.columns:
        name, about = column.name, partial(Check, spec.name, column.name)
        if column.required:
            yield about("missing", partial(_missing, column=name))
        if column.type in NOT_READ:
            yield about(NOT_READ[column.type], partial(_unread, column=name))
        if column.type == "float":
            yield about("not finite", partial(_not_finite, column=name))
        if column.type == "time":
            yield about(TOO_EARLY, partial(_too_early, column=name))
        if column.type == "time" and not column.planned:
            yield about(IN_FUTURE, partial(_in_future, column=name))
    yield Check(spec.name, spec.key[0], "key of another row", _surplus)
    for column in spec.columns:
        name, about = column.name, partial(Check, spec.name, column.name)
        if column.follows:
            yield about(BEFORE.format(column.follows), partial(_before, column=name, earlier=column.follows))
        if column.not_negative:
            yield about(NEGATIVE, partial(_negative, column=name))
        if column.one_of:
            yield about(NONE_OF.format(", ".join(column.one_of)), partial(_none_of, column=name, known=column.one_of))
        if column.reserved:
            yield about(RESERVED.format(column.reserved), partial(_reserved, column=name, value=column.reserved))


CHECKS: tuple[Check, ...] = (
    *(check for spec in TABLES.values() for check in _general(spec)),
    Check("events", "user_id", "no anonymous_id either", lambda r: r.absent("user_id") & r.absent("anonymous_id")),
    Check("orders", "quantity", "zero", lambda r: r["quantity"].between(0, 0)),
    Check("variants", "text", "merge field without a fallback", lambda r: r["text"].re_search(r"\{[^{}|]*(\|\s*)?\}")),
    Check("variants", "text", "unknown merge field", _unknown_field),
    Check("decisions", "placement", "no slot either", lambda r: r.absent("placement") & r.absent("slot")),
    Check("decisions", "arm_share", "not above 0 and up to 1", partial(_no_share, column="arm_share")),
    Check("decisions", "probability", "not one for each choice", _lengths_differ),
    Check("decisions", "probability", "not above 0 and up to 1", partial(_no_shares, column="probability")),
    Check("outcomes", "decision_id", "not in decisions", partial(_unknown, column="decision_id", parent="decisions")),
    *(
        Check(table, column, f"not in {parent}", partial(_unknown, column=column, parent=parent), refuse=False)
        for (table, column), parent in REFERS.items()
    ),
    *(
        Check(
            spec.name, column.name, f"{BEFORE.format(column.follows)}, within the clock skew",
            partial(_just_before, column=column.name, earlier=column.follows), refuse=False,
        )
        for spec in TABLES.values() for column in spec.columns if column.follows
    ),
    Check("events", "event", "not in the contract", partial(_none_of, column="event", known=EVENT_NAMES), refuse=False),
    *(
        Check(table, "channels", "parted by ; or |, not by commas", partial(_one_text, column="channels"), refuse=False)
        for table in ("users", "offers")
    ),
    Check("orders", "discount", NEGATIVE, partial(_negative, column="discount"), refuse=False),
)  # fmt: skip
"""Every check. Of rows with one key that stays which has no other fault and reached us first, then the first by all
its columns; the others are refused."""


def check(workspace: Workspace, *, now: datetime | None = None) -> Audit:
    r"""Part good rows from bad, and say how fit the tables are to train on.

    Writes `checked/NAME.parquet` (good rows in the contract's types, sorted by user and time),
    `quarantine/NAME.parquet` (bad rows as brought, with `row_number` and `reasons`), `reports/audit.json` and
    `reports/audit.md`. The folders are replaced whole. Rows of people who were erased are removed beforehand.
    Tables are streamed: memory stays within `data.memory_limit_gb`.

    Args:
        workspace: The shop.
        now: The moment that ages are counted to and that no row may lie after; the clock's by default.

    Raises:
        DataError: no table is there, or a file cannot be read.

    Example:
        >>> import tempfile
        >>> shop = Workspace.create(tempfile.mkdtemp())
        >>> lines = "order_id,line_id,item_id,quantity,occurred_at\n1,1,tea,2,2026-01-01\n2,1,tea,two,2026-01-02\n"
        >>> _ = (shop.tables_dir / "orders.csv").write_text(lines)
        >>> print(*check(shop).findings)
        orders.quantity: not a number in 1 row (first: 'two' at row 2); they are in quarantine/orders.parquet
        >>> shop.checked["orders"].count().execute()
        1
    """
    with alone(workspace.path):
        keep_out(workspace)
        return _check(workspace, now or datetime.now(UTC))


def _check(workspace: Workspace, moment: datetime) -> Audit:
    started = time.time_ns()
    settings = workspace.settings.data
    fingerprint = workspace.fingerprint()
    with replacing(workspace.checked_dir) as checked, replacing(workspace.quarantine_dir) as quarantine:
        checked.mkdir()
        quarantine.mkdir()
        backend = connect(memory_limit_gb=settings.memory_limit_gb or MEMORY_LIMIT_GB)
        backend.raw_sql(f"SET temp_directory={literal(checked.parent / 'spill')}")
        backend.raw_sql("SET preserve_insertion_order=true")  # row numbers are those of the file
        raw = read_raw(backend, workspace.tables_dir)
        if not raw:
            raise DataError(
                f"{workspace.tables_dir} has no table. `attune import` makes them; "
                f"by hand, put {', '.join(TABLES)} there as .parquet, .csv or .jsonl."
            )
        kept: dict[str, ir.Table] = {}
        good: dict[str, ir.Table] = {}  # the same with every column of the contract
        refused: dict[str, tuple[tuple[Finding, ...], int]] = {}
        skew = timedelta(minutes=settings.max_clock_skew_minutes)
        for name in track(list(raw), "checking tables"):
            table = raw[name].drop(*{ROW, REASONS} & set(raw[name].columns))
            rows = Rows(raw=table, spec=TABLES[name], now=moment, skew=skew, good=good)
            with _explained(workspace.tables_dir, name):
                refused[name] = _quarantine(backend, rows, quarantine / f"{name}.parquet")
                kept[name] = _keep(backend, rows, quarantine / f"{name}.parquet", checked / f"{name}.parquet")
                good[name] = conform(kept[name], TABLES[name])
        tables = []
        for name in track(list(raw), "auditing tables"):
            findings, bad = refused[name]
            findings += _doubtful(Rows(raw=kept[name], spec=TABLES[name], now=moment, skew=skew, good=good))
            tables.append(audit.table_audit(kept[name], TABLES[name], now=moment, bad=bad, findings=findings))
        unread = sorted(
            file.name
            for file in workspace.tables_dir.glob("[!.]*")
            if file.suffix != ".duckdb" and not (file.stem in TABLES and file.suffix in READERS)
        )
        found = audit.audit(tables, good, settings=settings, now=moment, fingerprint=fingerprint, unread=tuple(unread))
        stamp = checked / "fingerprint.txt"
        stamp.write_text(fingerprint, encoding="utf-8")
        os.utime(stamp, ns=(started, started))
        backend.disconnect()
    audit.write(found, workspace.reports_dir)
    return found


@contextmanager
def _explained(folder: Path, name: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        file = next(iter(files_of(folder, name)), folder / name)
        raise DataError(
            f"{file} cannot be checked: {cause(error)}. "
            "Mend it (or make room on the disk) and run `attune check` again."
        ) from error


def _quarantine(backend: Backend, rows: Rows, file: Path) -> tuple[tuple[Finding, ...], int]:
    """Write the bad rows of a table as they were brought; what is wrong with them, and how many there are."""
    rows = rows.numbered
    rows = replace(rows, surplus=_surplus_rows(rows))
    wrong = _wrong(rows, refuse=True)
    reasons = ibis.array([bad.ifelse(check.label, ibis.null("string")) for check, bad in wrong])
    bad_rows = rows.raw.filter(_any(wrong)).mutate(**{REASONS: reasons.filter(lambda reason: reason.notnull())})
    backend.to_parquet(bad_rows.order_by(ROW), file, compression="zstd")
    refused = backend.read_parquet(file)
    total = int(refused.count().execute())
    if total == 0:
        file.unlink()
        return (), 0
    judged = [(check, refused[REASONS].contains(check.label)) for check, _ in wrong]
    return _findings(refused, judged), total


def _doubtful(rows: Rows) -> tuple[Finding, ...]:
    """What is odd in rows that were kept."""
    judged = [(check, bad) for check, bad in _wrong(rows, refuse=False) if check.column in rows.raw.columns]
    return _findings(rows.raw, judged)


def _surplus_rows(rows: Rows) -> ir.Table | None:
    """Numbers of all but the best row of each key (`CHECKS` says which that is)."""
    rows = replace(
        rows, raw=rows.raw.filter(*(~rows.absent(c) for c in rows.spec.key if rows.spec.by_name[c].required))
    )
    # Keys are first counted by their hash, in a fraction of the memory: few rows are left for the exact ranking.
    hashed = rows.raw.mutate(key_hash=_key(rows).hash())
    twice = hashed.group_by("key_hash").agg(rows=hashed.count()).filter(lambda t: t.rows > 1).cache()
    if twice.count().execute() == 0:
        return None
    rows = replace(rows, raw=hashed.semi_join(twice, "key_hash").drop("key_hash"))
    first_received = [rows["received_at"]] if "received_at" in rows.spec.by_name else []
    order = [_any(_wrong(rows, refuse=True)), *first_received, *rows.columns.values()]
    place = ibis.row_number().over(group_by=_key(rows), order_by=order)
    return rows.raw.mutate(place=place).filter(lambda t: t.place > 0).select(ROW).cache()


def _key(rows: Rows) -> ir.StructValue:
    return ibis.struct({column: rows[column] for column in rows.spec.key})


def _wrong(rows: Rows, *, refuse: bool) -> list[tuple[Check, ir.BooleanValue]]:
    """The checks of a table that can be made, each with the rows that fail it."""
    judged = ((check, check.bad(rows)) for check in CHECKS if check.table == rows.spec.name and check.refuse == refuse)
    return [(check, bad.fill_null(False)) for check, bad in judged if bad is not None]


def _any(wrong: list[tuple[Check, ir.BooleanValue]]) -> ir.BooleanValue:
    return reduce(operator.or_, (bad for _, bad in wrong))


def _findings(table: ir.Table, judged: list[tuple[Check, ir.BooleanValue]]) -> tuple[Finding, ...]:
    """How often each check failed in `table`, with the first value that did."""
    if not judged:
        return ()
    wanted: dict[str, ir.Value] = {}
    for i, (check, bad) in enumerate(judged):
        wanted[f"rows{i}"] = bad.sum()
        value = table[check.column].cast("string") if check.column in table.columns else None
        if ROW in table.columns:
            wanted[f"row{i}"] = table[ROW].min(where=bad)
            if value is not None:
                wanted[f"value{i}"] = value.argmin(table[ROW], where=bad)
        elif value is not None:  # good rows are sorted anew: their place in the file is gone
            wanted[f"value{i}"] = value.min(where=bad)
    found = table.aggregate(**wanted).to_pyarrow().to_pylist()[0]
    return tuple(
        Finding(
            table=check.table, column=check.column, reason=check.reason, refused=check.refuse,
            rows=found[f"rows{i}"], first_value=found.get(f"value{i}"), first_row=found.get(f"row{i}"),
        )
        for i, (check, _) in enumerate(judged)
        if found[f"rows{i}"]
    )  # fmt: skip


def _keep(backend: Backend, rows: Rows, quarantine: Path, file: Path) -> ir.Table:
    """Write the good rows of a table: those that are not in quarantine."""
    raw = rows.raw
    if quarantine.exists():
        raw = rows.numbered.raw.anti_join(backend.read_parquet(quarantine), ROW).drop(ROW)
    columns = replace(rows, raw=raw).columns
    table = raw.select(**{name: columns[name] for name in columns if name in raw.columns})
    order = dict.fromkeys(("user_id", rows.spec.happened_at, *rows.spec.key))
    if there := [name for name in order if name in table.columns]:
        table = table.order_by(there)
    backend.to_parquet(table, file, row_group_size=50_000, compression="zstd")
    return backend.read_parquet(file)
