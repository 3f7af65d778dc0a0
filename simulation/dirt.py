"""Dirty rows: for every check that a Parquet file can fail, copies of good rows with that one fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.checks import CHECKS, Check
from data.contract import TABLES

TIME = pa.timestamp("us", "UTC")
FEW_ROWS = 50
"""In a table of fewer one bad row would be so large a share that the whole check fails: it stays clean."""
TRUTH = pa.schema([(name, pa.string()) for name in ("table", "id", "column", "reason")])

Spoil = Callable[[pa.Table], pa.Array]


@dataclass(frozen=True)
class Fault:
    """One way in which a row can be bad.

    Attributes:
        table: The table.
        column: The column to blame.
        reason: As the check words it (`data.checks.Check`).
        spoil: The column's values for given good rows; None leaves the row as it is, which doubles its key.
        also_missing: Further columns that are emptied.
    """

    table: str
    column: str
    reason: str
    spoil: Spoil | None
    also_missing: tuple[str, ...] = ()


def soil(
    tables: dict[str, pa.Table], rng: np.random.Generator, *, share: float, batch: str
) -> tuple[dict[str, pa.Table], pa.Table]:
    """The tables with about `share` more rows, each with one fault, and which rows those are.

    Faults take turns, starting anywhere. A table of few rows gets none.

    Returns:
        The tables, and the truth: table, id (null where that is what is missing), column and reason.
    """
    soiled: dict[str, pa.Table] = {}
    lists: list[pa.Table] = []
    for name, table in tables.items():
        faults = [fault for fault in FAULTS[name] if fault.column in table.column_names]
        count = int(share * len(table) + rng.random()) if len(table) >= FEW_ROWS else 0
        turn = rng.integers(len(faults)) + np.arange(count)
        parts = [table]
        for number, fault in enumerate(faults):
            mine = int((turn % len(faults) == number).sum())
            if mine:
                rows = table.take(pa.array(np.sort(rng.choice(len(table), mine, replace=False))))
                bad = _spoilt(rows, fault, prefix=f"x{batch}-{number}-")
                parts.append(bad)
                ids = bad[TABLES[name].key[0]].cast(pa.string())
                what = [[name] * mine, ids, [fault.column] * mine, [fault.reason] * mine]
                lists.append(pa.table(what, schema=TRUTH))
        soiled[name] = pa.concat_tables(parts).unify_dictionaries()
    return soiled, pa.concat_tables([TRUTH.empty_table(), *lists])


def _spoilt(rows: pa.Table, fault: Fault, *, prefix: str) -> pa.Table:
    """Copies of good rows with the fault, under new ids unless the doubled key is the fault."""
    if fault.spoil is None:
        return rows
    key = TABLES[fault.table].key[0]
    if fault.column != key:
        ids = pa.array([f"{prefix}{number}" for number in range(len(rows))])
        rows = _with(rows, key, ids)
    for column in fault.also_missing:
        rows = _with(rows, column, _missing(column)(rows))
    return _with(rows, fault.column, fault.spoil(rows))


def _with(rows: pa.Table, column: str, values: pa.Array) -> pa.Table:
    """`rows` with other values in one column, in the type it had."""
    position = rows.column_names.index(column)
    wanted = rows.schema.field(position).type
    if pa.types.is_dictionary(wanted) and not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    return rows.set_column(position, rows.schema.field(position), values.cast(wanted))


def _all(value: object) -> Spoil:
    """Every row gets `value`."""
    return lambda rows: pa.array([value] * len(rows))


def _stamp(moment: datetime) -> Spoil:
    return lambda rows: pa.array([moment] * len(rows), TIME)


def _before(earlier: str, gap: timedelta) -> Spoil:
    """So long before another time of the row."""
    return lambda rows: pc.subtract(rows[earlier].combine_chunks(), pa.scalar(gap, pa.duration("us")))


def _missing(column: str) -> Spoil:
    return lambda rows: pa.nulls(len(rows), rows.schema.field(column).type)


def _fault(check: Check) -> Fault | None:
    """The fault that a check finds; None where no Parquet file can have it (a time that is no time)."""
    table, column, reason = check.table, check.column, check.reason
    earlier = reason.removeprefix("before ").removesuffix(WITHIN_SKEW)
    also_missing: tuple[str, ...] = ()
    if (table, column, reason) in PARTICULAR:
        spoil: Spoil | None = PARTICULAR[table, column, reason]
    elif reason in SPOILT_BY:
        spoil = SPOILT_BY[reason]
    elif reason == "missing" or reason.endswith(" either"):
        spoil = _missing(column)
        also_missing = tuple(re.findall(r"no (\w+) either", reason))
    elif earlier in TABLES[table].by_name:
        spoil = _before(earlier, timedelta(minutes=20) if reason.endswith(WITHIN_SKEW) else timedelta(days=10))
    elif reason.startswith(("none of ", "not in ")):
        spoil = _all("unheard-of")
    else:
        return None
    return Fault(table, column, reason, spoil, also_missing)


WITHIN_SKEW = ", within the clock skew"
SPOILT_BY: dict[str, Spoil | None] = {
    "key of another row": None,
    "not finite": _all(float("nan")),
    "before 1990": _stamp(datetime(1970, 1, 1, tzinfo=UTC)),
    "in the future": _stamp(datetime(2100, 1, 1, tzinfo=UTC)),
    "negative": _all(-1.0),
    "zero": _all(0.0),
}
PARTICULAR: dict[tuple[str, str, str], Spoil] = {
    ("variants", "text", "merge field without a fallback"): _all("Hello {user.first_name}"),
    ("variants", "text", "unknown merge field"): _all("Hello {user.shoe_size|there}"),
    ("decisions", "arm_share", "not above 0 and up to 1"): _all(0.0),
    ("decisions", "probability", "not one for each choice"): _all([0.5, 0.5, 0.5]),
    ("decisions", "probability", "not above 0 and up to 1"): _all([1.5]),
}
FAULTS: dict[str, list[Fault]] = {
    name: [fault for check in CHECKS if check.table == name and (fault := _fault(check))] for name in TABLES
}
"""Every fault of every table: what the checks look for and a Parquet file can hold."""
