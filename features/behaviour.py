"""Behaviour: what a customer looked at, how often, for how long, and what still lies in the cart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ibis
from ibis.expr import types as ir

from data.tables import Tables
from features.definitions import SECONDS_PER_DAY, Feature, Group, Moment, epoch_seconds, exact, share, slugs, total
from features.purchases import purchases, with_category

WINDOWS_DAYS = (1, 7, 30, 90)
HISTORY_DAYS = 90
CART_DAYS = 30
EVENTS = (
    "page_viewed", "product_viewed", "products_searched", "product_added", "product_removed",
    "product_added_to_wishlist", "checkout_started", "order_completed", "product_reviewed", "form_submitted",
)  # fmt: skip
"""Event types with counts of their own; `events_7d` and its like count every type, known or not."""


def groups(known: Tables, at: Moment, categories: Sequence[str]) -> Iterator[Group]:
    """The groups of this family, over tables as they were known at the cutoff."""
    events = known["events"]
    yield Group("events", events, tuple(_activity(events, at)), whole=True)
    recent = events.filter(at.within(events.occurred_at, HISTORY_DAYS))
    sessions = _sessions(recent)
    yield Group("events", sessions, tuple(_visits(sessions, at)))
    tastes = _tastes(recent, known)
    yield Group("events", tastes, tuple(_interests(tastes, categories)))
    returns = _returns(recent, known, at)
    yield Group("events", returns, tuple(_persistence(returns)))
    touched = recent.filter(~recent.item_id.isnull()).group_by("user_id", "item_id").agg(events=lambda t: t.count())
    yield Group("events", touched, tuple(_breadth(touched)))
    brands = _brands(touched, known)
    yield Group("events", brands, tuple(_loyalty(brands)))
    cart = _open_cart(known, at)
    yield Group("events", cart, tuple(_cart(cart, at)))


def _activity(events: ir.Table, at: Moment) -> Iterator[Feature]:
    when = events.occurred_at
    yield Feature("days_since_event", "since anything was last done", "days", at.days_since(when.max()), steady=True)
    yield Feature("days_since_first_event", "since anything was first done", "days", at.days_since(when.min()))
    for days in WINDOWS_DAYS:
        yield Feature(
            f"events_{days}d",
            f"events of any type in the last {days} days",
            "events",
            events.count(where=at.within(when, days)),
            empty=0,
        )
    for event in EVENTS:
        for days in WINDOWS_DAYS:
            happened = (events.event == event) & at.within(when, days)
            yield Feature(
                f"{event}_{days}d",
                f"{event} in the last {days} days",
                "events",
                events.count(where=happened),
                empty=0,
            )
    for days in WINDOWS_DAYS:
        yield Feature(
            f"dwell_{days}d",
            f"time spent in the last {days} days",
            "seconds",
            total(events.dwell_seconds, where=at.within(when, days)),
            needs=("events.dwell_seconds",),
            empty=0,
        )
    newer = events.count(where=at.within(when, 30)).cast("float64")
    older = events.count(where=at.within(when, 90) & ~at.within(when, 30)).cast("float64")
    yield Feature(
        "events_trend",
        "events a month in the last 30 days against the 60 before, each plus one: 1 = steady",
        "ratio",
        (newer + 1) / (older / 2 + 1),
    )


def _sessions(recent: ir.Table) -> ir.Table:
    """One row per customer and session: a session counts in a window if its last event does."""
    visits = recent.filter(~recent.session_id.isnull())
    return visits.group_by("user_id", "session_id").agg(
        last=visits.occurred_at.max(),
        seconds=epoch_seconds(visits.occurred_at.max()) - epoch_seconds(visits.occurred_at.min()),
        events=visits.count(),
    )


def _visits(sessions: ir.Table, at: Moment) -> Iterator[Feature]:
    needs = ("events.session_id",)
    for days in WINDOWS_DAYS:
        yield Feature(
            f"sessions_{days}d",
            f"sessions in the last {days} days",
            "sessions",
            sessions.count(where=at.within(sessions["last"], days)),
            needs=needs,
            empty=0,
            steady=days == HISTORY_DAYS,
        )
    yield Feature(
        "session_seconds_90d",
        "from the first to the last event of a session, mean of 90 days",
        "seconds",
        share(sessions.seconds.sum(), sessions.count()),
        needs=needs,
    )
    yield Feature(
        "session_events_90d",
        "events a session, mean of 90 days",
        "events",
        share(sessions.events.sum(), sessions.count()),
        needs=needs,
    )


def _with_known_category(recent: ir.Table, known: Tables) -> ir.Table:
    rows = with_category(recent.select("user_id", "occurred_at", "item_id", "category"), known)
    return rows.filter(~rows.category.isnull())


def _tastes(recent: ir.Table, known: Tables) -> ir.Table:
    """One row per customer and category of the last 90 days: events."""
    rows = _with_known_category(recent, known)
    return rows.group_by("user_id", "category").agg(events=rows.count())


def _returns(recent: ir.Table, known: Tables, at: Moment) -> ir.Table:
    """One row per customer and category: on how many of the last 30 days it was touched."""
    rows = _with_known_category(recent.filter(at.within(recent.occurred_at, 30)), known)
    age_seconds = epoch_seconds(at.cutoff) - epoch_seconds(rows.occurred_at)
    days = rows.select("user_id", "category", days_ago=(age_seconds / SECONDS_PER_DAY).floor().cast("int64")).distinct()
    return days.group_by("user_id", "category").agg(days=days.count(where=days.days_ago < 30))


def _interests(tastes: ir.Table, categories: Sequence[str]) -> Iterator[Feature]:
    needs = ("events.category|items.category",)
    events = tastes.events.sum()
    yield Feature("categories_90d", "categories touched in 90 days", "categories", tastes.count(), needs=needs, empty=0)
    yield Feature(
        "category_top_share_90d",
        "share of the favourite category in 90 days",
        "share",
        share(tastes.events.max(), events),
        needs=needs,
    )
    for category, slug in slugs(categories).items():
        yield Feature(
            f"events_share_{slug}_90d",
            f"share of {category!r} in the events of 90 days",
            "share",
            share(tastes.events.sum(where=tastes.category == category).fill_null(0), events),
            needs=needs,
        )


def _persistence(returns: ir.Table) -> Iterator[Feature]:
    yield Feature(
        "category_repeat_days_30d",
        "days of the last 30 on which the most revisited category was touched",
        "days",
        returns.days.max(),
        needs=("events.category|items.category",),
        empty=0,
    )


def _breadth(touched: ir.Table) -> Iterator[Feature]:
    needs = ("events.item_id",)
    yield Feature("items_90d", "distinct items touched in 90 days", "items", touched.count(), needs=needs, empty=0)
    yield Feature(
        "items_repeated_90d",
        "items touched more than once in 90 days",
        "items",
        touched.count(where=touched.events > 1),
        needs=needs,
        empty=0,
    )


def _brands(touched: ir.Table, known: Tables) -> ir.Table:
    """One row per customer and brand of the last 90 days."""
    items = known["items"].filter(lambda t: ~t.brand.isnull()).select(brand_of="item_id", brand="brand")
    joined = touched.inner_join(items, touched.item_id == items.brand_of)
    return joined.group_by("user_id", "brand").agg(events=joined.events.sum())


def _loyalty(brands: ir.Table) -> Iterator[Feature]:
    needs = ("events.item_id", "items.brand")
    yield Feature("brands_90d", "brands touched in 90 days", "brands", brands.count(), needs=needs, empty=0)
    yield Feature(
        "brand_top_share_90d",
        "share of the favourite brand in 90 days",
        "share",
        share(brands.events.max(), brands.events.sum()),
        needs=needs,
    )


def _open_cart(known: Tables, at: Moment) -> ir.Table:
    """One row per customer and item in the cart: added in the last 30 days, not removed or followed by an order."""
    events = known["events"]
    moves = events.filter(
        events.event.isin(["product_added", "product_removed"]),
        ~events.item_id.isnull(),
        at.within(events.occurred_at, CART_DAYS),
    )
    added = moves.event == "product_added"
    items = moves.group_by("user_id", "item_id").agg(
        added_at=moves.occurred_at.max(where=added),
        removed_at=moves.occurred_at.max(where=~added),
        value=exact(moves.value).max(where=added),
    )
    bought = purchases(known)
    bought = bought.filter(bought.quantity > 0, at.within(bought["at"], CART_DAYS))
    last = bought.group_by(buyer="user_id").agg(ordered_at=bought["at"].max())
    cart = items.left_join(last, items.user_id == last.buyer)
    cart = cart.filter(
        ~cart.added_at.isnull(),
        cart.removed_at.isnull() | (cart.removed_at < cart.added_at),
        cart.ordered_at.isnull() | (cart.ordered_at < cart.added_at),
    ).select("user_id", "item_id", "added_at", "value")
    if not known.has("items", "price"):
        return cart
    prices = known["items"].select(price_of="item_id", price="price")
    priced = cart.left_join(prices, cart.item_id == prices.price_of)
    return priced.select("user_id", "item_id", "added_at", value=ibis.coalesce(priced.value, exact(priced.price)))


def _cart(cart: ir.Table, at: Moment) -> Iterator[Feature]:
    needs = ("events.item_id",)
    yield Feature("cart_items", "items in the open cart", "items", cart.count(), needs=needs, empty=0)
    yield Feature(
        "cart_value",
        "what the items in the open cart cost",
        "money",
        cart.value.sum().cast("float64"),
        needs=(*needs, "events.value|items.price"),
        empty=0,
    )
    yield Feature(
        "cart_age_days",
        "since the last item was put into the open cart",
        "days",
        at.days_since(cart.added_at.max()),
        needs=needs,
    )
