"""What became of a campaign: the measures that a marketer names, how soon people convert, and who was held back."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import CensoredData, ecdf

from data.errors import DataError
from evaluation.choices import HOLDOUT, NOTHING
from evaluation.intervals import Interval, normal_mean, wilson
from evaluation.units import Kind

FEW = 100
"""A measure of fewer people is told as small."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One number about the people whom a campaign reached.

    Attributes:
        name: As a marketer says it.
        definition: How it is made.
        unit: A share, or money per person.
        guardrail: Less is better, and it must not grow.
        attribute: Column of the group; empty of everybody.
        group: Which one; empty of everybody.
        people: Who are asked about.
        value: With its interval; NaN where nobody can be asked about.
    """

    name: str
    definition: str
    unit: Kind
    guardrail: bool
    attribute: str
    group: str
    people: int
    value: Interval

    @property
    def small(self) -> bool:
        """Whether so few people are asked about that it is hardly worth telling."""
        return self.people < FEW


@dataclass(frozen=True, eq=False)
class TimeToConversion:
    """How soon people convert, those who have not yet done so counted right (Kaplan and Meier 1958).

    Attributes:
        days: Since the message, rising, (k,).
        converted: Share of people who have converted by then, (k,).
        low: Lower ends, (k,).
        high: Upper ends.
        median_days: By when half of the people have; NaN if they have not within what was watched.
        people: Watched.
        conversions: Seen.
        level: Coverage, point by point.
    """

    days: np.ndarray
    converted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    median_days: float
    people: int
    conversions: int
    level: float

    def by(self, day: float) -> Interval:
        """The share who have converted by a day; before the first has, Greenwood's interval has no ends."""
        i = int(np.searchsorted(self.days, day, side="right")) - 1
        if i < 0:
            return Interval.around(0.0, level=self.level)
        return Interval(float(self.converted[i]), float(self.low[i]), float(self.high[i]), self.level)


@dataclass(frozen=True, slots=True)
class Step:
    """What became of some of the decisions.

    Attributes:
        name: In words.
        kind: Whether they were held back, left alone, not chosen for, chosen for or sent something.
        decisions: How many ended here.
        people: Whose.
        share: Of all decisions.
    """

    name: str
    kind: Literal["held back", "left alone", "nothing chosen", "chosen", "sent"]
    decisions: int
    people: int
    share: float


@dataclass(frozen=True, eq=False)
class Campaign:
    """What stands on a report of decisions beside what it says of an experiment.

    Attributes:
        about: What was decided, when, in words.
        asked: What is held against what, in words.
        horizon_days: How long after a message what people do counts among the measures.
        currency: Of the money.
        measures: Of everybody who was sent something, by arm and by channel.
        soon: How soon people of each arm converted.
        funnel: What became of the decisions.
        missing: Why a part is not there, by part: `offers`, `earned`.
        holdout: What was done with the arm of that name, in words.
    """

    about: str
    asked: str
    horizon_days: float
    currency: str
    measures: tuple[Measure, ...]
    soon: Mapping[str, TimeToConversion]
    funnel: tuple[Step, ...]
    missing: Mapping[str, str]
    holdout: str


def campaign_measures(rows: pd.DataFrame, *, horizon_days: float, by: Sequence[str] = ()) -> tuple[Measure, ...]:
    """Every measure, of everybody and then of each group of each column of `by`.

    Rates of messages are ratios of sums with people as units (delta method), as one person's messages are no
    independent witnesses. What is bought is asked of those who were watched for the whole horizon.

    Args:
        rows: A row per recipient, as `features.campaigns.recipients` has it.
        horizon_days: The same as there.
        by: Columns such as `channel` or a segment; what is missing is a group of its own.

    Raises:
        DataError: a column that is not there.

    Example:
        >>> rows = pd.DataFrame({"channel": ["email", "sms"], "readable": [2, 1], "opened": [1, 0], "delivered": [2, 1],
        ...     "clicked": [1, 0], "unsubscribed": [0, 0], "orders": [2, 0], "revenue": [30.0, 0.0],
        ...     "spend_life": [90.0, 10.0], "watched_days": [14.0, 14.0]})
        >>> found = campaign_measures(rows, horizon_days=14, by=["channel"])
        >>> [(m.name, round(m.value.estimate, 2)) for m in found if not m.attribute][:4]
        [('open rate', 0.33), ('click rate', 0.33), ('unsubscribe rate', 0.0), ('conversion rate', 0.5)]
        >>> [(m.group, m.value.estimate) for m in found if m.attribute and m.name == "revenue per recipient"]
        [('email', 30.0), ('sms', 0.0)]
    """
    if missing := [name for name in (*NEEDED, *by) if name not in rows]:
        raise DataError(f"campaign measures need the column {missing[0]!r}; there are {', '.join(rows.columns)}.")
    groups = [("", "", rows)]
    for attribute in by:
        named = rows[attribute].astype(object).where(rows[attribute].notna(), "(not known)").astype(str)
        groups += [(attribute, name, rows[named == name]) for name in sorted(named.unique())]
    return tuple(
        Measure(
            name,
            definition.format(horizon_days),
            unit,
            name in GUARDRAILS,
            attribute,
            group,
            *measure(part, horizon_days),
        )
        for attribute, group, part in groups
        for name, (definition, unit, measure) in MEASURES.items()
    )


def funnel(decisions: pd.DataFrame) -> tuple[Step, ...]:
    """What became of each decision, each counted once: held back by a rule, left alone, chosen for, or sent.

    Args:
        decisions: `user_id, arm, chosen, suppressed` (a JSON list of objects with `rule`) and `sent`, a row each.

    Example:
        >>> rows = pd.DataFrame({"user_id": list("abc"), "arm": ["model", "model", "holdout"],
        ...     "chosen": ["tea", "none", "none"], "suppressed": [None, '[{"rule": "consent"}]', None],
        ...     "sent": [True, False, False]})
        >>> [(step.name, step.decisions) for step in funnel(rows)]
        [('held back: no consent', 1), ('left alone', 1), ('sent', 1)]
    """
    none = (decisions["chosen"] == NOTHING).to_numpy()
    rule = decisions["suppressed"].where(none).map(_first_rule, na_action="ignore").fillna("").to_numpy(object)
    alone = none & (((rule == "") & (decisions["arm"] == HOLDOUT).to_numpy()) | (rule == HOLDOUT_RULE))
    sent = ~none & decisions["sent"].to_numpy(bool)
    kinds: list[tuple[str, str, np.ndarray]] = [
        *(
            (f"held back: {RULES.get(name, name)}", "held back", rule == name)
            for name in sorted(set(rule) - {"", HOLDOUT_RULE}, key=_place)
        ),
        ("left alone", "left alone", alone),
        ("nothing chosen", "nothing chosen", none & (rule == "") & ~alone),
        ("chosen, no message known", "chosen", ~none & ~sent),
        ("sent", "sent", sent),
    ]
    return tuple(
        Step(name, kind, int(held.sum()), decisions["user_id"][held].nunique(), float(held.mean()))  # type: ignore[arg-type]
        for name, kind, held in kinds
        if held.any()
    )


RULES = {
    "consent": "no consent",
    "unsubscribed": "unsubscribed",
    "bounced": "address does not work",
    "reachable": "no way to reach them",
    "channels": "wish for other channels",
    "topics": "wish for other topics",
    "sensitive": "sensitive topic",
    "frequency": "wish for fewer messages",
    "caps": "cap reached",
    "hours": "quiet hours",
}
"""Rules in the order in which a person meets them, in words; others come after, under their own names."""
HOLDOUT_RULE = "holdout"


def _place(rule: str) -> tuple[int, str]:
    return (list(RULES).index(rule) if rule in RULES else len(RULES) + (rule == HOLDOUT_RULE)), rule


def _first_rule(told: str) -> str:
    """Of the rules that spoke against a decision the one that a person meets first; empty where none is told."""
    try:
        found = json.loads(told)
    except ValueError:
        return ""
    parts = found if isinstance(found, list) else []
    return min(
        (str(part["rule"]) for part in parts if isinstance(part, dict) and part.get("rule")), key=_place, default=""
    )


def time_to_conversion(days: np.ndarray, watched_days: np.ndarray, *, level: float = 0.95) -> TimeToConversion:
    """How soon people convert, from what is known of each so far; intervals on the log-log scale (Greenwood 1926).

    Args:
        days: From the message to the conversion, shape (n,); NaN = not yet.
        watched_days: How long each was watched, shape (n,).
        level: Coverage, point by point.

    Raises:
        DataError: nobody, or a time that is negative or missing.

    Example:
        >>> found = time_to_conversion(np.array([1.0, 2.0, np.nan, np.nan]), np.array([9.0, 9.0, 1.5, 9.0]))
        >>> found.by(1).estimate, found.by(2).estimate, found.median_days
        (0.25, 0.625, 2.0)
    """
    if not len(days) or len(days) != len(watched_days) or not (watched_days >= 0).all() or (days < 0).any():
        raise DataError(
            f"{len(days)} times and {len(watched_days)} of watching; give both for somebody, none negative."
        )
    done = ~np.isnan(days)
    if not done.any():
        none = np.zeros(0)
        return TimeToConversion(none, none, none, none, np.nan, len(days), 0, level)
    kept = ecdf(CensoredData(uncensored=days[done], right=watched_days[~done])).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the days where all or none have converted: NaN, see below
        ends = kept.confidence_interval(confidence_level=level, method="log-log")
    steps = np.isin(kept.quantiles, days[done])
    day, converted = kept.quantiles[steps], 1 - kept.probabilities[steps]
    low, high = (np.nan_to_num(1 - end.probabilities[steps], nan=edge) for end, edge in ((ends.high, 0), (ends.low, 1)))
    half = np.flatnonzero(converted >= 0.5)
    median = float(day[half[0]]) if len(half) else np.nan
    return TimeToConversion(day, converted, low, high, median, len(days), int(done.sum()), level)


Asked = tuple[int, Interval]
How = Callable[[pd.DataFrame, float], Asked]
"""From recipients and the horizon to how many people are asked about, and the value."""


def _rate(part: str, whole: str) -> How:
    def measure(rows: pd.DataFrame, horizon_days: float) -> Asked:  # noqa: ARG001 - one shape for all
        y, x = (rows[name].to_numpy(dtype=np.float64) for name in (part, whole))
        people = int((x > 0).sum())
        if (x <= 1).all():
            return people, wilson(int(y.sum()), int(x.sum()))
        ratio = y.sum() / x.sum()
        found = normal_mean(ratio + (y - ratio * x) / x.mean())
        return people, Interval(found.estimate, max(found.low, 0.0), min(found.high, 1.0), found.level)

    return measure


def _watched(rows: pd.DataFrame, horizon_days: float) -> pd.DataFrame:
    return rows[rows["watched_days"] >= horizon_days]


def _conversion(rows: pd.DataFrame, horizon_days: float) -> Asked:
    orders = _watched(rows, horizon_days)["orders"]
    return len(orders), wilson(int((orders > 0).sum()), len(orders))


def _repeat(rows: pd.DataFrame, horizon_days: float) -> Asked:
    orders = _watched(rows, horizon_days)["orders"]
    buyers = orders[orders > 0]
    return len(buyers), wilson(int((buyers > 1).sum()), len(buyers))


def _revenue(rows: pd.DataFrame, horizon_days: float) -> Asked:
    revenue = _watched(rows, horizon_days)["revenue"].dropna().to_numpy(dtype=np.float64)
    return len(revenue), normal_mean(revenue)


def _lifetime(rows: pd.DataFrame, horizon_days: float) -> Asked:  # noqa: ARG001 - one shape for all
    spend = rows["spend_life"].dropna().to_numpy(dtype=np.float64)
    return len(spend), normal_mean(spend)


NEEDED = (
    "readable",
    "opened",
    "delivered",
    "clicked",
    "unsubscribed",
    "orders",
    "revenue",
    "spend_life",
    "watched_days",
)
GUARDRAILS = ("unsubscribe rate",)
MEASURES: dict[str, tuple[str, Kind, How]] = {
    "open rate": (
        "messages opened by the person, of those delivered whose open no machine hid",
        "share",
        _rate("opened", "readable"),
    ),
    "click rate": ("messages clicked, of those delivered", "share", _rate("clicked", "delivered")),
    "unsubscribe rate": ("messages unsubscribed from, of those delivered", "share", _rate("unsubscribed", "delivered")),
    "conversion rate": ("people with an order within {0:g} days of their first message", "share", _conversion),
    "revenue per recipient": ("orders less returns within {0:g} days, per person reached", "money", _revenue),
    "repeat purchase rate": ("people with two orders or more within {0:g} days, of those with one", "share", _repeat),
    "lifetime value": ("all that a person reached has spent so far, less returns", "money", _lifetime),
}
