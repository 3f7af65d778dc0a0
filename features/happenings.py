"""What people did, as rows that triggers and goals ask about: events, orders, answers to messages, signing up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import ibis
import numpy as np
import pandas as pd
from ibis.expr import types as ir

from data.errors import DataError
from data.tables import Tables
from features.labels import ANSWERS
from features.purchases import purchases, with_category
from features.segments import lifecycle_of

ORDER, RETURN, SIGNED_UP = "order", "return", "signed_up"
PRICE_DROPPED, BACK_IN_STOCK = "price_dropped", "back_in_stock"
LIFECYCLE_CHANGED = "lifecycle_changed"
ENGAGEMENT = "engagement"
"""Stands for whatever people do themselves: an event, an order, an open, a click."""
NO_ENGAGEMENT = frozenset({RETURN, "unsubscribe", SIGNED_UP, PRICE_DROPPED, BACK_IN_STOCK, LIFECYCLE_CHANGED})
TEXTS = ("item_id", "category", "page", "query", "channel", "campaign_id", "offer_id", "order_id", "stage", "was_stage")
COLUMNS = (*TEXTS, "value", "quantity")
"""What conditions may ask of a row, beside the answers of forms that the settings name."""
HISTORY_DAYS = 400
"""Events and answers are looked at for so long; orders and signing up for ever."""
FOR_EVER = (ORDER, RETURN, SIGNED_UP)
VIEWED_DAYS = 30
"""A change of an item happens to those who looked at it so lately."""
LOOKED = ("product_viewed", "product_added", "product_added_to_wishlist")
RHYTHM = ("orders_life", "orders_365d", "days_since_order", "order_gap_last_days")
"""The features that stages are told by."""
DAY = pd.Timedelta(days=1)


def happenings(known: Tables, cutoff: datetime | ir.TimestampScalar, *, answers: Sequence[str] = ()) -> ir.Table:
    """A row for everything that somebody did: `user_id, event, at`, `COLUMNS` and the answers to forms.

    An `order` is a line of one, its `value` what it cost; a `return` is one sent back; `open`, `click` and
    `unsubscribe` are of messages, opens not by a machine; `signed_up` is told by `users.created_at` too.

    Args:
        known: `tables.as_of(cutoff)`.
        cutoff: When it was known.
        answers: Further columns of events.

    Raises:
        DataError: no table tells anything.

    Example:
        >>> from datetime import UTC
        >>> shop = Tables.from_frames(orders=pd.DataFrame({
        ...     "order_id": ["1"], "line_id": ["1"], "user_id": ["ann"], "item_id": ["tea"], "quantity": [2.0],
        ...     "unit_price": [4.0], "occurred_at": pd.to_datetime(["2026-01-01"], utc=True)}))
        >>> at = datetime(2026, 2, 1, tzinfo=UTC)
        >>> happenings(shop.as_of(at), at).select("user_id", "event", "item_id", "value").execute().to_dict("records")
        [{'user_id': 'ann', 'event': 'order', 'item_id': 'tea', 'value': 8.0}]
    """
    parts = []
    begin = _begin(cutoff)
    if "events" in known.brought:
        events = with_category(known["events"].filter(known["events"].occurred_at >= begin), known)
        parts.append(_plain(events, events.event, events.occurred_at, answers))
    if not known.brought.keys().isdisjoint(("events", "orders")):
        lines = with_category(purchases(known), known)
        kind = (lines.quantity > 0).ifelse(ORDER, RETURN)
        parts.append(_plain(lines.mutate(value=lines.money), kind, lines["at"], answers))
    for event, column in ANSWERS.items():
        if known.has("messages", column):
            told = known["messages"].filter(known["messages"][column] >= begin)
            if event == "open":
                told = told.filter(~told.machine_opened.fill_null(False))
            parts.append(_plain(told, ibis.literal(event), told[column], answers))
    if known.has("users", "created_at"):
        users = known["users"].filter(~known["users"].created_at.isnull())
        parts.append(_plain(users, ibis.literal(SIGNED_UP), users.created_at, answers))
    if not parts:
        raise DataError("no table tells what people did; bring events, orders, or messages with `opened_at`.")
    every = parts[0] if len(parts) == 1 else ibis.union(*parts)
    return every.filter(~every.user_id.isnull())


def item_changes(history: pd.DataFrame) -> pd.DataFrame:
    """Prices that fell and items that came back: `item_id, event, at, value`, the share off where a price fell.

    Args:
        history: `item_id, updated_at, price, available`, several rows an item; one without a time is the oldest.

    Example:
        >>> told = pd.DataFrame({"item_id": ["tea", "tea"], "price": [5.0, 4.0], "available": [True, True],
        ...     "updated_at": pd.to_datetime(["2026-01-01", "2026-02-01"], utc=True)})
        >>> item_changes(told)[["item_id", "event", "value"]].values.tolist()
        [['tea', 'price_dropped', 0.2]]
    """
    rows = history.sort_values(["item_id", "updated_at"], na_position="first", kind="stable", ignore_index=True)
    price = rows["price"].astype(float)
    there = rows["available"].astype("boolean").fillna(True).astype(bool)
    same = rows["item_id"].eq(rows["item_id"].shift())
    off = (1 - price / price.shift().where(price.shift() > 0)).round(6)
    changed = {PRICE_DROPPED: same & (off > 0) & there, BACK_IN_STOCK: same & there & ~there.shift(fill_value=True)}
    found = [
        pd.DataFrame({"item_id": rows["item_id"], "event": event, "at": rows["updated_at"], "value": value})[held]
        for (event, held), value in zip(changed.items(), (off, np.nan), strict=True)
    ]
    return pd.concat(found, ignore_index=True).dropna(subset="at")


def changes_of_viewed(rows: pd.DataFrame, changes: pd.DataFrame) -> pd.DataFrame:
    """What changed of the items that people looked at up to `VIEWED_DAYS` before and did not buy since.

    Args:
        rows: Of `happenings`.
        changes: Of `item_changes`.

    Returns:
        Rows like those of `happenings`.
    """
    looked = rows[rows["event"].isin(LOOKED)]
    looked = looked[looked["item_id"].isin(changes["item_id"])]
    if looked.empty:
        return looked
    both = looked[["user_id", "item_id", "category", "at"]].merge(changes, on="item_id", suffixes=("_looked", ""))
    both = both[(both["at_looked"] < both["at"]) & (both["at"] - both["at_looked"] <= VIEWED_DAYS * DAY)]
    if both.empty:
        return looked.iloc[:0]
    both = both.sort_values("at_looked").drop_duplicates(["user_id", "item_id", "event", "at"], keep="last")
    bought = rows.loc[rows["event"] == ORDER, ["user_id", "item_id", "at"]]
    last = bought.groupby(["user_id", "item_id"], as_index=False).agg(ordered_at=("at", "max"))
    both = both.merge(last, on=["user_id", "item_id"], how="left")
    kept = both[~(both["ordered_at"] > both["at_looked"])]
    return kept.reindex(columns=rows.columns).astype(rows.dtypes.to_dict())


def lifecycle_changes(rows: pd.DataFrame, now: datetime, *, days: int) -> pd.DataFrame:
    """When people came to another lifecycle stage, at midnights of the last `days`: rows like those of `happenings`.

    `stage` is the new one and `was_stage` the one before. A midnight's stage is that of `features.segments`.
    """
    ordered = rows[rows["event"] == ORDER]
    if ordered.empty:
        return ordered
    last = pd.Timestamp(now).floor("D")
    grid = pd.date_range(last - days * DAY, last, freq="D")
    orders = ordered.groupby(["user_id", "order_id"], sort=True)["at"].min().reset_index()
    when, midnights = (at.to_numpy(dtype="datetime64[s]") for at in (orders["at"], grid))
    users, first = np.unique(orders["user_id"].to_numpy(dtype=object), return_index=True)
    parts = [_rhythm_at(np.sort(times), midnights) for times in np.split(when, first[1:])]
    told = pd.DataFrame(np.concatenate(parts, axis=1).T, columns=RHYTHM)
    stage = lifecycle_of(told).reshape(len(users), len(grid))
    person, day = np.nonzero(stage[:, 1:] != stage[:, :-1])
    if not len(person):
        return rows.iloc[:0]
    found = pd.DataFrame({
        "user_id": users[person],
        "event": LIFECYCLE_CHANGED,
        "at": grid[day + 1],
        "stage": stage[person, day + 1],
        "was_stage": stage[person, day],
    })  # fmt: skip
    return found.reindex(columns=rows.columns).astype(rows.dtypes.to_dict())


def _rhythm_at(ordered: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """`RHYTHM` of somebody who ordered at these times, at each moment of a grid: float (4, len(grid))."""
    count = np.searchsorted(ordered, grid)  # orders before each
    newest, before = ordered[np.maximum(count - 1, 0)], ordered[np.maximum(count - 2, 0)]
    year_ago = np.searchsorted(ordered, grid - np.timedelta64(365, "D"))
    day = np.timedelta64(1, "D")
    since = np.where(count > 0, (grid - newest) / day, np.nan)
    return np.stack([count, count - year_ago, since, np.where(count > 1, (newest - before) / day, np.nan)])


def _begin(cutoff: datetime | ir.TimestampScalar) -> ir.TimestampScalar:
    moment = cutoff if isinstance(cutoff, ir.Value) else ibis.literal(pd.Timestamp(cutoff), type="timestamp('UTC')")
    return moment - ibis.interval(days=HISTORY_DAYS)


def _plain(rows: ir.Table, event: ir.Value, at: ir.Value, answers: Sequence[str]) -> ir.Table:
    """The rows with the columns that all have: text, numbers, and answers as text."""
    found = {name: _column(rows, name, "string") for name in (*TEXTS, *answers)}
    numbers = {name: _column(rows, name, "float64") for name in ("value", "quantity")}
    return rows.select("user_id", event=event, at=at, **found, **numbers)


def _column(rows: ir.Table, name: str, kind: str) -> ir.Value:
    return rows[name].cast(kind) if name in rows.columns else ibis.null(kind)
