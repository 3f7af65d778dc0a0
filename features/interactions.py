"""Interactions: who touched which item, how strongly and when, from events and order lines before a cutoff."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import ibis
import numpy as np
import pyarrow as pa
from ibis.expr import types as ir

from data import settings as config
from data.errors import DataError
from data.interactions import Interactions
from data.tables import Tables, cutoff_literal
from data.vocabulary import Vocabulary
from features.definitions import SECONDS_PER_DAY, epoch_seconds, exact
from features.items import for_sale, item_attributes
from features.purchases import purchases
from features.snapshots import compiled

ORDER = "order"
GUEST = "guest:"
BATCH_ROWS = 500_000


def interactions(
    tables: Tables,
    settings: config.Recommender,
    *,
    cutoff: datetime,
    items: Vocabulary | None = None,
    guests: bool = False,
    catalogue: bool = False,
) -> Interactions:
    """What known people did with items before the cutoff, weighted by kind and age.

    An event or order line weighs `settings.event_weights[kind] * 2 ** (-age_days / half_life_days)`; kinds without a
    weight do not count. A person whose returns of an item reach what they bought of it leaves no purchase of it. Items
    that are not available any more stay in: what people did with them still says what they like, and serving filters.

    Args:
        tables: All that is known; what is not known before the cutoff is left out here.
        settings: Weights and half-life.
        cutoff: With its time zone.
        items: Only these items, in this order of codes; by default those found, sorted.
        guests: Orders of guests instead of known people: each order is a row of its own, `guest:ORDER_ID`.
        catalogue: With the attributes of the items, and (unless `items` says which) with the items for sale that
            nobody touched yet, so that a model can recommend them from their first day.

    Raises:
        DataError: no interaction is left, or a naive cutoff.

    Example:
        >>> import pandas as pd
        >>> shop = Tables.from_frames(events=pd.DataFrame({
        ...     "event_id": ["1", "2"], "user_id": ["ann", "ann"], "event": ["product_viewed", "product_added"],
        ...     "item_id": ["tea", "cup"], "occurred_at": pd.to_datetime(["2026-01-01", "2026-01-02"], utc=True)}))
        >>> daily = config.Recommender(half_life_days=1)
        >>> found = interactions(shop, daily, cutoff=pd.Timestamp("2026-01-03", tz="UTC"))
        >>> found.items.ids(found.item), found.weight.tolist()
        (['tea', 'cup'], [0.25, 1.5])
    """
    if not {"events", "orders"} & set(tables.brought):
        raise DataError("There is no table of events or orders, so nobody touched an item: bring one of them.")
    known = tables.as_of(cutoff)
    parts = [_bought(known, settings, guests=guests)]
    if not guests and "events" in tables.brought:
        parts.append(_did(known, settings))
    rows = parts[0] if len(parts) == 1 else parts[0].union(parts[1])
    age_days = (epoch_seconds(cutoff_literal(cutoff)) - rows["at"]) / SECONDS_PER_DAY
    rows = rows.mutate(weight=(rows.weight * (age_days * (-np.log(2) / settings.half_life_days)).exp()).cast("float32"))
    untouched = for_sale(tables, cutoff=cutoff) if catalogue and items is None else []
    found = _coded(rows.filter(rows.weight > 0), tables, items, untouched)
    if not len(found):
        raise DataError(
            f"There are no interactions before {cutoff:%Y-%m-%d}: no event named in recommender.event_weights "
            f"and no order has a person and an item. Bring events.item_id or orders, or choose a later cutoff."
        )
    if not catalogue:
        return found
    return replace(found, attributes=item_attributes(tables, cutoff=cutoff, items=found.items, settings=settings))


def _did(known: Tables, settings: config.Recommender) -> ir.Table:
    """Weighted events on items; purchases are told by `_bought`."""
    events = known["events"]
    weights = {kind: weight for kind, weight in settings.event_weights.items() if kind != ORDER and weight > 0}
    if "order_completed" in weights:
        raise DataError("recommender.event_weights: call a purchase 'order', not 'order_completed'.")
    kept = events.filter(~events.user_id.isnull(), ~events.item_id.isnull(), events.event.isin(list(weights)))
    weight = kept.event.cases(*weights.items(), else_=0.0).cast("float64") if weights else ibis.literal(0.0)
    return kept.select("user_id", "item_id", at=epoch_seconds(kept.occurred_at), weight=weight, kind=kept.event)


def _bought(known: Tables, settings: config.Recommender, *, guests: bool) -> ir.Table:
    """Order lines with the order's weight, without those that were sent back."""
    lines = purchases(known)
    if guests:
        lines = lines.filter(lines.user_id.isnull()).mutate(user_id=ibis.literal(GUEST) + lines.order_id)
    lines = lines.filter(~lines.user_id.isnull(), ~lines.item_id.isnull())
    kept_pieces = exact(lines.quantity).sum().over(ibis.window(group_by=["user_id", "item_id"]))
    lines = lines.mutate(kept_pieces=kept_pieces)
    lines = lines.filter(lines.quantity > 0, lines.kept_pieces > 0)
    weight = ibis.literal(float(settings.event_weights.get(ORDER, 0)))
    return lines.select("user_id", "item_id", at=epoch_seconds(lines["at"]), weight=weight, kind=ibis.literal(ORDER))


def _coded(rows: ir.Table, tables: Tables, items: Vocabulary | None, untouched: list[str]) -> Interactions:
    """Read rows batch by batch, keeping numbers only: ids become codes on the way."""
    users, things, events = _Coder(), _Coder(), _Coder()
    numbers: list[tuple[np.ndarray, ...]] = []
    query = compiled(rows.select("user_id", "item_id", "weight", "at", "kind"), tables)
    for batch in tables.backend.con.sql(query).to_arrow_reader(BATCH_ROWS):
        user_ids, item_ids, weight, at, kind = batch.columns
        coded = users.codes(user_ids), things.codes(item_ids), events.codes(kind)
        numbers.append((*coded, weight.to_numpy(), at.to_numpy()))
    user, item, kind, weight, at = (
        (np.concatenate(column) for column in zip(*numbers, strict=True)) if numbers else _nothing()
    )
    for id_ in untouched:
        things.seen.setdefault(id_, len(things.seen))
    people, new_user = users.sorted()
    found, new_item = things.sorted()
    kinds, new_kind = events.sorted()
    user, item, kind = new_user[user], new_item[item], new_kind[kind]
    if items is not None:
        item = items.codes(found.all_ids).astype(np.int32)[item]
        kept = item >= 0
        user, item, kind, weight, at = (column[kept] for column in (user, item, kind, weight, at))
    order = np.lexsort((weight, kind, item, at, user))
    return Interactions(
        users=people,
        items=found if items is None else items,
        user=user[order],
        item=item[order],
        weight=weight[order],
        at=at[order],
        kind=kind[order].astype(np.int16),
        kinds=tuple(kinds.all_ids),
    )


class _Coder:
    """Gives ids numbers as they come, and in the end their codes in sorted order."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def codes(self, ids: pa.StringArray) -> np.ndarray:
        """Numbers of ids, int32, in the order in which each was first seen."""
        encoded = ids.dictionary_encode()
        numbers = [self.seen.setdefault(id_, len(self.seen)) for id_ in encoded.dictionary.to_pylist()]
        return np.asarray(numbers, dtype=np.int32)[encoded.indices.to_numpy()]

    def sorted(self) -> tuple[Vocabulary, np.ndarray]:
        """The ids in sorted order, and the code of each number, int32."""
        vocabulary = Vocabulary(sorted(self.seen))
        return vocabulary, vocabulary.codes(list(self.seen)).astype(np.int32)


def _nothing() -> tuple[np.ndarray, ...]:
    whole, real, time = np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    return whole, whole, whole, real, time
