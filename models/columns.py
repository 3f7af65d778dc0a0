"""Any plain table as a model wants it: each column a number, a category, or left out with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from data.errors import DataError

MIN_ROWS_OF_A_CATEGORY = 20
"""A rarer one is told apart from no other rare one."""
MAX_CATEGORIES = 64
"""Of a column, the most common ones."""
READABLE = 0.95
"""Share of the values of a text column that must read as numbers, or as dates, for it to be one."""
NOTHING = frozenset({"", "?", "-", "na", "n/a", "nan", "none", "null", "nil", "unknown", "<na>", "nat"})
"""What people write, in any case, where there is nothing."""
MISSING, OTHER = "(missing)", "(other)"
CONSTANT, NO_CATEGORIES = "never changes", "nearly every value is another"
DATE_FORMATS = ("ISO8601", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y%m%d")
MICROSECONDS_A_DAY = 86_400_000_000


@dataclass(frozen=True)
class Column:
    """How one column is read.

    Attributes:
        kind: `number`; `time`, days since 1970; or `category`.
        categories: The known ones, the most common first; any other value is `(other)`.
        date_format: Of times that are written as text.
        decimal_comma: Whether numbers are written as in `1.234,50`.
    """

    kind: Literal["number", "time", "category"]
    categories: tuple[str, ...] = ()
    date_format: str = ""
    decimal_comma: bool = False


@dataclass(frozen=True)
class Columns:
    """How each column of a table is read, learnt from its training rows.

    Text that is numbers (`"1,234.50"`, `"1.234,50"`, `"$12"`, `"7 %"`) becomes numbers, dates become days, yes and no
    become 1 and 0, `""`, `"?"` and `"NA"` become missing. Columns that never change, and those of which nearly every
    value is another, are left out.

    Attributes:
        read: Column -> how, in the table's order.
        left_out: Column -> why.

    Example:
        >>> table = pd.DataFrame({"paid": ["1.5", " ", "3"] * 20, "plan": ["a", "b", "b"] * 20, "shop": "one"})
        >>> columns = Columns.learn(table)
        >>> {name: column.kind for name, column in columns.read.items()}, dict(columns.left_out)
        ({'paid': 'number', 'plan': 'category'}, {'shop': 'never changes'})
        >>> columns(table)["paid"].head(3).tolist()
        [1.5, nan, 3.0]
    """

    read: Mapping[str, Column]
    left_out: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def learn(cls, table: pd.DataFrame) -> Self:
        """Look at the training rows.

        Raises:
            DataError: two columns have one name, or none is left.
        """
        names = [str(name) for name in table.columns]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise DataError(f"two columns are called {twice!r}. Rename one.")
        read: dict[str, Column] = {}
        left_out: dict[str, str] = {}
        for number, name in enumerate(names):
            found = _how(table.iloc[:, number])
            if isinstance(found, Column):
                read[name] = found
            else:
                left_out[name] = found
        if not read:
            reasons = ", ".join(f"{name}: {why}" for name, why in left_out.items()) or "it has no columns"
            raise DataError(f"no column of the table says anything ({reasons}). Bring others.")
        return cls(MappingProxyType(read), MappingProxyType(left_out))

    def __call__(self, table: pd.DataFrame) -> pd.DataFrame:
        """The columns as float64 (missing = NaN) and text (never missing), with the table's index.

        Raises:
            DataError: a column is not there.
        """
        named = table.set_axis([str(name) for name in table.columns], axis=1)
        if gone := [name for name in self.read if name not in named]:
            raise DataError(f"the column {gone[0]!r} is not there (nor are {len(gone) - 1} others). Bring it.")
        return pd.DataFrame({name: _values(named[name], column) for name, column in self.read.items()}, table.index)

    def to_json(self) -> dict[str, Any]:
        """What a model's folder keeps of it."""
        return {
            "columns": {name: asdict(column) for name, column in self.read.items()},
            "left_out": dict(self.left_out),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """What `to_json` gave, maybe among other things.

        Raises:
            KeyError: something is missing.
        """
        read = {
            name: Column(
                column["kind"], tuple(column["categories"]), column["date_format"], column.get("decimal_comma", False)
            )
            for name, column in told["columns"].items()
        }
        return cls(MappingProxyType(read), MappingProxyType(told["left_out"]))


def _how(column: pd.Series) -> Column | str:
    """How a column is read, or why it is left out."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return Column("time") if len(column.unique()) > 1 else CONSTANT
    for comma in (False, True):
        numbers = _numbers(column, decimal_comma=comma)
        if numbers is not None:
            return _how_numbers(numbers, decimal_comma=comma)
    return _how_text(as_text(column))


def _how_numbers(numbers: np.ndarray, *, decimal_comma: bool) -> Column | str:
    known = numbers[np.isfinite(numbers)]
    if len(np.unique(known)) + (len(known) < len(numbers)) < 2:
        return CONSTANT
    # Whole numbers, each once, nearly every one between the least and the greatest.
    each_once = MAX_CATEGORIES < len(numbers) == len(np.unique(known)) and np.ptp(known) < 2 * len(known)
    return (
        "numbers the rows"
        if each_once and (known == np.round(known)).all()
        else Column("number", decimal_comma=decimal_comma)
    )


def _how_text(text: pd.Series) -> Column | str:
    counts = text.value_counts()
    if len(counts) + text.isna().any() < 2:
        return CONSTANT
    if date_format := _date_format(text):
        return Column("time", date_format=date_format)
    common = counts[counts >= min(MIN_ROWS_OF_A_CATEGORY, max(2, len(text) // 100))].head(MAX_CATEGORIES)
    if not len(common):
        return NO_CATEGORIES
    return Column("category", tuple(str(value) for value in common.index))


def _values(column: pd.Series, how: Column) -> np.ndarray:
    if how.kind == "number":
        numbers = _readable(column, decimal_comma=how.decimal_comma)
        return np.where(np.isfinite(numbers), numbers, np.nan)
    if how.kind == "time":
        times = column
        if not pd.api.types.is_datetime64_any_dtype(column):
            times = pd.to_datetime(as_text(column), format=how.date_format or "ISO8601", errors="coerce", utc=True)
        at = (times if times.dt.tz is None else times.dt.tz_convert(None)).to_numpy("datetime64[us]")
        return np.where(np.isnat(at), np.nan, at.astype(np.int64) / MICROSECONDS_A_DAY)
    text = as_text(column)
    known = text.where(text.isna() | text.isin(how.categories), OTHER)
    return known.where(known.notna(), MISSING).to_numpy(dtype=object)


def _numbers(column: pd.Series, *, decimal_comma: bool) -> np.ndarray | None:
    """The column as float64, missing = NaN; None where it is not of numbers, or most of them have no comma."""
    known = as_text(column).dropna() if _is_text(column) else pd.Series([], dtype="str")
    n_known = len(known)
    if decimal_comma and 2 * (known.str.count(",") == 1).sum() <= n_known:
        return None
    numbers = _readable(column, decimal_comma=decimal_comma)
    return numbers if (~np.isnan(numbers)).sum() >= READABLE * n_known else None


def _readable(column: pd.Series, *, decimal_comma: bool) -> np.ndarray:
    """What can be read as numbers, float64; the rest = NaN."""
    if pd.api.types.is_timedelta64_dtype(column):
        return (column / pd.Timedelta(days=1)).to_numpy(np.float64)
    if not _is_text(column) and pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(np.float64, na_value=np.nan)
    text = as_text(column)
    plain = text.str.replace(r"^[$€£¥]\s*|\s*[%€]$", "", regex=True)
    if decimal_comma:
        plain = plain.str.replace(r"\.(?=\d{3}\b)", "", regex=True).str.replace(",", ".", regex=False)
    else:
        plain = plain.str.replace(r",(?=\d{3}\b)", "", regex=True)
    lower = plain.str.lower()
    plain = plain.mask(lower.isin(["true", "yes"]), "1").mask(lower.isin(["false", "no"]), "0")
    return pd.to_numeric(plain, errors="coerce").to_numpy(np.float64)


def as_text(column: pd.Series) -> pd.Series:
    """A column as text without spaces around it; missing where it says nothing."""
    text = column.astype("object").where(column.notna(), None).map(str, na_action="ignore").astype("str").str.strip()
    return text.mask(text.str.lower().isin(NOTHING))


def _is_text(column: pd.Series) -> bool:
    """Whether it must be read: text, categories, or objects of any kind."""
    kind = column.dtype
    return (
        isinstance(kind, pd.CategoricalDtype)
        or pd.api.types.is_object_dtype(kind)
        or pd.api.types.is_string_dtype(kind)
    )


def _date_format(text: pd.Series) -> str:
    known = text.dropna()
    looks = known.str.contains(r"^\d{1,4}[-/.]?\d{1,2}[-/.]?\d{1,4}", regex=True)
    if looks.mean() < READABLE:
        return ""
    for date_format in DATE_FORMATS:
        if pd.to_datetime(known, format=date_format, errors="coerce", utc=True).notna().mean() >= READABLE:
            return date_format
    return ""
