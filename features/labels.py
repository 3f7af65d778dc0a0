"""Labels: what a customer did in the horizon after a cutoff. They read the future, and features never do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import ibis
from ibis.expr import types as ir

from data import settings as config
from data.errors import DataError, WorkspaceError, meant
from data.tables import Tables, cutoff_literal
from features.definitions import total
from features.expressions import Expression, parse
from features.purchases import purchases, with_category
from features.snapshots import known_people, span

FOREVER = datetime(9000, 1, 1, tzinfo=UTC)
SPEND = "spend"
ANSWERS = {"click": "clicked_at", "open": "opened_at", "unsubscribe": "unsubscribed_at"}
"""What people do with a message -> the column of `messages` that says when."""
GRAMMAR = re.compile(r"(?P<no>no )?(?P<what>.+?)(?: where (?P<condition>.+))?", flags=re.DOTALL)
IN_CATEGORY = "order in "


@dataclass(frozen=True)
class Event:
    """A label's `event`, read.

    Attributes:
        text: As written.
        absent: Whether it is asked who does not do it: 'no order'.
        what: 'order', 'return', 'spend', 'click', 'open', 'unsubscribe', or the name of an event.
        category: Of 'order in CATEGORY'.
        condition: Over the columns of the row that says it; None = any row will do.
    """

    text: str
    absent: bool
    what: str
    category: str | None
    condition: Expression | None


def read(event: str, *, place: str = "event") -> Event:
    """Read `[no] EVENT [where CONDITION]`.

    EVENT is 'order', 'order in CATEGORY', 'return' (a line of negative quantity), 'click', 'open' (not by a machine)
    or 'unsubscribe' (of a message), 'spend' (an amount, and so never with 'no'), or the name of an event of the
    `events` table. CONDITION is an expression over the columns of that row, an order line's item's `category` included.

    Raises:
        WorkspaceError: what cannot be read, and where.

    Example:
        >>> read("no order").absent, read("order in Home & Garden").category
        (True, 'Home & Garden')
        >>> asked = read("product_added where category == 'tea' and value > 10")
        >>> asked.what, asked.condition.names
        ('product_added', ('category', 'value'))
    """
    found = GRAMMAR.fullmatch(event.strip())
    if found is None:
        raise WorkspaceError(f"{place} is empty. Write it like 'no order', 'click' or 'product_added'.")
    what, condition = found["what"].strip(), found["condition"]
    category = what.removeprefix(IN_CATEGORY) if what.startswith(IN_CATEGORY) else None
    if found["no"] and what == SPEND:
        raise WorkspaceError(f"{place} {event!r}: 'spend' is an amount. Who spends nothing is 'no order'.")
    return Event(
        text=event,
        absent=bool(found["no"]),
        what="order" if category else what,
        category=category,
        condition=None if condition is None else parse(condition, place=f"{place} {event!r}, after 'where'"),
    )


def label(tables: Tables, cutoff: datetime, declaration: config.Propensity) -> ir.Table:
    """`user_id, label` for everybody known at the cutoff, from what they did in `[cutoff, cutoff + horizon)`.

    `declaration.event` says what (`read` has its grammar): int64, 1 if so, else 0; for 'spend' the money ordered after
    discounts, float64. A return is no order.
    `declaration.population` is an expression over the cutoff's features:
    `expressions.parse(declaration.population).mask(frame)` tells whose labels count.

    Raises:
        DataError: the data end before the horizon does, or lack what the label needs.
        WorkspaceError: an event that cannot be read.

    Example:
        >>> import pandas as pd
        >>> shop = Tables.from_frames(orders=pd.DataFrame({
        ...     "order_id": ["1", "2"], "line_id": ["1", "1"], "user_id": ["ann", "bob"], "item_id": ["tea", "tea"],
        ...     "quantity": [1.0, 2.0], "occurred_at": pd.to_datetime(["2026-01-01", "2026-03-09"], utc=True)}))
        >>> churn = config.Propensity(event="no order", horizon_days=30)
        >>> label(shop, datetime(2026, 2, 1, tzinfo=UTC), churn).execute().to_dict("records")
        [{'user_id': 'ann', 'label': 1}]
    """
    asked = read(declaration.event)
    start = cutoff_literal(cutoff)
    end = cutoff + timedelta(days=declaration.horizon_days)
    covered = span(tables)
    if end > covered.end:
        raise DataError(
            f"label {declaration.event!r}: {declaration.horizon_days} days from {cutoff:%Y-%m-%d} "
            f"end on {end:%Y-%m-%d}, but the data end on {covered.end:%Y-%m-%d}. "
            "Choose an earlier cutoff or a shorter horizon."
        )
    did = _rows(tables.as_of(FOREVER), asked)
    if asked.condition is not None:
        asked.condition.check(_plain(did), called="column to ask about")
        did = did.filter(asked.condition.where(did))
    did = did.filter(~did.user_id.isnull(), did["at"] >= start, did["at"] < cutoff_literal(end))
    people = known_people(tables, cutoff)
    if asked.what == SPEND:
        told = did.group_by(who="user_id").agg(label=total(did.money))
        absent: float = 0.0
    else:
        told = did.select(who="user_id").distinct().mutate(label=ibis.literal(0 if asked.absent else 1))
        absent = 1 if asked.absent else 0
    joined = people.left_join(told, people.user_id == told.who)
    kind = "float64" if asked.what == SPEND else "int64"
    return joined.select("user_id", label=joined.label.fill_null(absent).cast(kind))


def _rows(future: Tables, asked: Event) -> ir.Table:
    """The rows (`user_id, at`, ...) that say that somebody did it, before its condition."""
    if asked.what in ANSWERS:
        return _answers(future, asked, ANSWERS[asked.what])
    if asked.what in ("order", "return", SPEND):
        return _lines(future, asked)
    events = future["events"]
    named = events.filter(events.event == asked.what)
    if not named.limit(1).count().execute():
        names = sorted(events.select("event").distinct().execute()["event"].dropna())
        brought = f"; it brought {', '.join(names[:20]) or 'no events'}."
        raise DataError(
            f"label {asked.text!r} needs events named {asked.what!r}, which this shop did not bring"
            + meant(asked.what, [*names, "order", "return", SPEND, *ANSWERS], brought)
        )
    return named.mutate(at=named.occurred_at)


def _answers(future: Tables, asked: Event, column: str) -> ir.Table:
    _need(future, asked, "messages", column)
    messages = future["messages"]
    if asked.what == "open":  # a machine's open is nobody's
        messages = messages.filter(~messages.machine_opened.fill_null(False))
    return messages.filter(~messages[column].isnull()).mutate(at=messages[column])


def _lines(future: Tables, asked: Event) -> ir.Table:
    """Order lines, or those sent back, with the category of their item where it is known."""
    if asked.what == SPEND:
        _need(future, asked, "orders", "unit_price")
    if asked.what == "return":
        _need(future, asked, "orders", "quantity")
    lines = purchases(future)
    lines = lines.filter(lines.quantity < 0 if asked.what == "return" else lines.quantity > 0)
    if asked.category is None and (asked.condition is None or "category" not in asked.condition.names):
        return lines
    _need(future, asked, "items", "category")
    lines = with_category(lines, future)
    return lines if asked.category is None else lines.filter(lines.category == asked.category)


def _need(future: Tables, asked: Event, table: str, column: str) -> None:
    if not future.has(table, column):
        raise DataError(f"label {asked.text!r} needs {table}.{column}, which this shop did not bring.")


def _plain(rows: ir.Table) -> list[str]:
    """The columns that an expression can read: numbers, text, yes or no."""
    return [
        name
        for name, kind in rows.schema().items()
        if name != "user_id" and (kind.is_string() or kind.is_numeric() or kind.is_boolean())
    ]
