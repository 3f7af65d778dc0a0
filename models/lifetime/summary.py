"""What the lifetime models know of a customer: how often, how lately and since when they bought, and for how much."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Self

import numpy as np
import pandas as pd

from data.errors import DataError

DAYS_PER_WEEK = 7.0
MONEY = "amount"
LAST_DATE = 99_991_231
"""Numbers up to this one are dates as they are written, greater ones seconds since 1970."""


@dataclass(frozen=True, eq=False)
class Summary:
    """A row per customer who bought before the cutoff. Purchases of one day are one purchase.

    Attributes:
        customers: Their ids, sorted, shape (n,).
        frequency: x, the number of purchases after the first, float64 of shape (n,).
        recency_weeks: t_x, from the first purchase to the last one; 0 for who bought once.
        age_weeks: T, from the first purchase to the last day before the cutoff.
        mean_spend: Of the purchases after the first; NaN for who bought once, and where there is no money.
        first_spend: Of the first purchase; NaN where there is no money.
    """

    customers: np.ndarray
    frequency: np.ndarray
    recency_weeks: np.ndarray
    age_weeks: np.ndarray
    mean_spend: np.ndarray
    first_spend: np.ndarray

    def __len__(self) -> int:
        return len(self.customers)

    @property
    def habits(self) -> np.ndarray:
        """x, t_x and T, shape (n, 3)."""
        return np.column_stack([self.frequency, self.recency_weeks, self.age_weeks])

    def take(self, rows: np.ndarray) -> Self:
        """The rows of a mask, a slice or positions."""
        return type(self)(
            self.customers[rows],
            self.frequency[rows],
            self.recency_weeks[rows],
            self.age_weeks[rows],
            self.mean_spend[rows],
            self.first_spend[rows],
        )


@dataclass(frozen=True, eq=False)
class Outcome:
    """What customers then did, a row per customer.

    Attributes:
        purchases: Days on which they bought, float64 of shape (n,).
        spend: What these cost together; NaN where there is no money.
    """

    purchases: np.ndarray
    spend: np.ndarray


def summarise(purchases: pd.DataFrame, *, until: date) -> Summary:
    """Everybody who bought before a cutoff, from their purchases before it.

    The words and symbols are those of Fader, Hardie and Lee (2005), "Counting your customers the easy way".

    Args:
        purchases: A row per purchase or line of one: `customer`, `date` (a date, a time, or a number like 19970131),
            and `amount` where there is money.
        until: The cutoff; what happened on this day or later is left out.

    Raises:
        DataError: a column, a date or an amount that cannot be used, or nobody bought before the cutoff.

    Example:
        >>> bought = pd.DataFrame({"customer": ["ann", "ann", "bob"], "amount": [10.0, 30.0, 5.0],
        ...     "date": ["2026-01-01", "2026-01-15", "2026-01-08"]})
        >>> told = summarise(bought, until=date(2026, 1, 30))
        >>> told.frequency, told.recency_weeks, told.age_weeks, told.mean_spend
        (array([1., 0.]), array([2., 0.]), array([4., 3.]), array([30., nan]))
    """
    cutoff = _day(until)
    daily = by_day(purchases)
    daily = daily[daily["date"] < cutoff]
    if daily.empty:
        raise DataError(f"nobody bought before {cutoff:%Y-%m-%d}. Choose a later cutoff, or bring older purchases.")
    grouped = daily.groupby("customer", sort=True)
    first, last = grouped["date"].min(), grouped["date"].max()
    frequency = grouped.size().to_numpy(np.float64) - 1
    # `by_day` is sorted, so the first row of each customer is their first purchase.
    first_spend = grouped[MONEY].nth(0).to_numpy(np.float64)
    repeated = grouped[MONEY].sum().to_numpy() - first_spend
    last_day = cutoff - pd.Timedelta(days=1)
    return Summary(
        customers=first.index.to_numpy(),
        frequency=frequency,
        recency_weeks=_weeks(last - first),
        age_weeks=_weeks(last_day - first),
        mean_spend=np.divide(repeated, frequency, out=np.full(len(first), np.nan), where=frequency > 0),
        first_spend=first_spend,
    )


TOLD_BY = (
    "orders_life",
    "days_since_order",
    "days_since_first_order",
    "order_value_mean",
    "order_value_first",
    "return_share",
)
"""Features of a snapshot that a summary is read from."""


def from_features(features: pd.DataFrame) -> Summary:
    """The summary of customers from their rows of a snapshot; there a purchase is an order.

    Of its money the share is taken off that the person sends back of what they buy. Orders without a price count as the
    mean of their others. Customers are numbered by their rows.

    Args:
        features: `TOLD_BY`, of people who ordered before.

    Raises:
        DataError: a feature that is not there, or somebody who never ordered.

    Example:
        >>> told = from_features(pd.DataFrame({"orders_life": [2, 1], "days_since_order": [14.0, 21.0],
        ...     "days_since_first_order": [28.0, 21.0], "order_value_mean": [20.0, 5.0],
        ...     "order_value_first": [10.0, 5.0], "return_share": [0.0, None]}))
        >>> told.frequency, told.recency_weeks, told.age_weeks, told.mean_spend
        (array([1., 0.]), array([2., 0.]), array([4., 3.]), array([30., nan]))
    """
    if lacking := [name for name in TOLD_BY if name not in features]:
        raise DataError(f"the feature {lacking[0]!r} is not there; it takes orders with orders.unit_price to tell it.")
    orders, since, age, mean, first, returned = (
        features[name].to_numpy(np.float64, na_value=np.nan) for name in TOLD_BY
    )
    if not (orders >= 1).all():
        raise DataError(f"row {int((~(orders >= 1)).argmax())} never ordered; a lifetime begins with the first order.")
    # Whole days, so that customers with the same row fall together.
    since, age = np.round(since), np.round(age)
    frequency = orders - 1
    first, kept = np.where(np.isnan(first), mean, first), 1 - np.clip(np.nan_to_num(returned), 0, 1)
    mean, first = mean * kept, first * kept
    repeated = np.maximum(mean * orders - first, 0)
    return Summary(
        customers=np.arange(len(features)),
        frequency=frequency,
        recency_weeks=(age - since) / DAYS_PER_WEEK,
        age_weeks=age / DAYS_PER_WEEK,
        mean_spend=np.divide(repeated, frequency, out=np.full(len(features), np.nan), where=frequency > 0),
        first_spend=first,
    )


def outcome(purchases: pd.DataFrame, customers: np.ndarray, *, start: date, until: date) -> Outcome:
    """What each of these customers bought in `[start, until)`; nothing is 0.

    Raises:
        DataError: as `summarise`, but nobody need have bought.

    Example:
        >>> bought = pd.DataFrame({"customer": "ann", "date": ["2026-01-01", "2026-01-15"], "amount": [1.0, 3.0]})
        >>> outcome(bought, np.array(["ann", "bob"]), start=date(2026, 1, 2), until=date(2026, 2, 1)).spend
        array([3., 0.])
    """
    daily = by_day(purchases)
    daily = daily[(daily["date"] >= _day(start)) & (daily["date"] < _day(until))]
    told = daily.groupby("customer")[MONEY].agg(["size", lambda amounts: amounts.sum(skipna=False)])
    told = told.reindex(customers, fill_value=0)
    spend = told.iloc[:, 1].to_numpy(np.float64)
    return Outcome(told["size"].to_numpy(np.float64), spend if MONEY in purchases else np.full(len(spend), np.nan))


def by_day(purchases: pd.DataFrame) -> pd.DataFrame:
    """One row per customer and day, sorted by both: `customer, date, amount` (NaN where there is no money).

    Raises:
        DataError: a column is missing, a customer or date cannot be read, or an amount is negative or no number.
    """
    for name in ("customer", "date"):
        if name not in purchases:
            raise DataError(
                f"purchases have no column {name!r} (there are {', '.join(map(str, purchases.columns))}). "
                "Give customer, date and, where there is money, amount."
            )
    if purchases["customer"].isna().any():
        where = int(purchases["customer"].isna().to_numpy().argmax())
        raise DataError(f"purchases.customer is missing at row {where}. Leave guests out: they have no lifetime.")
    days = _days(purchases["date"])
    amounts = _amounts(purchases[MONEY]) if MONEY in purchases else np.full(len(purchases), np.nan)
    lines = pd.DataFrame({"customer": purchases["customer"].to_numpy(), "date": days, MONEY: amounts})
    return lines.groupby(["customer", "date"], sort=True, as_index=False)[MONEY].sum(min_count=1)


def _days(dates: pd.Series) -> np.ndarray:
    """Midnights without a zone, UTC for times that have one."""
    if pd.api.types.is_numeric_dtype(dates):
        number = dates.astype(np.float64)
        if number.min() > LAST_DATE:
            read = pd.to_datetime(number, unit="s", errors="coerce")
        else:
            read = pd.to_datetime(number.map("{:.0f}".format), format="%Y%m%d", errors="coerce")
    elif pd.api.types.is_datetime64_any_dtype(dates):
        read = dates
    else:
        read = pd.to_datetime(dates, errors="coerce", utc=True, format="ISO8601")
    if read.isna().any():
        where = int(read.isna().to_numpy().argmax())
        raise DataError(
            f"purchases.date: {int(read.isna().sum())} rows are no date (first: '{dates.iloc[where]}' at row {where}). "
            "Give dates like 2026-01-31 or 20260131, or seconds since 1970."
        )
    naive = read.dt.tz_convert("UTC").dt.tz_localize(None) if read.dt.tz is not None else read
    return naive.dt.floor("D").astype("datetime64[s]").to_numpy()


def _amounts(amounts: pd.Series) -> np.ndarray:
    numbers = pd.to_numeric(amounts, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = ~(np.isfinite(numbers) & (numbers >= 0))
    if wrong.any():
        where = int(wrong.argmax())
        raise DataError(
            f"purchases.amount: {int(wrong.sum())} rows are negative or no number (first: {amounts.iloc[where]} at row "
            f"{where}). Leave returns out, or take them off the purchase that they belong to."
        )
    return numbers


def _weeks(spans: pd.Series) -> np.ndarray:
    weeks: np.ndarray = spans.dt.days.to_numpy(np.float64) / DAYS_PER_WEEK
    return weeks


def _day(day: date) -> pd.Timestamp:
    """Midnight of a day; of a time in a zone, its day in UTC."""
    stamp = pd.Timestamp(day)
    naive = stamp.tz_convert("UTC").tz_localize(None) if isinstance(day, datetime) and stamp.tz is not None else stamp
    return naive.floor("D")
