"""What a feature is, the rows it is aggregated from, and the moment it is taken at."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import ibis
from ibis.expr import types as ir

from data.tables import Tables

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Moment:
    """The cutoff, and how far other times lie from it.

    Attributes:
        cutoff: A timestamp in UTC; nothing at or after it is known.
    """

    cutoff: ir.TimestampScalar

    def within(self, when: ir.TimestampValue, days: int) -> ir.BooleanValue:
        """Whether `when` lies in the last `days` days: `[cutoff - days, cutoff)` of what is known."""
        return when >= self.cutoff - ibis.interval(days=days)

    def days_since(self, when: ir.TimestampValue) -> ir.FloatingValue:
        """Days from `when` to the cutoff, to the second."""
        return (epoch_seconds(self.cutoff) - epoch_seconds(when)).cast("float64") / SECONDS_PER_DAY


@dataclass(frozen=True, eq=False)
class Feature:
    """One named thing known of a customer.

    Attributes:
        name: Its column.
        about: What it says, for people.
        unit: Of its values: events, orders, days, share, money, ...
        value: An aggregate over one customer's rows (for a group of single rows: a column).
        needs: Tables and columns (`table.column`) the shop must have brought; `a|b` = either.
        empty: Its value for a customer without rows; None = missing.
        steady: Whether it says what somebody is like, or whether and how often they come, rather than what they did
            lately. Offers tell people apart by these alone: few columns leave more to be learnt from few decisions.
    """

    name: str
    about: str
    unit: str
    value: ir.Value
    needs: tuple[str, ...] = ()
    empty: int | None = None
    steady: bool = False

    def lacks(self, tables: Tables) -> tuple[str, ...]:
        """What of its needs the shop did not bring; nothing if the feature can be told."""
        return tuple(n for n in self.needs if not any(tables.has(*either.split(".")) for either in n.split("|")))


@dataclass(frozen=True, eq=False)
class Group:
    """Features that are aggregated together, in one pass over the same rows.

    Attributes:
        table: The table of the contract that the rows come from.
        rows: Rows with a `user_id`.
        features: What is aggregated per `user_id`.
        whole: Every customer in the table has a row here, so the group also says who is known.
        single: There is one row per customer, so nothing is left to aggregate.
    """

    table: str
    rows: ir.Table
    features: tuple[Feature, ...]
    whole: bool = False
    single: bool = False

    def __post_init__(self) -> None:
        """Every feature needs its group's table."""
        needing = (replace(f, needs=tuple(dict.fromkeys((self.table, *f.needs)))) for f in self.features)
        object.__setattr__(self, "features", tuple(needing))

    def told(self, tables: Tables) -> Group:
        """The group with the features that these tables can tell."""
        return self.only(feature.name for feature in self.features if not feature.lacks(tables))

    def only(self, names: Iterable[str]) -> Group:
        """The group with the features of these names."""
        wanted = set(names)
        return replace(self, features=tuple(feature for feature in self.features if feature.name in wanted))

    @property
    def by_user(self) -> ir.Table:
        """One row per customer: `user_id` and the features."""
        values = {feature.name: feature.value for feature in self.features}
        if self.single:
            return self.rows.select("user_id", **values)
        return self.rows.aggregate(by="user_id", **values)


def epoch_seconds(when: ir.TimestampValue) -> ir.IntegerValue:
    """Seconds since 1970 as int64, cut off and not rounded: what is a moment before midnight is not of the next day."""
    return when.epoch_seconds().floor().cast("int64")


def exact(value: ir.NumericValue) -> ir.DecimalValue:
    """Money or seconds as a decimal, so that a sum does not depend on the order of the rows; null if no number."""
    return value.try_cast("decimal(18, 4)")


def total(value: ir.NumericValue, where: ir.BooleanValue | None = None) -> ir.FloatingScalar:
    """The exact sum of `value`, as float64."""
    return exact(value).sum(where=where).cast("float64")


def share(part: ir.NumericValue, whole: ir.NumericValue) -> ir.FloatingValue:
    """`part / whole`, missing where the whole is nothing."""
    return part.cast("float64") / whole.cast("float64").nullif(0)


def slugs(names: Iterable[str]) -> dict[str, str]:
    """A distinct part of a column's name for each name.

    Example:
        >>> slugs(["Home & Garden", "home-garden", "Tea"])
        {'Home & Garden': 'home_garden', 'home-garden': 'home_garden_2', 'Tea': 'tea'}
    """
    found: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"\W+", "_", name.lower()).strip("_") or "other"
        slug, number = stem, 1
        while slug in found.values():
            number += 1
            slug = f"{stem}_{number}"
        found[name] = slug
    return found
