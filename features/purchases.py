"""What was bought: order lines, or the purchases that a shop without orders tells in its events."""

from __future__ import annotations

import ibis
from ibis.expr import types as ir

from data.tables import Tables, unused
from features.definitions import epoch_seconds


def purchases(tables: Tables) -> ir.Table:
    """Order lines: `user_id, order_id, item_id, at, quantity, money, discount`; returns have negative quantity.

    `money` is what the line cost after its discount. A shop that brought no `orders` has its `order_completed`
    events read as lines of one piece without money; those of one person or visitor in one second are one order.
    """
    if "orders" in tables.brought:
        lines = tables["orders"]
        discount = lines.discount.fill_null(0.0)
        return lines.select(
            "user_id",
            "order_id",
            "item_id",
            "quantity",
            at=lines.occurred_at,
            money=lines.quantity * lines.unit_price - discount,
            discount=discount,
        )
    events = tables["events"]
    bought = events.filter(events.event == "order_completed")
    second = epoch_seconds(bought.occurred_at).cast("string")
    if tables.has("events", "anonymous_id"):  # guests who buy in one second are not one guest
        visitor = bought.user_id.isnull().ifelse(bought.anonymous_id, "").fill_null("")
        second = second + visitor
    return bought.select(
        "user_id",
        "item_id",
        order_id=second,
        quantity=ibis.literal(1.0),
        at=bought.occurred_at,
        money=ibis.null("float64"),
        discount=ibis.null("float64"),
    )


def purchase_table(tables: Tables) -> str:
    """The table that `purchases` reads."""
    return "events" if "events" in tables.brought and "orders" not in tables.brought else "orders"


def with_category(rows: ir.Table, tables: Tables) -> ir.Table:
    """`rows` with a `category`: their own where they tell one, else their item's."""
    own = rows.category if "category" in rows.columns else ibis.null("string")
    if not tables.has("items", "category"):
        return rows.mutate(category=own)
    item, category = unused("category_of", rows), unused("item_category", rows)
    items = tables["items"].select(**{item: "item_id", category: "category"})
    joined = rows.left_join(items, rows.item_id == items[item])
    known = ibis.coalesce(joined.category, joined[category]) if "category" in rows.columns else joined[category]
    own_columns = [name for name in rows.columns if name != "category"]
    # `drop` of two would write the columns in an order that changes by process.
    return joined.select(*own_columns, category=known)
