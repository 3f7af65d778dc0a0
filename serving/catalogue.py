"""The items as they are now: what was checked, and what `/v1/tables` changed since."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import ibis
import numpy as np
import pandas as pd
import sqlalchemy as sa
from ibis.expr import types as ir

from data.contract import TABLES
from data.settings import Features
from data.state import State
from data.state.arrow import EXTRA
from data.state.reads import Newest
from data.state.schema import tables
from data.tables import Tables
from data.vocabulary import Vocabulary
from features.expressions import Expression
from features.profile import sensitive_category

COLUMNS = tuple(TABLES["items"].by_name)
FILTERABLE = tuple(column.name for column in TABLES["items"].columns if column.type != "time")
"""What a filter may name: expressions know no times."""
COLUMN = "column of items"
FILTERS_KEPT = 256
SENSITIVE, CODES = "\0sensitive", "\0codes"
"""Among the masks of filters; no filter is called so."""
DAY_SECONDS = 86_400


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Every item's latest row. Never changed: `with_rows` gives another.

    Attributes:
        items: The ids; an item that only models know is not here.
        rows: The columns of the contract by item code, then further ones that filters may name: numbers (1 for a yes)
            or text.
        newest: The newest rows of the state that are in here.
        features: Says which categories are sensitive.
    """

    items: Vocabulary
    rows: pd.DataFrame
    newest: Newest = field(default_factory=Newest)
    features: Features = field(default_factory=Features)
    _masks: dict[tuple[Vocabulary, str], np.ndarray] = field(default_factory=dict)
    _unknown: dict[Vocabulary, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, tables: Tables, *, columns: Sequence[str] = (), features: Features | None = None) -> Catalogue:
        """The catalogue of checked tables, with further `columns` for filters; one that nobody brought is missing."""
        now = tables.as_of(datetime.now(UTC))["items"]
        further = {name: _plain(now, name) for name in columns if name not in COLUMNS}
        rows = now.select(*COLUMNS, **further).order_by("item_id").execute()
        return cls(Vocabulary(rows["item_id"].astype(object)), _told(rows), features=features or Features())

    @property
    def filterable(self) -> tuple[str, ...]:
        """What a filter may name."""
        return (*FILTERABLE, *self.rows.columns[len(COLUMNS) :])

    def refreshed(self, state: State) -> Catalogue:
        """With what changed in the state since; itself if nothing did."""
        table, read = tables["items"], (*COLUMNS, EXTRA)
        with state.reading() as connection:
            newest = self.newest.of(connection, table.name)
            if newest is self.newest:
                return self
            query = sa.select(*(table.c[name] for name in read)).where(table.c.changed_at > self.newest.at)
            changed = pd.DataFrame(connection.execute(query).all(), columns=read)
        attributes = [told or {} for told in changed.pop(EXTRA)]
        for name in self.rows.columns[len(COLUMNS) :]:
            kinds = (int, float) if pd.api.types.is_numeric_dtype(self.rows[name]) else (str,)
            values = (told.get(name.lower()) for told in attributes)
            changed[name] = pd.Series([value if isinstance(value, kinds) else None for value in values], dtype=object)
        rows = pd.concat([self.rows, _told(changed).astype(self.rows.dtypes.to_dict())])
        rows = rows.sort_values(["item_id", "updated_at"], na_position="first", kind="stable")
        rows = rows.drop_duplicates("item_id", keep="last").reset_index(drop=True)
        return Catalogue(Vocabulary(rows["item_id"].astype(object)), rows, newest, self.features)

    def category(self, item_id: str) -> str | None:
        """What an item is filed under, None where that is not known."""
        found: str | None = self._categories[self.items.code(item_id)]
        return found

    def categories(self, item_ids: Sequence[str]) -> list[str | None]:
        """What each item is filed under, None where that is not known."""
        return [self.category(item_id) for item_id in item_ids]

    def age_days(self, item_ids: Sequence[str], now: datetime) -> np.ndarray:
        """Days since each item was made, float of shape (n,); NaN where that is not known."""
        made = self._made_at[[self.items.code(item_id) for item_id in item_ids]]
        return (now.timestamp() - made) / DAY_SECONDS

    def of_categories(self, items: Vocabulary, categories: Collection[str]) -> np.ndarray:
        """Which of a model's items are filed under one of `categories`, bool of shape (n_items,)."""
        number, names = self._filed
        under = np.append(names.isin(list(categories)), False)  # -1, under no category, reads the last place
        found: np.ndarray = under[number[self._codes_of(items)]]
        return found

    @cached_property
    def sensitive(self) -> frozenset[str]:
        """Categories that nothing is chosen by, and no reason tells of."""
        return frozenset(name for name in set(self._categories) - {None} if sensitive_category(name, self.features))

    def insensitive(self, items: Vocabulary) -> np.ndarray | None:
        """Which of a model's items are in no sensitive category, bool of shape (n_items,); None where all are."""
        if not self.sensitive:
            return None
        key = (items, SENSITIVE)
        mask = self._masks.get(key)
        if mask is None:
            self._masks[key] = mask = ~self.of_categories(items, self.sensitive)
        return mask

    def unknown_to(self, others: Vocabulary) -> np.ndarray:
        """Codes of the items that `others` does not hold, the newest first."""
        codes = self._unknown.get(others)
        if codes is None:
            self._unknown.clear()
            unknown = others.codes(self.items.all_ids) < 0
            order = np.argsort(-np.nan_to_num(self._made_at[:-1], nan=-np.inf), kind="stable")
            self._unknown[others] = codes = order[unknown[order]]
        return codes

    def name(self, item_id: str) -> str:
        """What an item is called."""
        code = self.items.code(item_id)
        name = self._names[code] if code >= 0 else None
        return name if isinstance(name, str) and name else item_id

    @cached_property
    def _names(self) -> np.ndarray:
        return self.rows["name"].to_numpy(dtype=object)

    @cached_property
    def _categories(self) -> np.ndarray:
        """By item code, None at the last place, where code -1 reads."""
        told = self.rows["category"].to_numpy(dtype=object)
        return np.array([*(name if isinstance(name, str) and name else None for name in told), None], dtype=object)

    @cached_property
    def _filed(self) -> tuple[np.ndarray, pd.Index]:
        """The number of each item's category, as `_categories`, and the categories by number."""
        number, names = pd.factorize(self._categories)
        return number, pd.Index(names)

    def _codes_of(self, items: Vocabulary) -> np.ndarray:
        """The code here of each of a model's items, -1 for one that is not here."""
        key = (items, CODES)
        codes = self._masks.get(key)
        if codes is None:
            self._masks[key] = codes = self.items.codes(items.all_ids)
        return codes

    @cached_property
    def _made_at(self) -> np.ndarray:
        """`created_at` by item code in seconds since 1970, NaN at the last place."""
        made = pd.to_datetime(self.rows["created_at"], utc=True)
        seconds = (made - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(dtype=float)
        return np.append(seconds, np.nan)

    def allowed(self, items: Vocabulary, only: Expression | None = None) -> np.ndarray:
        """Which of a model's items may be shown, bool of shape (n_items,).

        An item is left out if it is known not to be available, or if `only` does not hold for it; one that is not in
        the catalogue counts as available, and `only` holds for none such.

        Raises:
            WorkspaceError: `only` compares text with numbers, or names what is no text, number or truth of an item.
        """
        key = (items, "" if only is None else only.text)
        mask = self._masks.get(key)  # asked once: another thread may clear them
        if mask is None:
            if len(self._masks) >= FILTERS_KEPT:
                self._masks.clear()
            shown = self.rows["available"].to_numpy(dtype=bool)
            if only is not None:
                only.check(self.filterable, called=COLUMN)
                shown = shown & only.mask(self.rows[list(only.names)])  # not &=: it may be the column itself
            mask = np.append(shown, only is None)[self._codes_of(items)]  # code -1, not in here, reads the last place
            self._masks[key] = mask
        return mask


def _told(rows: pd.DataFrame) -> pd.DataFrame:
    """With `available` told of every row: an item that does not say whether it is available is."""
    return rows.assign(available=rows["available"].astype("boolean").fillna(True).astype(bool))


def _plain(items: ir.Table, name: str) -> ir.Value:
    """The column as string or float64; null where there is none, or one of another type."""
    column = items[name] if name in items.columns else ibis.null("float64")
    kind = column.type()
    if kind.is_string():
        return column
    return column.cast("float64") if kind.is_numeric() or kind.is_boolean() else ibis.null("float64")
