"""Labels: what a customer did in the horizon after a cutoff. They read the future, and features never do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import ibis
from ibis.expr import types as ir

from data import settings as config
from data.errors import DataError, WorkspaceError
from data.tables import Tables, cutoff_literal
from features.definitions import total
from features.purchases import purchases, with_category
from features.snapshots import known_people, span

FOREVER = datetime(9000, 1, 1, tzinfo=UTC)
IN_CATEGORY = "order in "


def label(tables: Tables, cutoff: datetime, declaration: config.Propensity) -> ir.Table:
    """`user_id, label` for everybody known at the cutoff, from what they did in `[cutoff, cutoff + horizon)`.

    `declaration.event` says what: 'no order' (churn), 'order', 'order in CATEGORY' and 'click' (of a message) give
    int64, 1 if so, else 0; 'spend' gives money ordered after discounts, float64. A return is no order.
    `declaration.population` is an expression over the cutoff's features:
    `expressions.parse(declaration.population).mask(frame)` tells whose labels count.

    Raises:
        DataError: the data end before the horizon does, or lack what the label needs.
        WorkspaceError: an event that is not one of these.

    Example:
        >>> import pandas as pd
        >>> shop = Tables.from_frames(orders=pd.DataFrame({
        ...     "order_id": ["1", "2"], "line_id": ["1", "1"], "user_id": ["ann", "bob"], "item_id": ["tea", "tea"],
        ...     "quantity": [1.0, 2.0], "occurred_at": pd.to_datetime(["2026-01-01", "2026-03-09"], utc=True)}))
        >>> churn = config.Propensity(event="no order", horizon_days=30)
        >>> label(shop, datetime(2026, 2, 1, tzinfo=UTC), churn).execute().to_dict("records")
        [{'user_id': 'ann', 'label': 1}]
    """
    start = cutoff_literal(cutoff)
    end = cutoff + timedelta(days=declaration.horizon_days)
    covered = span(tables)
    if end > covered.end:
        raise DataError(
            f"label {declaration.event!r}: {declaration.horizon_days} days from {cutoff:%Y-%m-%d} "
            f"end on {end:%Y-%m-%d}, but the data end on {covered.end:%Y-%m-%d}. "
            "Choose an earlier cutoff or a shorter horizon."
        )
    stop = cutoff_literal(end)
    did, value = _outcome(tables.as_of(FOREVER), declaration.event)
    did = did.filter(~did.user_id.isnull(), did["at"] >= start, did["at"] < stop)
    told = did.group_by(who="user_id").agg(label=value(did))
    people = known_people(tables, cutoff)
    joined = people.left_join(told, people.user_id == told.who)
    absent = 1 if declaration.event == "no order" else 0
    kind = "float64" if declaration.event == "spend" else "int64"
    return joined.select("user_id", label=joined.label.fill_null(absent).cast(kind))


def _outcome(future: Tables, event: str) -> tuple[ir.Table, Callable[[ir.Table], ir.Value]]:
    """The rows (`user_id, at`, ...) that decide a label, and its value for a person who has some."""
    if event == "click":
        if not future.has("messages", "clicked_at"):
            raise DataError("label 'click' needs messages.clicked_at, which this shop did not bring.")
        messages = future["messages"]
        return messages.select("user_id", at="clicked_at"), lambda _: ibis.literal(1)
    bought = purchases(future).filter(lambda t: t.quantity > 0)
    if event == "no order":
        return bought, lambda _: ibis.literal(0)
    if event == "order":
        return bought, lambda _: ibis.literal(1)
    if event == "spend":
        if not future.has("orders", "unit_price"):
            raise DataError("label 'spend' needs orders.unit_price, which this shop did not bring.")
        return bought, lambda rows: total(rows.money)
    if event.startswith(IN_CATEGORY):
        if not future.has("items", "category"):
            raise DataError(f"label {event!r} needs items.category, which this shop did not bring.")
        category = event.removeprefix(IN_CATEGORY)
        return with_category(bought, future).filter(lambda t: t.category == category), lambda _: ibis.literal(1)
    raise WorkspaceError(
        f"propensity event {event!r} is not 'no order', 'order', 'order in CATEGORY', 'click' or 'spend'."
    )
