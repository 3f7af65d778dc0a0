"""Rows as an app sends them (JSON), fitted to the contract or refused with the field and the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from data.contract import (
    BEFORE,
    EARLIEST,
    IN_FUTURE,
    NEGATIVE,
    NONE_OF,
    RESERVED,
    TOO_EARLY,
    Column,
    ColumnType,
    TableSpec,
)

MAX_TEXT = 10_000
MAX_ID, MAX_ID_BYTES = 512, 1_024
"""Characters, and bytes as UTF-8, that the routes take as an id; PostgreSQL takes two such ids as a key of an index."""
MAX_EXTRA = 100
MAX_NUMBER = 1e12
"""Beyond any price or count; sums of such numbers stay exact."""
LATEST_YEAR = 2200
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
EXTRA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class RowRefusedError(ValueError):
    """A row does not fit the contract.

    Attributes:
        field: The column at fault.
        reason: What is wrong and what would be right.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def fit(spec: TableSpec, row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` with every column of the contract, typed; what the contract does not know goes to `extra`.

    Raises:
        RowRefusedError: a required column is missing, or a value is not of its column's type or beyond its limits.

    Example:
        >>> from data.contract import TABLES
        >>> row = {"user_id": "ann", "purpose": "email", "granted": True, "at": "2026-01-01", "form": "footer"}
        >>> fit(TABLES["consents"], row)["extra"]
        {'form': 'footer'}
    """
    fitted: dict[str, Any] = {}
    for column in spec.columns:
        value = row.get(column.name)
        if value is None or value == "":
            if column.required:
                raise RowRefusedError(column.name, "is missing")
            fitted[column.name] = None
            continue
        if column.about.startswith("JSON") and isinstance(value, (dict, list)):
            value = _written(column.name, value)
        fitted[column.name] = READERS[column.type](column.name, value)
        if column.name.endswith("_id"):
            _refuse_long(column.name, fitted[column.name])
        _refuse_beyond(column, fitted[column.name], row)
    fitted["extra"] = _extra({name.lower(): value for name, value in row.items() if name not in spec.by_name}, spec)
    return fitted


def refuse_times(spec: TableSpec, row: Mapping[str, Any], *, now: datetime, skew: timedelta) -> None:
    """Refuse a fitted row with a time in the future, or one before the time that it follows: checks set it aside.

    Args:
        spec: Its table.
        row: As `fit` gives it.
        now: No time that is not planned may lie after it.
        skew: By how much clocks may disagree.

    Raises:
        RowRefusedError: there is such a time.
    """
    for column in spec.columns:
        at = row[column.name] if column.type == "time" else None
        if at is None:
            continue
        if not column.planned and at > now + skew:
            raise RowRefusedError(column.name, f"lies {IN_FUTURE} ({at.isoformat()})")
        earlier = row[column.follows] if column.follows else None
        if earlier is not None and at < earlier - skew:
            raise RowRefusedError(column.name, f"lies {BEFORE.format(column.follows)} ({at.isoformat()})")


def text(field: str, value: Any) -> str:
    """A string, or a whole number as one (ids are often numbers)."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise RowRefusedError(field, "is not a string")
    if len(value) > MAX_TEXT:
        raise RowRefusedError(field, f"is longer than {MAX_TEXT} characters")
    if UNSTORABLE.search(value):
        raise RowRefusedError(field, "holds a character that cannot be stored (NUL or half a surrogate pair)")
    return value


def moment(field: str, value: Any) -> datetime:
    """An ISO 8601 time; without a time zone it is UTC, as everywhere in the contract."""
    try:
        found = datetime.fromisoformat(value)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise RowRefusedError(field, "is not an ISO 8601 time such as 2026-01-31T12:00:00Z") from error
    if found < EARLIEST:
        raise RowRefusedError(field, f"lies {TOO_EARLY} ({found.isoformat()})")
    if found.year > LATEST_YEAR:
        raise RowRefusedError(field, f"lies in the year {found.year}")
    return found


def number(field: str, value: Any) -> float:
    """A finite number of a size that money, counts and seconds have."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RowRefusedError(field, "is not a number")
    if not abs(value) <= MAX_NUMBER:  # NaN too
        raise RowRefusedError(field, f"is not a number between -{MAX_NUMBER:.0e} and {MAX_NUMBER:.0e}")
    return float(value)


def whole(field: str, value: Any) -> int:
    """A whole number."""
    found = number(field, value)
    if found != int(found):
        raise RowRefusedError(field, "is not a whole number")
    return int(value)


def truth(field: str, value: Any) -> bool:
    """True or false, and nothing like it."""
    if not isinstance(value, bool):
        raise RowRefusedError(field, "is neither true nor false")
    return value


def _list_of(read: Callable[[str, Any], Any]) -> Callable[[str, Any], list[Any]]:
    def read_all(field: str, value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > MAX_TEXT:
            raise RowRefusedError(field, "is not a list")
        return [read(field, entry) for entry in value]

    return read_all


READERS: dict[ColumnType, Callable[[str, Any], Any]] = {
    "string": text,
    "time": moment,
    "float": number,
    "int": whole,
    "bool": truth,
    "strings": _list_of(text),
    "floats": _list_of(number),
}


def _refuse_long(field: str, id_: str) -> None:
    if len(id_) > MAX_ID:
        raise RowRefusedError(field, f"is longer than {MAX_ID} characters")
    if not id_.isascii() and len(id_.encode()) > MAX_ID_BYTES:
        raise RowRefusedError(field, f"takes more than {MAX_ID_BYTES} bytes as UTF-8")


def _refuse_beyond(column: Column, value: Any, row: Mapping[str, Any]) -> None:
    """Refuse a value that its column cannot have, in the words of `attune check`."""
    if column.not_negative and value < 0:
        raise RowRefusedError(column.name, f"{value:g} is {NEGATIVE}")
    if column.one_of and value not in column.one_of:
        raise RowRefusedError(column.name, f"{value[:64]!r} is {NONE_OF.format(', '.join(column.one_of))}")
    if column.reserved == value and row.get("kind") != value:
        raise RowRefusedError(column.name, f"{value!r} is {RESERVED.format(value)}")


def _extra(found: dict[str, Any], spec: TableSpec) -> dict[str, Any] | None:
    """Names are lower case, because column names are the same in either case."""
    if not found:
        return None
    if len(found) > MAX_EXTRA:
        raise RowRefusedError("extra", f"the row has more than {MAX_EXTRA} columns outside the contract")
    for name in found:
        if name in spec.by_name:
            raise RowRefusedError(name, "is to be written in lower case")
        if not EXTRA_NAME.fullmatch(name):
            raise RowRefusedError(name[:64], "is no column name: letters, digits and _, at most 63")
    written = _written("extra", found)
    if len(written) > MAX_TEXT:
        raise RowRefusedError("extra", f"the columns outside the contract take more than {MAX_TEXT} characters")
    if "\\u0000" in written or UNSTORABLE.search(written):
        raise RowRefusedError("extra", "holds a character that cannot be stored (NUL or half a surrogate pair)")
    return found


def _written(field: str, value: Any) -> str:
    """As JSON, which knows neither NaN nor infinity: a database refuses a row that holds one."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise RowRefusedError(field, "holds a number that is not finite") from error
