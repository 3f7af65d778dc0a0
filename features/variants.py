"""What variants are learnt from: who was shown which, in which situation, and what came of it in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from features.segments import lifecycle_of

CHANNEL = "channel"
OF_PEOPLE = (
    "country", "member_tier", "discount_share", "orders_365d", "order_value_mean", "tenure_days", "best_hour",
    "category_top_share_90d",
)  # fmt: skip
"""Features that a variant may suit or not suit, where a shop has them; beside the lifecycle stage and the channel."""
STAGE_NEEDS = ("orders_life", "orders_365d", "days_since_order", "order_gap_last_days")
LIFECYCLE = "lifecycle_stage"
MIN_YESES = 30
"""So many are needed to know how late they come."""


def situation(features: pd.DataFrame, channels: Sequence[str | None]) -> pd.DataFrame:
    """The situation of each row: the channel, and what is known of the person that variants may go by.

    Args:
        features: A row per decision; of people of whom nothing is known, all missing.
        channels: Of each.

    Example:
        >>> situation(pd.DataFrame({"country": ["DE"], "orders_7d": [1]}), ["email"]).to_dict("records")
        [{'channel': 'email', 'country': 'DE'}]
    """
    found = pd.DataFrame({CHANNEL: pd.Series(list(channels), dtype=object, index=features.index)})
    if not set(STAGE_NEEDS) - set(features.columns):
        known = features[list(STAGE_NEEDS)].notna().any(axis=1).to_numpy()
        found[LIFECYCLE] = pd.Series(lifecycle_of(features), dtype=object, index=features.index).where(known, None)
    for name in OF_PEOPLE:
        if name in features:
            found[name] = features[name]
    return found


def answered(
    decisions: pd.DataFrame, outcomes: pd.DataFrame, *, reward: str, window_hours: float, until: pd.Timestamp
) -> pd.DataFrame:
    """What came of each decision, and how much it counts as an impression.

    A decision whose window has passed counts in full, whatever came. A younger one counts as the share of the yeses
    that come within its age (Chapelle 2014, "Modeling delayed feedback", with the observed delays for a model): so
    that young noes do not drown young yeses. Where too few yeses tell how late they come, it does not count. Where
    a slot's impressions are logged, only what was seen counts.

    Args:
        decisions: `decision_id, at, slot, chosen`.
        outcomes: `decision_id, kind, at, value`, of these decisions.
        reward: The kind of outcome that is a yes; `value` = the money of conversions.
        window_hours: An outcome counts if it comes so soon after its decision.
        until: The moment up to which everything is known.

    Returns:
        The decisions that count, with `shown` (their weight) and `reward`.

    Example:
        >>> at = pd.to_datetime(["2026-01-01", "2026-01-01"], utc=True)
        >>> made = pd.DataFrame({"decision_id": ["1", "2"], "at": at, "slot": "hero", "chosen": "a"})
        >>> came = pd.DataFrame({"decision_id": ["1"], "kind": ["click"], "at": at[:1], "value": [None]})
        >>> until = pd.Timestamp("2026-01-05", tz="UTC")
        >>> answered(made, came, reward="click", window_hours=24, until=until)[["shown", "reward"]].values.tolist()
        [[1.0, 1.0], [1.0, 0.0]]
    """
    window = pd.Timedelta(hours=window_hours)
    made = decisions.drop_duplicates("decision_id", ignore_index=True)
    told = outcomes.merge(made[["decision_id", "at"]], on="decision_id", suffixes=("", "_made"))
    delay = told["at"] - told["at_made"]
    told = told[(delay < window) & (told["at"] < until)].assign(delay=delay)
    seen = set(told.loc[told["kind"] == "impression", "decision_id"])
    counted = made.groupby("slot")["decision_id"].transform(lambda ids: ids.isin(seen).any())
    made = made[~counted | made["decision_id"].isin(seen)].reset_index(drop=True)
    yes = told[told["kind"] == ("conversion" if reward == "value" else reward)].sort_values("delay", kind="stable")
    first = yes.drop_duplicates("decision_id").set_index("decision_id")["delay"]
    if reward == "value":
        brought = yes.assign(value=yes["value"].fillna(0.0).astype(float)).groupby("decision_id")["value"].sum()
    else:
        brought = pd.Series(1.0, index=first.index)
    age = until - made["at"]
    settled = (age >= window).to_numpy()
    delays = np.sort(first.reindex(made.loc[settled, "decision_id"]).dropna().to_numpy("timedelta64[s]"))
    weight = settled.astype(float)
    if len(delays) >= MIN_YESES:
        come = np.searchsorted(delays, age.to_numpy("timedelta64[s]"), side="right") / len(delays)
        weight = np.where(settled, 1.0, come)
    made = made.assign(shown=weight, reward=made["decision_id"].map(brought).fillna(0.0))
    return made[made["shown"] > 0].reset_index(drop=True)


def discount(at: pd.Series, *, until: pd.Timestamp, half_life_days: float) -> np.ndarray:
    """How much something of a moment still counts, float (n,): half after so many days."""
    days = (until - at) / pd.Timedelta(days=1)
    return np.asarray(np.exp2(-np.maximum(days.to_numpy(dtype=float), 0) / half_life_days))
