"""Transactions: how recently, how often and for how much a customer bought, and when the next order is due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ibis
from ibis.expr import types as ir

from data.tables import Tables
from features.definitions import Feature, Group, Moment, epoch_seconds, exact, share, slugs, total
from features.purchases import purchase_table, purchases, with_category

WINDOWS_DAYS = (7, 30, 90, 365)
MONEY = ("orders.unit_price",)
MINUTES_PER_DAY = 1_440


def groups(known: Tables, at: Moment, categories: Sequence[str]) -> Iterator[Group]:
    """The groups of this family, over tables as they were known at the cutoff."""
    table = purchase_table(known)
    lines = purchases(known)
    orders = _orders(lines)
    yield Group(table, orders, tuple(_rhythm(orders, at)))
    yield Group(table, lines, tuple(_lines(lines)), whole=table == "orders")
    sorts = with_category(lines.filter(lines.quantity > 0).drop("discount"), known)
    yield Group(table, sorts, tuple(_categories(sorts, categories)))


def _orders(lines: ir.Table) -> ir.Table:
    """One row per order, with the minutes since the one before (`gap_minutes`) and its number from the first on."""
    bought = lines.filter(lines.quantity > 0, ~lines.user_id.isnull())
    orders = bought.group_by("user_id", "order_id").agg(
        ordered_at=bought["at"].min(), pieces=exact(bought.quantity).sum(), money=exact(bought.money).sum()
    )
    person = ibis.window(group_by="user_id", order_by=["ordered_at", "order_id"])
    gap_seconds = epoch_seconds(orders.ordered_at) - epoch_seconds(orders.ordered_at.lag().over(person))
    return orders.mutate(
        gap_minutes=(gap_seconds / 60).floor().cast("int64"),
        from_first=ibis.row_number().over(person),
        from_last=ibis.row_number().over(
            ibis.window(group_by="user_id", order_by=[ibis.desc("ordered_at"), ibis.desc("order_id")])
        ),
    )


def _rhythm(orders: ir.Table, at: Moment) -> Iterator[Feature]:
    when = orders.ordered_at
    since = at.days_since(when.max())
    yield Feature("days_since_order", "since the last order", "days", since, steady=True)
    yield Feature("days_since_first_order", "since the first order", "days", at.days_since(when.min()))
    yield Feature("orders_life", "orders ever", "orders", orders.count(), empty=0, steady=True)
    for days in WINDOWS_DAYS:
        yield Feature(
            f"orders_{days}d",
            f"orders in the last {days} days",
            "orders",
            orders.count(where=at.within(when, days)),
            empty=0,
        )
    spent = orders.money.sum().cast("float64")
    yield Feature("spend_life", "money ordered ever, after discounts", "money", spent, needs=MONEY, empty=0)
    for days in WINDOWS_DAYS:
        yield Feature(
            f"spend_{days}d",
            f"money ordered in the last {days} days, after discounts",
            "money",
            orders.money.sum(where=at.within(when, days)).cast("float64"),
            needs=MONEY,
            empty=0,
        )
    mean_value = share(spent, orders.money.count())
    yield Feature("order_value_mean", "money an order", "money", mean_value, needs=MONEY, steady=True)
    yield Feature(
        "order_value_first",
        "money of the first order",
        "money",
        orders.money.max(where=orders.from_first == 0).cast("float64"),
        needs=MONEY,
    )
    yield Feature(
        "basket_size_mean",
        "pieces an order",
        "pieces",
        share(orders.pieces.sum().cast("float64"), orders.count()),
    )
    minutes, gaps = orders.gap_minutes.sum().cast("float64"), orders.gap_minutes.count().cast("float64")
    mean = minutes / gaps.nullif(0)
    yield Feature("order_gap_mean_days", "between two orders, mean", "days", mean / MINUTES_PER_DAY)
    squares = (orders.gap_minutes * orders.gap_minutes).sum().cast("float64")
    variance = ibis.greatest(squares - minutes * mean, 0.0) / (gaps - 1).nullif(0)
    yield Feature(
        "order_gap_sd_days", "between two orders, standard deviation", "days", variance.sqrt() / MINUTES_PER_DAY
    )
    yield Feature(
        "order_gap_last_days",
        "between the last two orders",
        "days",
        orders.gap_minutes.max(where=orders.from_last == 0).cast("float64") / MINUTES_PER_DAY,
    )
    yield Feature(
        "order_lateness",
        "days since the last order against the person's own mean gap: above 1 = late",
        "ratio",
        since / (mean / MINUTES_PER_DAY).nullif(0),
    )


def _lines(lines: ir.Table) -> Iterator[Feature]:
    bought, returned = lines.quantity > 0, lines.quantity < 0
    pieces, sent_back = total(lines.quantity, where=bought), total(-lines.quantity, where=returned).fill_null(0)
    needs = ("orders.quantity",)
    yield Feature("returned_pieces_life", "pieces sent back ever", "pieces", sent_back, needs=needs, empty=0)
    yield Feature("return_share", "pieces sent back of those bought", "share", share(sent_back, pieces), needs)
    off = total(lines.discount, where=bought)
    yield Feature(
        "discount_share",
        "money off, of what the orders would have cost",
        "share",
        share(off, total(lines.money, where=bought) + off),
        needs=(*needs, *MONEY, "orders.discount"),
    )
    yield Feature(
        "discounted_lines_share",
        "order lines bought at a discount",
        "share",
        share(lines.count(where=bought & (lines.discount > 0)), lines.count(where=bought)),
        needs=(*needs, "orders.discount"),
    )


def _categories(sorts: ir.Table, categories: Sequence[str]) -> Iterator[Feature]:
    told = sorts.count(where=~sorts.category.isnull())
    for category, slug in slugs(categories).items():
        yield Feature(
            f"orders_share_{slug}",
            f"share of {category!r} in the order lines ever",
            "share",
            share(sorts.count(where=sorts.category == category), told),
            needs=("items.category",),
        )
