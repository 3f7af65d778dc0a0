"""Rows of tables that `/v1/tables` replaces, offers and variants: those of the checked tables, and the state's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa

from data.state import State
from data.state.reads import Newest
from data.state.schema import tables as live
from data.tables import Tables


def changed(
    state: State, name: str, columns: Sequence[str], newest: Newest | None
) -> tuple[Newest, pd.DataFrame] | None:
    """The state's rows of a table, and what is newest among them; None if nothing changed.

    Args:
        state: The live state.
        name: One of `schema.UPSERTED`.
        columns: That are read.
        newest: As it was last told; None at first.

    Raises:
        StateUnavailableError: it cannot be read.

    Example:
        >>> newest, rows = changed(State.open("sqlite://"), "offers", ["offer_id"], None)
        >>> list(rows.columns), len(rows)
        (['offer_id'], 0)
    """
    table = live[name]
    with state.reading() as connection:
        found = (newest or Newest()).of(connection, name)
        if found is newest:
            return None
        rows = connection.execute(sa.select(*(table.c[column] for column in columns))).all()
    return found, pd.DataFrame(rows, columns=list(columns), dtype=object)


def there(tables: Tables, state: State, name: str, column: str) -> set[str]:
    """What stands in a column, checked or live.

    Raises:
        StateUnavailableError: the state cannot be read.
    """
    with state.reading() as connection:
        found = set(connection.scalars(sa.select(live[name].c[column]).distinct()))
    return found | set(tables[name].select(column).distinct().execute()[column].dropna())


def records(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Each row by its columns, None where a value is missing.

    Example:
        >>> list(records(pd.DataFrame({"name": ["tea", None], "price": [float("nan"), 2.0]})))
        [{'name': 'tea', 'price': None}, {'name': None, 'price': 2.0}]
    """
    for row in rows.to_dict("records"):
        yield {str(name): None if _missing(value) else value for name, value in row.items()}


def _missing(value: object) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))
