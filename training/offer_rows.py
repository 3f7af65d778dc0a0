"""The decisions that offers are learnt from: made by chance, with what was known before and what was brought after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from data.errors import DataError
from data.tables import Tables
from data.workspace import Workspace
from features.answers import own_answers
from features.decided import brought, context_of
from features.definitions import slugs
from features.snapshots import span, steady_features, stored_categories
from models.offers import NOTHING
from training.labelled import features_before

RANDOM = "random"
MAX_CUTOFFS = 52
"""Moments at which people are looked at, at the most."""
KEPT = 0.5
"""Share of the decisions that must stay when one more offer is learnt about."""
DAY = timedelta(days=1)


@dataclass(frozen=True, eq=False)
class OfferRows:
    """Decisions about one offer or none, in the order of time, n rows; arms by code, no offer first.

    Attributes:
        table: Features of each person, known strictly before the decision, and their own answers to offers before it.
        steady: Those of them by which people are told apart, see `features.definitions.Feature`.
        user: Ids, (n,).
        at: When.
        arm: What was chosen, codes (n,).
        outcome: What the person brought in the horizon after all costs, the contact's too, (n,).
        orders: Orders that came over the message in the horizon, see `over_message`, (n,).
        by_message: Of the outcome, the profit of these, (n,).
        about: Offer -> the feature that tells how much somebody likes what it is for, see `likings`.
        contact_cost: What telling the person of an offer cost, or would have, on the channel, (n,).
        probabilities: Of every arm, (n, K); exact for the chosen one.
        even: Where all arms were equally likely, bool (n,).
        arms: Ids of the offers.
        horizon_days: How long what people brought counts.
        end: All outcomes are known just before it.
        definitions_hash: Of the features.
        notes: What was left out.
    """

    table: pd.DataFrame
    steady: tuple[str, ...]
    user: np.ndarray
    at: pd.Series
    arm: np.ndarray
    outcome: np.ndarray
    orders: np.ndarray
    by_message: np.ndarray
    contact_cost: np.ndarray
    probabilities: np.ndarray
    even: np.ndarray
    arms: tuple[str, ...]
    horizon_days: int
    end: datetime
    definitions_hash: str
    notes: tuple[str, ...]
    about: Mapping[str, str]

    @property
    def before_contact(self) -> np.ndarray:
        """What came of the offers themselves: a contact's cost alone would tell who was contacted, (n,)."""
        return np.asarray(self.outcome + np.where(self.arm > 0, self.contact_cost, 0.0))

    def of(self, kept: np.ndarray) -> OfferRows:
        """Only these rows, bool (n,)."""
        frames = {name: getattr(self, name)[kept].reset_index(drop=True) for name in ("table", "at")}
        arrays = ("user", "arm", "outcome", "orders", "by_message", "contact_cost", "probabilities", "even")
        return replace(self, **frames, **{name: getattr(self, name)[kept] for name in arrays})


def offer_rows(workspace: Workspace) -> OfferRows:
    """The decisions of a workspace that offers can be learnt from.

    Those are the ones whose chosen offer had a known chance below 1: the arm `random`, and any other that drew.
    Decisions of the arms `model` and `holdout` were certain given the person: nothing tells what another offer would
    have brought. They cannot be joined by the arms' shares either, for after the first decision the arms have made
    people differ. Of each person one decision counts in each horizon, the first: what is brought counts once.

    Offers are learnt about together, so that every decision could have been any of them: those with enough decisions
    that still can be given, the most frequent first, as long as they were candidates together in half of the decisions.

    Raises:
        DataError: no such decisions, too few, or no prices.
    """
    settings, tables = workspace.settings.offers, workspace.checked
    if "decisions" not in tables.brought:
        raise DataError("there is no table decisions. Ask /v1/offers, then `attune sync`; some are dealt by chance.")
    covered, horizon = span(tables), timedelta(days=settings.horizon_days)
    end, made = covered.end, _by_chance(workspace, covered.over - horizon)
    arms, kept, notes = _together(workspace, made, end)
    made = made[kept].reset_index(drop=True)
    codes = pd.Index(arms).get_indexer(made["chosen"])
    even = made["even"].to_numpy()
    known = features_before(workspace, made, most_cutoffs=MAX_CUTOFFS)
    categories = stored_categories(workspace)
    costs = made["channel"].map(settings.contact_costs).fillna(0.0).to_numpy(dtype=np.float64)
    if not tables.has("orders", "unit_price"):
        raise DataError("an offer's profit is money, and there is no orders.unit_price.")
    margin, days = _margin(workspace), settings.horizon_days
    profit = brought(tables, end, made, value="profit", horizon_days=days, margin=margin).to_numpy(dtype=np.float64)
    orders, by_message = over_message(tables, end, made, profit, days, margin=margin)
    return OfferRows(
        table=known.table.reset_index(drop=True).join(own_answers(tables, made, arms[1:])),
        steady=steady_features(tables, workspace.settings.features, categories=categories),
        user=made["user_id"].to_numpy(dtype=object),
        at=made["at"],
        arm=codes,
        outcome=profit - np.where(codes > 0, costs, 0.0),
        orders=orders,
        by_message=by_message,
        contact_cost=costs,
        probabilities=_probabilities(codes, made["probability"].to_numpy(), even, len(arms)),
        even=even,
        arms=arms,
        horizon_days=settings.horizon_days,
        end=end,
        definitions_hash=known.definitions_hash,
        notes=(*notes, *_unknown(workspace)),
        about=likings(tables, categories),
    )


def likings(tables: Tables, categories: Sequence[str]) -> dict[str, str]:
    """Offer -> the feature that tells how much somebody leans to its category, of `categories`."""
    named = slugs(categories)
    offers = tables["offers"].select("offer_id", "category").execute()
    told = zip(offers["offer_id"], offers["category"], strict=True)
    return {offer: f"leaning_{named[category]}" for offer, category in told if category in named}


def over_message(
    tables: Tables, until: datetime, made: pd.DataFrame, profit: np.ndarray, days: int, *, margin: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Orders that came over the channel of each decision in the horizon, and their profit, (n,) each.

    They are told apart because next to none of them would have come without the message, so that they say most of what
    an offer brings. Where no event tells the channel of an order, all orders count, and `profit` is theirs.

    Args:
        tables: Of the shop.
        until: Everything is known just before it.
        made: `decision_id, user_id, at, channel` of the decisions.
        profit: What each brought.
        days: Of the horizon.
        margin: Of what is paid, where items have no cost.
    """

    def found(value: str, *, over_channel: bool) -> np.ndarray:
        told = brought(tables, until, made, value=value, horizon_days=days, over_channel=over_channel, margin=margin)
        return told.to_numpy(dtype=np.float64)

    if tables.has("events", "channel"):
        orders = found("orders", over_channel=True)
        if orders.any():
            return orders, found("profit", over_channel=True)
    return found("orders", over_channel=False), profit


def _by_chance(workspace: Workspace, until: datetime) -> pd.DataFrame:
    """user_id, at, chosen, probability, even, candidates and channel of the decisions that count, by time."""
    decisions = workspace.checked["decisions"]
    one = decisions.filter(decisions.kind == "offer", decisions.chosen.length() == 1, ~decisions.candidates.isnull())
    columns = ["decision_id", "user_id", "at", "arm", "candidates", "placement", "context"]
    rows = one.select(*columns, chosen=one.chosen[0], probability=one.probability[0]).execute()
    first = span(workspace.checked).first + DAY  # before, nothing was known of anybody
    context = rows.pop("context").map(context_of)
    # Where the context tells no channel the placement does: for a message it is one.
    rows["channel"] = context.map(lambda told: told.get("channel") or None).fillna(rows.pop("placement"))
    alone = ~context.map(lambda told: "k" in told)  # not one of several at once
    rows = rows[alone & (rows["probability"] < 1) & (rows["at"] >= first) & (rows["at"] <= until)]
    if rows.empty:
        raise DataError(
            "no offer was chosen by chance with its outcome known by now. Serve /v1/offers with a share of people in "
            "[arms].random and come back after [offers].horizon_days."
        )
    rows = rows.sort_values(["at", "decision_id"], ignore_index=True)
    # A draw of the arm random is even; an imported one may not be, and then says so.
    rows["even"] = (rows["arm"] == RANDOM) & np.isclose(rows["probability"] * rows["candidates"].map(len), 1, atol=1e-4)
    return rows[_first_in_each_horizon(rows, timedelta(days=workspace.settings.offers.horizon_days))]


def _first_in_each_horizon(rows: pd.DataFrame, horizon: timedelta) -> np.ndarray:
    """Whether no decision that counts was made for the same person within the horizon before, bool (n,)."""
    last: dict[str, pd.Timestamp] = {}
    kept = np.zeros(len(rows), dtype=bool)
    for place, (user, at) in enumerate(zip(rows["user_id"], rows["at"], strict=True)):
        if user not in last or at - last[user] >= horizon:
            last[user], kept[place] = at, True
    return kept


def _together(
    workspace: Workspace, made: pd.DataFrame, end: datetime
) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """The arms to learn about, which rows could have been any of them (bool, (n,)), and what is left out."""
    least = workspace.settings.offers.min_decisions
    offers = workspace.checked["offers"]
    over = set(offers.filter(offers.ends_at <= end).select("offer_id").execute()["offer_id"])
    sets = [frozenset(candidates) for candidates in made["candidates"]]
    drawn_evenly = made["even"].to_numpy()
    chosen = made["chosen"].to_numpy(dtype=object)

    def usable(arms: list[str]) -> np.ndarray:
        """Even draws among more arms are even draws among these; other draws must have been among just these."""
        wanted = frozenset(arms)
        there = [wanted <= had if even else wanted == had for had, even in zip(sets, drawn_evenly, strict=True)]
        return np.array(there) & np.isin(chosen, arms)

    def could(arms: list[str]) -> np.ndarray:
        return np.array([frozenset(arms) <= had for had in sets])

    arms, left_out = [NOTHING], {}
    for offer, times in made["chosen"].value_counts().items():
        if offer == NOTHING:
            continue
        trial = [*arms, offer]
        if offer in over:
            left_out[offer] = "it has ended"
        elif times < least:
            left_out[offer] = f"chance gave it {times} times, [offers].min_decisions = {least}"
        elif could(trial).sum() < KEPT * could(arms).sum():
            left_out[offer] = "it was seldom a candidate beside the others"
        else:
            arms = trial
    arms = [NOTHING, *sorted(arms[1:])]
    kept = usable(arms)
    counts = pd.Series(chosen[kept]).value_counts().reindex(arms, fill_value=0)
    if len(arms) < 2 or counts.min() < least:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        told += "".join(f"; {offer} is left out: {why}" for offer, why in left_out.items())
        if strays := sum(choice not in had for choice, had in zip(chosen, sets, strict=True)):
            told += f"; {strays} are of a choice that is not among their own candidates ({NOTHING} is one, too)"
        raise DataError(
            f"decisions by chance with a known outcome: {told}. No offer and at least one offer need {least} each "
            "([offers].min_decisions): raise [arms].random, or wait."
        )
    return tuple(arms), kept, tuple(f"{offer} is not learnt about: {why}" for offer, why in left_out.items())


def _probabilities(codes: np.ndarray, chosen: np.ndarray, even: np.ndarray, n_arms: int) -> np.ndarray:
    """Of every arm, (n, K).

    Of an even draw all are known. Of another the log tells that of the chosen one, and no estimate needs more: the
    others share the rest, which only weighs learners.
    """
    rest = np.where(even, 1 / n_arms, (1 - chosen) / (n_arms - 1))
    found = np.tile(rest[:, None], (1, n_arms))
    found[np.arange(len(codes)), codes] = np.where(even, 1 / n_arms, chosen)
    return found


def _unknown(workspace: Workspace) -> list[str]:
    """What a reader must know of the profit."""
    if workspace.settings.offers.margin is None and not workspace.checked.has("items", "cost"):
        return ["what orders earn is not known (items.cost, or [offers].margin): all that was paid counts as earned"]
    return []


def _margin(workspace: Workspace) -> float | None:
    """Of what is paid; None where items tell what they cost; all of it where nothing does."""
    told = workspace.settings.offers.margin
    return 1.0 if told is None and not workspace.checked.has("items", "cost") else told
