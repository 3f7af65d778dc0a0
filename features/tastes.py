"""Tastes: what a customer leans to, whenever they came: categories, prices and hours of their day.

Steady traits rather than the last weeks' doings: all that is known of a person counts. Everything is shrunk towards
somebody of whom nothing is known, so that a few events do not shout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ibis
from ibis.expr import types as ir

from data.tables import Tables
from features.definitions import Feature, Group, exact, slugs
from features.purchases import with_category

PRIOR_EVENTS = 20
"""As if so many events more had been seen: spread evenly over categories, at the middle of prices and hours."""
HOURS_PER_DAY = 24
DAYPARTS = {"night": (0, 6), "morning": (6, 10), "day": (10, 16), "evening": (16, 24)}
"""In UTC, as `best_hour` is: where somebody lives is a feature beside it."""


def groups(known: Tables, categories: Sequence[str]) -> Iterator[Group]:
    """The groups of this family, over tables as they were known at the cutoff."""
    events = known["events"]
    about = with_category(events.select("user_id", "item_id", "category"), known)
    about = about.filter(about.category.isin(list(categories) or [""]))
    yield Group("events", about, tuple(_leanings(about, categories)))
    priced = _priced(known)
    yield Group("events", priced, tuple(_prices(priced)))
    yield Group("events", events, tuple(_dayparts(events)))


def _leanings(about: ir.Table, categories: Sequence[str]) -> Iterator[Feature]:
    prior = PRIOR_EVENTS / max(len(categories), 1)
    everything = about.count().cast("float64") + PRIOR_EVENTS
    for category, slug in slugs(categories).items():
        yield Feature(
            f"leaning_{slug}",
            f"share of {category!r} in the events ever about these categories, shrunk towards an even share by "
            f"{PRIOR_EVENTS} events",
            "share",
            (about.count(where=about.category == category).cast("float64") + prior) / everything,
            needs=("events.category|items.category",),
            steady=True,
        )


def _priced(known: Tables) -> ir.Table:
    """One row per event about an item with a price: the log of it over the median item's, and its category's."""
    items = known["items"].filter(lambda t: t.price > 0)
    of_all = items.aggregate(middle=items.price.median())
    of_category = items.group_by(named="category").agg(category_middle=items.price.median())
    prices = items.cross_join(of_all)
    prices = prices.left_join(of_category, prices.category == of_category.named)
    prices = prices.select(
        priced_item="item_id",
        dear=exact((prices.price / prices.middle).ln()),
        dear_within=exact((prices.price / ibis.coalesce(prices.category_middle, prices.middle)).ln()),
    )
    events = known["events"].select("user_id", "item_id")
    return events.inner_join(prices, events.item_id == prices.priced_item)


def _prices(priced: ir.Table) -> Iterator[Feature]:
    seen = priced.count().cast("float64") + PRIOR_EVENTS
    for name, column, against in (
        ("price_level", priced.dear, "the median item's"),
        ("price_level_within", priced.dear_within, "the median of its category"),
    ):
        yield Feature(
            name,
            f"log of the price of items touched ever over {against}, mean, shrunk towards 0 by {PRIOR_EVENTS} events",
            "log ratio",
            column.sum().cast("float64") / seen,
            needs=("events.item_id", "items.price"),
            steady=True,
        )


def _dayparts(events: ir.Table) -> Iterator[Feature]:
    everything = events.count().cast("float64") + PRIOR_EVENTS
    hour = events.occurred_at.hour()
    for part, (begin, end) in DAYPARTS.items():
        inside = events.count(where=(hour >= begin) & (hour < end)).cast("float64")
        yield Feature(
            f"{part}_share",
            f"events ever from {begin} to {end} o'clock UTC, shrunk towards an even share of hours by "
            f"{PRIOR_EVENTS} events",
            "share",
            (inside + PRIOR_EVENTS * (end - begin) / HOURS_PER_DAY) / everything,
            steady=True,
        )
