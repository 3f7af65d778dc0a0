"""Who was decided about, in which arm, and what each of them did since: the rows behind the report of decisions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import ibis
import pandas as pd
from ibis.expr import types as ir

from data.errors import DataError
from data.tables import Tables, cutoff_literal
from features.definitions import SECONDS_PER_DAY, epoch_seconds, exact
from features.purchases import purchases

KINDS = ("offer", "variant", "action")
"""Of decisions that are reported on; items are judged by `attune report recommender`."""
NOTHING = "none"
"""What is chosen where nothing is sent or offered."""
BEFORE_DAYS = 90
WEEK_DAYS = 7
REMEDY = (
    "Ask /v1/offers, /v1/variants or /v1/actions for them, run `attune sync` and `attune check`, "
    "and leave some people alone (settings [arms])."
)


class NoDecisionError(DataError):
    """Nothing was decided, so that nobody is known to have been left alone by chance."""


def decided(
    tables: Tables,
    until: datetime,
    *,
    campaign: str | None = None,
    kinds: Sequence[str] = KINDS,
    since: datetime | None = None,
) -> pd.DataFrame:
    """Decisions as known just before `until`, in the order of time.

    A decision belongs to the campaign that its context names or its message is of. Whoever was left alone got no
    message: decisions of the same kind and place, made while the campaign ran, that neither a context nor a message
    gives to another campaign, belong to it as well. Else the arms would not be compared as they were drawn.

    Args:
        tables: With `decisions`.
        until: The moment up to which everything is known.
        campaign: Only those of one campaign.
        kinds: Only those of these kinds.
        since: Only those made from then on.

    Returns:
        `decision_id, user_id, at, kind, place, arm, arm_share, chosen` (the first choice; `none` = nothing),
        `probability` (of it, given the arm), `suppressed` (JSON), `campaign` (missing where nothing tells it),
        `channel` (as its context tells it), `sent` (whether a message of it was), `clicked_at` (the first click, on a
        message of it or told as its outcome; missing without one).

    Raises:
        NoDecisionError: there is no such table, or no message of the campaign names a decision.
        DataError: there are none of these kinds, or no such campaign.

    Example:
        >>> at = pd.to_datetime(["2026-01-05"], utc=True)
        >>> shop = Tables.from_frames(decisions=pd.DataFrame({"decision_id": ["1"], "user_id": ["ann"], "at": at,
        ...     "kind": ["offer"], "placement": ["email"], "arm": ["holdout"], "arm_share": [0.1], "chosen": [["none"]],
        ...     "probability": [[1.0]], "model_version": ["none"]}))
        >>> from datetime import UTC
        >>> decided(shop, datetime(2026, 2, 1, tzinfo=UTC))[["user_id", "arm", "chosen", "sent"]].values.tolist()
        [['ann', 'holdout', 'none', False]]
    """
    if "decisions" not in tables.brought:
        raise NoDecisionError(f"there is no table decisions, so nobody was left alone by chance. {REMEDY}")
    known = tables.as_of(until)
    made = known["decisions"]
    made = made.filter(made.kind.isin(list(kinds)))
    if since is not None:
        made = made.filter(made["at"] >= cutoff_literal(since))
    messages = known["messages"]
    messages = messages.filter(~messages.decision_id.isnull())
    told = messages.group_by(of="decision_id").agg(
        message_campaign=messages.campaign_id.max(), messages=messages.count()
    )
    came = known["outcomes"]
    came = came.filter(came.kind == "click").select("decision_id", clicked_at=came["at"])
    clicks = messages.filter(~messages.clicked_at.isnull()).select("decision_id", "clicked_at").union(came)
    clicks = clicks.group_by(clicked="decision_id").agg(clicked_at=clicks.clicked_at.min())
    joined = made.left_join(told, made.decision_id == told.of)
    joined = joined.left_join(clicks, joined.decision_id == clicks.clicked)
    rows = joined.select(
        "decision_id",
        "user_id",
        "at",
        "kind",
        "arm",
        "arm_share",
        "suppressed",
        "context",
        "message_campaign",
        "clicked_at",
        place=ibis.coalesce(joined.placement, joined.slot),
        chosen=joined.chosen[0],
        probability=joined.probability[0],
        sent=joined.messages.fill_null(0) > 0,
    ).execute()
    if rows.empty:
        begun = "" if since is None else f" from {since:%Y-%m-%d} on,"
        raise DataError(f"no decision of kind {', '.join(kinds)} is known{begun} before {until:%Y-%m-%d}. {REMEDY}")
    rows = rows.sort_values(["at", "decision_id"], ignore_index=True)
    named = rows.pop("context").map(context_of)
    rows["chosen"] = rows["chosen"].fillna(NOTHING)
    rows["probability"] = rows["probability"].fillna(1.0)
    rows["campaign"] = named.map(lambda c: c.get("campaign_id")).fillna(rows.pop("message_campaign"))
    rows["channel"] = named.map(lambda c: c.get("channel"))
    return rows if campaign is None else _of(rows, campaign, known)


def context_of(told: object) -> Mapping[str, Any]:
    """A decision's context; what is no JSON object tells nothing.

    Example:
        >>> context_of('{"channel": "email"}'), context_of(None)
        ({'channel': 'email'}, {})
    """
    try:
        found = json.loads(told) if isinstance(told, str) else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def responses(
    tables: Tables,
    until: datetime,
    people: pd.DataFrame,
    *,
    horizon_days: float | None = None,
    margin: float | None = None,
) -> pd.DataFrame:
    """What people did from a moment of their own on.

    Args:
        tables: Of the shop.
        until: The moment up to which everything is known.
        people: `user_id` and `at`, a row per person.
        horizon_days: How long after it what they do counts; None = up to `until`.
        margin: Share of what is paid that is earned, where items have no cost.

    Returns:
        A row per person, by `user_id`: `watched_days`; `orders`; `revenue` (less discounts and returns); `profit`
        (revenue less the cost of the items, or its margin, less that of redeemed offers); `order_days` (to the first
        order, missing without one); `unsubscribed` (from anything). What a shop does not tell (prices, costs) is
        missing.

    Raises:
        DataError: a margin, and items that have a cost too.
    """
    known = tables.as_of(until)
    days = (pd.Timestamp(until) - people["at"]).dt.total_seconds() / SECONDS_PER_DAY
    horizon = float(days.max() + 1) if horizon_days is None else horizon_days
    found = pd.DataFrame({"watched_days": days.clip(upper=horizon).to_numpy()}, index=pd.Index(people["user_id"]))
    lines = _within(_since(_bought(known, margin), people), horizon)
    bought = lines.group_by("user_id").agg(
        orders=lines.order_id.nunique(where=lines.is_order),
        revenue=_sum(lines.money),
        profit=_sum(lines.profit),
        seconds=lines.seconds.min(where=lines.is_order),
    )
    found = found.join(bought.execute().set_index("user_id").astype("float64"))
    found["order_days"] = found.pop("seconds") / SECONDS_PER_DAY
    priced = tables.has("orders", "unit_price")
    costed = margin is not None or tables.has("items", "cost")
    told = ["orders", *(["revenue"] if priced else []), *(["profit"] if priced and costed else [])]
    found[told] = found[told].fillna(0.0)
    messages = known["messages"]
    messages = messages.filter(~messages.unsubscribed_at.isnull()).select("user_id", at=messages.unsubscribed_at)
    left = _within(_since(messages, people), horizon).select("user_id").distinct().execute()
    found["unsubscribed"] = found.index.isin(left["user_id"]).astype("float64")
    return found


def bought_before(tables: Tables, people: pd.DataFrame) -> pd.DataFrame:
    """What people bought before a moment of their own.

    Args:
        tables: Of the shop.
        people: `user_id` and `at`, a row per person.

    Returns:
        A row per person, by `user_id`: `spend_before` and `orders_before` (in 90 days), `days_since_order`; missing
        where the shop tells no prices, or somebody has not ordered.
    """
    lines = _since(_bought(tables), people)
    lines = lines.filter(lines.seconds < 0)
    lately = lines.seconds >= -BEFORE_DAYS * SECONDS_PER_DAY
    bought = lines.group_by("user_id").agg(
        spend_before=_sum(lines.money, lately),
        orders_before=lines.order_id.nunique(where=lately & lines.is_order),
        days_since_order=lines.seconds.max(where=lines.is_order),
    )
    found = bought.execute().set_index("user_id").astype("float64").reindex(people["user_id"])
    found["days_since_order"] /= -SECONDS_PER_DAY
    told = ["orders_before", *(["spend_before"] if tables.has("orders", "unit_price") else [])]
    found[told] = found[told].fillna(0.0)
    return found


def first_decisions(tables: Tables, until: datetime) -> pd.DataFrame:
    """When anything was first decided about each person, in whatever arm: what was known before it no decision moved.

    Returns:
        `user_id` and `at`, a row per person.
    """
    made = tables.as_of(until)["decisions"]
    return made.group_by("user_id").agg(at=made["at"].min()).execute()


def attributes_before(tables: Tables, people: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Columns of `users` as they were known just before a moment of each person's own, by `user_id`.

    Args:
        tables: Of the shop.
        people: `user_id` and `at`, a row per person.
        names: Of the columns; those that the shop did not bring are left out.
    """
    there = [name for name in names if tables.has("users", name)]
    users = tables["users"]
    since = ibis.coalesce(users.updated_at, users.created_at)
    rows = _since(users.select("user_id", *there, at=since), people)
    rows = rows.filter(rows["at"].isnull() | (rows.seconds < 0))
    newest = ibis.row_number().over(group_by="user_id", order_by=[ibis.desc(rows["at"]), *(rows[n] for n in there)])
    known = rows.mutate(newest=newest).filter(lambda t: t.newest == 0).select("user_id", *there)
    return known.execute().set_index("user_id").reindex(people["user_id"])


def by_week(
    tables: Tables,
    until: datetime,
    people: pd.DataFrame,
    *,
    value: str,
    horizon_days: float | None = None,
    margin: float | None = None,
) -> pd.DataFrame:
    """What people brought week by week, weeks counted from the first day of the earliest `at`.

    Args:
        tables: Of the shop.
        until: The moment up to which everything is known.
        people: `user_id` and `at`, a row per person.
        value: `profit`, `revenue` or `orders`.
        horizon_days: How long after `at` what they do counts; None = up to `until`.
        margin: As of `responses`.

    Returns:
        `user_id, week, value`; weeks in which somebody brought nothing are not there.
    """
    start = people["at"].min().normalize()
    lines = _within(_since(_bought(tables.as_of(until), margin), people), horizon_days)
    since = epoch_seconds(lines["at"]) - int(start.timestamp())
    lines = lines.mutate(week=(since / (WEEK_DAYS * SECONDS_PER_DAY)).floor().cast("int64"))
    column = lines.order_id.nunique(where=lines.is_order).cast("float64")
    if value != "orders":
        column = _sum(lines["money" if value == "revenue" else value])
    return lines.group_by("user_id", "week").agg(value=column).execute()


def brought(
    tables: Tables,
    until: datetime,
    decisions: pd.DataFrame,
    *,
    value: str,
    horizon_days: float,
    over_channel: bool = False,
    margin: float | None = None,
) -> pd.Series:
    """What each decision was followed by within the horizon, by `decision_id`; 0 where nothing came.

    Args:
        tables: Of the shop.
        until: The moment up to which everything is known.
        decisions: `decision_id, user_id, at`.
        value: `profit`, `revenue` or `orders`.
        horizon_days: How long after the decision.
        over_channel: Only what was ordered over the decision's own `channel`, a column more: where somebody's
            `order_completed` of that second and channel tells it.
        margin: As of `responses`.
    """
    known = tables.as_of(until)
    names = ("decision_id", *(("channel",) if over_channel else ()))
    lines = _within(_since(_bought(known, margin), decisions, *names), horizon_days)
    if over_channel:
        lines = _over_channel(lines, known["events"])
    column = lines.order_id.nunique(where=lines.is_order).cast("float64")
    if value != "orders":
        column = _sum(lines["money" if value == "revenue" else value])
    found = lines.group_by("decision_id").agg(value=column).execute().set_index("decision_id")["value"]
    return found.reindex(decisions["decision_id"]).fillna(0.0)


def _of(rows: pd.DataFrame, campaign: str, known: Tables) -> pd.DataFrame:
    """The decisions of a campaign, those who were left alone included."""
    ours = rows[rows["campaign"] == campaign]
    if ours.empty:
        messages = known["messages"]
        sizes = messages.group_by("campaign_id").agg(n=messages.count()).drop_null("campaign_id").execute()
        if campaign in set(sizes["campaign_id"]):
            raise NoDecisionError(
                f"campaign {campaign!r}: none of its messages names a decision, so nobody is known to have been left "
                f"alone by chance and what it changed cannot be told. {REMEDY}"
            )
        with_decisions = sorted(set(rows["campaign"].dropna())) or sorted(sizes["campaign_id"])
        some = ", ".join(with_decisions[:5]) or "none"
        raise DataError(
            f"no campaign {campaign!r}; with decisions there are {some}{' ...' * (len(with_decisions) > 5)}."
        )
    alike = pd.MultiIndex.from_frame(rows[["kind", "place"]]).isin(pd.MultiIndex.from_frame(ours[["kind", "place"]]))
    meanwhile = rows["at"].between(ours["at"].min(), ours["at"].max())
    return rows[(rows["campaign"] == campaign) | (rows["campaign"].isna() & alike & meanwhile)].reset_index(drop=True)


def _bought(known: Tables, margin: float | None = None) -> ir.Table:
    """Order lines, and a row for each offer redeemed: `user_id, order_id, at, is_order, money, profit`."""
    costed = known.has("items", "cost")
    if margin is not None and costed:
        raise DataError("[offers].margin is set, and there is items.cost too: leave one of them out.")
    lines = purchases(known)
    lines = lines.filter(~lines.user_id.isnull())
    profit: ir.Value = ibis.null("float64") if margin is None else lines.money * margin
    if costed:
        costs = known["items"].select(costed="item_id", unit_cost="cost")
        lines = lines.left_join(costs, lines.item_id == costs.costed)
        profit = lines.money - lines.quantity * lines.unit_cost.fill_null(0.0)
    told = lines.select("user_id", "order_id", "at", is_order=lines.quantity > 0, money=lines.money, profit=profit)
    earned = costed or margin is not None
    if not (earned and known.has("orders", "offer_id") and known.has("offers", "cost")):
        return told
    orders, offers = known["orders"], known["offers"].select(redeemed="offer_id", each="cost")
    orders = orders.filter(~orders.user_id.isnull(), ~orders.offer_id.isnull(), orders.quantity > 0)
    used = orders.group_by("user_id", "order_id", "offer_id").agg(at=orders.occurred_at.min())
    used = used.inner_join(offers, used.offer_id == offers.redeemed)
    redeemed = used.select(
        "user_id",
        "order_id",
        "at",
        is_order=ibis.literal(False),
        money=ibis.literal(0.0),
        profit=-used.each.fill_null(0.0),
    )
    return told.union(redeemed)


def _over_channel(lines: ir.Table, events: ir.Table) -> ir.Table:
    """Those lines that an event tells to have come over their `channel`."""
    events = events.filter(events.event == "order_completed")
    told = events.select(buyer="user_id", came_over="channel", second=epoch_seconds(events.occurred_at)).distinct()
    same = [
        lines.user_id == told.buyer,
        epoch_seconds(lines["at"]) == told.second,
        lines.channel == told.came_over,
    ]
    return lines.semi_join(told, same)


def _since(rows: ir.Table, people: pd.DataFrame, *names: str) -> ir.Table:
    """`rows` of these people, with `seconds` from each one's own moment on."""
    moments = people[["user_id", *names]].assign(
        moment=people["at"].astype("datetime64[us, UTC]").astype("int64") // 10**6
    )
    asked = ibis.memtable(moments.rename(columns={"user_id": "asked"}))
    joined = rows.inner_join(asked, rows.user_id == asked.asked)
    return joined.select(*rows.columns, *names, seconds=epoch_seconds(joined["at"]) - joined.moment)


def _within(rows: ir.Table, days: float | None) -> ir.Table:
    """Those from the moment on, for so many days."""
    rows = rows.filter(rows.seconds >= 0)
    return rows if days is None else rows.filter(rows.seconds < int(days * SECONDS_PER_DAY))


def _sum(value: ir.NumericValue, where: ir.BooleanValue | None = None) -> ir.FloatingValue:
    return exact(value).sum(where=where).cast("float64")
