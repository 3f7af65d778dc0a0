"""Segments: the lifecycle stage, RFM cells, and the named segments that a workspace's settings write as expressions."""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import numpy as np
import pandas as pd
from ibis.expr import types as ir

from data.errors import WorkspaceError
from features.expressions import Expression, parse

STAGES: tuple[tuple[str, Expression], ...] = tuple(
    (stage, parse(condition, place=f"lifecycle.{stage}"))
    for stage, condition in (
        ("lapsed", "days_since_order >= 180"),
        ("at risk", "days_since_order >= 90"),
        ("returned", "order_gap_last_days >= 180"),
        ("loyal", "orders_365d >= 4"),
        ("active", "orders_life > 1"),
        ("first-time buyer", "orders_life == 1"),
    )
)
"""The stage of a customer is the first whose condition holds."""

NEW = "new"
"""The stage of a customer who has not bought yet."""

CELLS = 5
"""RFM scores run from 1 to 5, the best fifth."""


def segment(features: ir.Table, named: Mapping[str, str]) -> ir.Table:
    """`user_id, lifecycle, rfm_recency, rfm_frequency, rfm_monetary, rfm` and a bool per named segment.

    Args:
        features: A snapshot.
        named: Conditions by name, as `settings.segments` has them.

    Raises:
        WorkspaceError: a condition that cannot be read, or a name that is taken.

    Example:
        >>> features = ibis.memtable(pd.DataFrame({
        ...     "user_id": ["ann", "bob"], "orders_life": [5, 0], "orders_365d": [4, 0],
        ...     "days_since_order": [9.0, None], "order_gap_last_days": [30.0, None], "product_added_7d": [0, 2]}))
        >>> found = segment(features, {"high_intent": "product_added_7d > 0"}).order_by("user_id").execute()
        >>> found[["user_id", "lifecycle", "high_intent"]].values.tolist()
        [['ann', 'loyal', False], ['bob', 'new', True]]
    """
    scores = rfm(features)
    taken = {"user_id", "lifecycle", *scores} & set(named)
    if taken:
        raise WorkspaceError(f"segments: {sorted(taken)} are names of built-in columns; choose others.")
    conditions = {name: condition.where(features) for name, condition in parsed(named).items()}
    return features.select("user_id", lifecycle=lifecycle(features), **scores, **conditions)


def parsed(named: Mapping[str, str]) -> dict[str, Expression]:
    """The named segments, ready to be asked over tables, frames or single rows."""
    return {name: parse(text, place=f"segments.{name}") for name, text in named.items()}


def members(segments: Mapping[str, Expression], frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Who is in each segment, by its name, bool (rows,); without those that ask for what is no column."""
    return {name: one.mask(frame) for name, one in segments.items() if set(one.names) <= set(frame.columns)}


def lifecycle(features: ir.Table) -> ir.StringValue:
    """Each customer's lifecycle stage, over an Ibis table of features."""
    stages = [(condition.where(features), stage) for stage, condition in STAGES]
    return ibis.cases(*stages, else_=NEW)


def lifecycle_of(frame: pd.DataFrame) -> np.ndarray:
    """Each customer's lifecycle stage, for a frame of features: text of shape (rows,).

    Example:
        >>> lifecycle_of(pd.DataFrame({"orders_life": [1, 0], "orders_365d": [1, 0], "days_since_order": [200, None],
        ...     "order_gap_last_days": [None, None]})).tolist()
        ['lapsed', 'new']
    """
    stages = np.full(len(frame), NEW, dtype=object)
    for stage, condition in reversed(STAGES):
        stages[condition.mask(frame)] = stage
    return stages


def rfm(features: ir.Table) -> dict[str, ir.Value]:
    """Scores of recency, frequency and money from 1 to 5 among those who bought, and the cell: '545'.

    Equal values have equal scores. Without money (no `spend_life`) a cell has two digits. (Hughes 1994, with
    percentile ranks instead of cut-off fifths.)
    """
    columns = {"rfm_recency": -features.days_since_order, "rfm_frequency": features.orders_life}
    if "spend_life" in features.columns:
        columns["rfm_monetary"] = features.spend_life
    buyer = features.orders_life > 0
    scores: dict[str, ir.Value] = {}
    for name, value in columns.items():
        rank = ibis.percent_rank().over(ibis.window(group_by=buyer, order_by=value))
        score = ibis.least((rank * CELLS).floor().cast("int64") + 1, CELLS)
        scores[name] = buyer.ifelse(score, ibis.null("int64"))
    cell = ibis.literal("")
    for score in scores.values():
        cell = cell + score.cast("string")
    return {**scores, "rfm": cell}
