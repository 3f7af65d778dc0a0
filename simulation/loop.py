"""A shop that goes on week by week: offers are decided from outside, people react, and the truth is known.

Each week somebody decides for all who can be reached on the first channel which offer they get, or none; it works for
that week. What they then do comes out as rows of the contract, a week at a time. What each offer would have brought of
whom is worked out from their true traits, and no row tells it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data.contract import TABLES
from data.errors import DataError
from simulation import arrow
from simulation.browsing import browse, identities_table, in_order, make_visits, own_visits, reactions
from simulation.catalogue import DAYS_PER_WEEK, items_table, offer_ids, offers_table, variants_table
from simulation.messaging import (
    Conversions,
    Plan,
    Sent,
    campaigns,
    consents_table,
    decisions_table,
    messages_table,
    outcomes_table,
    plan,
    preferences_table,
    respond,
    send,
)
from simulation.people import draw_people, users_table
from simulation.scene import make_scene
from simulation.world import World

DAYS = 120
"""Of history before the first week."""
CUTS = 20
"""Places at which a feature may be parted for a rule."""
KINDS = ("impression", "open", "click", "unsubscribe", "conversion")


def best_rule(features: pd.DataFrame, profit: np.ndarray, offers: Sequence[str]) -> str:
    """The rule on one feature that truly earns most, in words: what a shop that knew it all would write down.

    Args:
        features: A row per person, n rows.
        profit: True extra profit of each offer, (n, K).
        offers: Their ids, K.

    Example:
        >>> table = pd.DataFrame({"age": [20.0, 30.0, 50.0, 60.0], "plan": ["a", "b", "a", "b"]})
        >>> best_rule(table, np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), ["ten", "none"])
        'age > 30 -> none else ten'
    """
    total = profit.sum(axis=0)
    best, rule = -np.inf, ""
    for name, column in features.items():
        if not str(name).isidentifier():
            continue
        if pd.api.types.is_numeric_dtype(column):
            x = column.to_numpy(dtype=np.float64, na_value=np.nan)
            known = x[~np.isnan(x)]
            cuts = (
                {float(f"{cut:.6g}") for cut in np.quantile(known, np.arange(1, CUTS) / CUTS, method="lower")}
                if len(known)
                else set()
            )
            asked = {f"{name} > {cut:g}": x > float(f"{cut:g}") for cut in sorted(cuts)}
        else:
            words = column.to_numpy(dtype=object)
            asked = {f"{name} == {word!r}": words == word for word in sorted(set(column.dropna().astype(str)))[:CUTS]}
        for condition, holds in asked.items():
            inside = profit[holds].sum(axis=0)
            earned = inside.max() + (total - inside).max()
            if earned > best + 1e-9:
                best = earned
                rule = f"{condition} -> {offers[inside.argmax()]} else {offers[(total - inside).argmax()]}"
    if not rule:
        raise DataError("no feature tells people apart; give some.")
    return rule


@dataclass(frozen=True, eq=False)
class Dealt:
    """What was decided in a week, a row per person asked about.

    Attributes:
        user_id: Whom about, ids.
        offer_id: What they get, `none` = nothing.
        decision_id: Of the decision.
    """

    user_id: Sequence[str]
    offer_id: Sequence[str]
    decision_id: Sequence[str]


class Loop:
    """One simulated shop, from its history to its last week.

    The history is that of `attune simulate`, experiments with offers included, without dirty rows. Offers work for a
    week, in the history too, so that no two are at work at once.

    Args:
        world: Its parameters.
        users: Customers.
        days: Of history.
        weeks: That can be played.
        seed: Another seed, another shop.
        begin: When the first week begins, by default the world's end.

    Attributes:
        offers: Ids of the offers and, last, of the offer of nothing.
        user_ids: Of all customers, n of them.

    Raises:
        DataError: too few users, days or weeks.

    Example:
        >>> shop = Loop(World.load(), users=60, days=40, weeks=2)
        >>> asked = shop.asked(0)
        >>> profit = shop.profit(0)[asked]
        >>> best = [shop.offers[code] for code in profit.argmax(axis=1)]
        >>> users = [shop.user_ids[row] for row in asked]
        >>> rows = shop.live(0, Dealt(users, best, [f"d{row}" for row in asked]))
        >>> len(rows["events"]) > 0, set(rows) <= set(TABLES)
        (True, True)
    """

    def __init__(
        self,
        world: World,
        *,
        users: int,
        days: int = DAYS,
        weeks: int = 12,
        seed: int = 0,
        begin: datetime | None = None,
    ) -> None:
        if users < 2 or days < 30 or weeks < 1:
            raise DataError(f"users = {users}, days = {days}, weeks = {weeks}: give at least 2, 30 and 1.")
        self.weeks, self.days = weeks, days
        self.begin = (begin or world.time.end).astimezone(UTC)
        total = days + weeks * DAYS_PER_WEEK + 1
        end = self.begin + timedelta(days=total - days)
        offered = world.experiment.model_copy(
            update={"window_days": DAYS_PER_WEEK, "every_days": max(world.experiment.every_days, DAYS_PER_WEEK + 1)}
        )
        world = world.model_copy(update={"time": world.time.model_copy(update={"end": end}), "experiment": offered})
        self._rng = np.random.default_rng((seed, 0))
        rng = self._rng
        self._scene = scene = make_scene(world, rng, days=total)
        self._people = people = draw_people(scene, rng, first=0, count=users)
        self.offers: tuple[str, ...] = tuple(offer_ids(world).to_pylist())
        self.user_ids: tuple[str, ...] = tuple(people.ids.to_pylist())
        self._row = {user_id: row for row, user_id in enumerate(self.user_ids)}
        self._left = np.full((users, len(world.messages.channels)), np.inf)
        self._pending: dict[str, pa.Table] = {}
        self._week = 0

        early = replace(scene, calendar=replace(scene.calendar, days=days))
        sent = send(early, people, rng)
        self._note_unsubscribed(sent)
        experiments = plan(early, people, sent)
        before = make_visits(early, people, sent, experiments, rng)
        browsed = browse(early, people, before, experiments, rng, batch=0)
        visits = own_visits(scene, people, rng)
        known = before.stranger.max(initial=-1) + 1
        self._visits = replace(visits, stranger=np.where(visits.stranger >= 0, visits.stranger + known, -1))
        told = campaigns(scene, people, rng)
        later = (told["sent"] >= days) & (told["offer"] < 0)
        self._campaigns = {name: values[later] for name, values in told.items()}
        self._campaigns["decided"] = np.zeros(int(later.sum()), dtype=bool)
        self.history = self._known({
            "items": items_table(world, scene.items, start_us=scene.calendar.start_us),
            "offers": offers_table(world),
            "variants": variants_table(world),
            "users": users_table(scene, people, rng),
            "identities": identities_table(scene, people, rng, batch=0),
            "events": browsed.events,
            "orders": browsed.orders,
            "messages": messages_table(early, people, sent, batch=0),
            "consents": consents_table(scene, people, sent, rng),
            "preferences": preferences_table(scene, people, rng),
            "decisions": decisions_table(early, people, sent, batch=0),
            "outcomes": outcomes_table(early, sent, browsed.conversions, batch=0),
        }, days)  # fmt: skip

    def starts(self, week: int) -> datetime:
        """When a week, from 0, begins: its decisions are made then."""
        return self.begin + timedelta(days=week * DAYS_PER_WEEK)

    def asked(self, week: int) -> np.ndarray:
        """Rows of `user_ids` who can be reached on the first channel as the week begins."""
        day, people = self._day(week), self._people
        return np.flatnonzero(people.reached[:, 0] & (people.created < day) & (self._left[:, 0] > day))

    def profit(self, week: int) -> np.ndarray:
        """True expected extra profit of each offer made as the week begins, and of none, of everybody, (n, K)."""
        day, people, scene = self._day(week), self._people, self._scene
        base = people.expected_orders(day + np.arange(DAYS_PER_WEEK), scene=scene)
        profit = people.offer_profit(day, base_orders=base, world=scene.world)
        return np.column_stack([profit, np.zeros(len(people))])

    @property
    def channel(self) -> str:
        """Name of the first channel, on which people hear of offers."""
        return self._scene.world.messages.channels[0].name

    def rows_of(self, users: Sequence[str]) -> np.ndarray:
        """Places of users in `user_ids`, (m,).

        Raises:
            DataError: one that there is not.
        """
        return _places(self._row, users, "user")

    def codes_of(self, offers: Sequence[str]) -> np.ndarray:
        """Places of offers in `offers`, (m,).

        Raises:
            DataError: one that there is not.
        """
        return _places({offer: code for code, offer in enumerate(self.offers)}, offers, "offer")

    def unsubscribed(self) -> np.ndarray:
        """Who has unsubscribed from the first channel so far, bool (n,)."""
        return np.isfinite(self._left[:, 0])

    def live(self, week: int, dealt: Dealt) -> dict[str, pa.Table]:
        """Play a week; the rows that are known when it ends, without decisions.

        Raises:
            DataError: not the next week, or a user or an offer that there is not.
        """
        if week != self._week or week >= self.weeks:
            raise DataError(f"week {week} cannot be played: {self._week} of {self.weeks} were. Play one after another.")
        self._week += 1
        day, rng = self._day(week), self._rng
        end = day + DAYS_PER_WEEK
        scene, people = self._scene, self._people
        person, offer = self.rows_of(dealt.user_id), self.codes_of(dealt.offer_id)
        nothing = len(self.offers) - 1
        given = np.flatnonzero(offer != nothing)

        place = np.full(len(people), -1)
        place[person] = np.arange(len(person))
        sent = respond(scene, people, self._to_send(day, person[given], offer[given]), rng)
        self._note_unsubscribed(sent)
        decision = np.where(sent.offer >= 0, place[sent.person], -1)
        lost = decision[(decision >= 0) & ~np.isnan(sent.bounced)]
        holds = np.where(np.isin(np.arange(len(person)), lost) | (offer == nothing), -1, offer)
        at = np.full((len(people), 1), np.nan)
        at[person, 0] = day
        working = Plan(offer=np.full((len(people), 1), -1), at=at, decision=place[:, None])
        working.offer[person, 0] = holds
        due = (self._visits.start >= day) & (self._visits.start < end)
        moved = reactions(scene, people, sent, working, rng)
        visits = in_order(scene, [self._visits.of(due), moved.of(moved.start < end)])
        browsed = browse(scene, people, visits, working, rng, batch=0, week=week + 1)

        messages = messages_table(scene, people, sent, batch=week + 1)
        column = messages.column_names.index("decision_id")
        ids = arrow.strings(list(dealt.decision_id))
        messages = messages.set_column(column, "decision_id", arrow.pick(ids, decision))
        gone = np.flatnonzero(~np.isnan(sent.unsubscribed))
        channels = [channel.name for channel in scene.world.messages.channels]
        return self._known({
            "events": browsed.events,
            "orders": browsed.orders,
            "messages": messages,
            "consents": pa.table({
                "user_id": arrow.pick(people.ids, sent.person[gone]),
                "purpose": arrow.pick(arrow.strings(channels), sent.channel[gone]),
                "granted": pa.array(np.zeros(len(gone), dtype=bool)),
                "at": arrow.times(sent.unsubscribed[gone], scene.calendar.start_us),
            }),
            "outcomes": self._outcomes(week, sent, browsed.conversions, decision=decision, offer=offer, ids=ids),
        }, end)  # fmt: skip

    def _day(self, week: int) -> int:
        return self.days + week * DAYS_PER_WEEK

    def _to_send(self, day: float, person: np.ndarray, offer: np.ndarray) -> dict[str, np.ndarray]:
        """The messages that tell of offers, and the week's campaigns to those who have not unsubscribed."""
        scene, rng, n = self._scene, self._rng, len(person)
        messages = scene.world.messages
        hour = rng.uniform(messages.first_hour, messages.last_hour, n)
        at = scene.calendar.at_hour(np.full(n, int(day)), hour, self._people.country[person])
        telling = {
            "person": person,
            "channel": np.zeros(n, int),
            "campaign": np.full(n, -1),
            "offer": offer,
            "variant": np.full(n, -1),
            "probability": np.full(n, np.nan),
            "decided": np.ones(n, bool),
            "silent": np.zeros(n, bool),
            "sent": np.maximum(at, day + 1 / 1440),
        }
        also = self._campaigns
        still = self._left[also["person"], also["channel"]] > day
        now = (also["sent"] >= day) & (also["sent"] < day + DAYS_PER_WEEK) & still
        rows = {name: np.concatenate([telling[name], also[name][now]]) for name in telling}
        order = np.lexsort((rows["sent"], rows["channel"], rows["person"]))
        return {name: values[order] for name, values in rows.items()}

    def _outcomes(
        self, week: int, sent: Sent, conversions: Conversions, *, decision: np.ndarray, offer: np.ndarray, ids: pa.Array
    ) -> pa.Table:
        """What the shop saw of the week's decisions; `decision` is each message's, or -1."""
        told = np.flatnonzero((decision >= 0) & np.isnan(sent.bounced))
        seen = np.where(np.isnan(sent.machine_opened), sent.opened, np.nan)
        times = [at[told] for at in (sent.sent, seen, sent.clicked, sent.unsubscribed)]
        about = np.concatenate([*[decision[told]] * len(times), conversions.decision])
        at = np.concatenate([*times, conversions.at])
        value = np.concatenate([np.full(len(told) * len(times), np.nan), conversions.value])
        kind = np.concatenate([np.repeat(np.arange(len(times)), len(told)), np.full(len(conversions.at), len(times))])
        happened = np.flatnonzero(~np.isnan(at))
        order = happened[np.lexsort((kind[happened], at[happened], about[happened]))]
        return pa.table({
            "outcome_id": arrow.numbered(f"c0w{week + 1}-", np.arange(len(order))),
            "decision_id": arrow.pick(ids, about[order]),
            "chosen_id": arrow.pick(arrow.strings(list(self.offers)), offer[about[order]]),
            "position": pa.array(np.zeros(len(order), np.int64)),
            "kind": arrow.pick(arrow.strings(list(KINDS)), kind[order]),
            "at": arrow.times(at[order], self._scene.calendar.start_us),
            "value": arrow.numbers(value[order]),
        })  # fmt: skip

    def _note_unsubscribed(self, sent: Sent) -> None:
        gone = np.flatnonzero(~np.isnan(sent.unsubscribed))
        np.minimum.at(self._left, (sent.person[gone], sent.channel[gone]), sent.unsubscribed[gone])

    def _known(self, fresh: dict[str, pa.Table], day: float) -> dict[str, pa.Table]:
        """The rows that have happened by `day`, of these and of those kept back before; the others are kept back."""
        until = pa.scalar(self._scene.calendar.start_us + int(day * 86_400e6), pa.timestamp("us", "UTC"))
        known = {}
        for name in {**self._pending, **fresh}:
            rows = pa.concat_tables([t for t in (self._pending.get(name), fresh.get(name)) if t is not None])
            happened = TABLES[name].happened_at
            if happened is not None and happened in rows.column_names:
                soon = pc.less(rows[happened], until)
                self._pending[name] = rows.filter(pc.invert(soon))
                rows = rows.filter(soon)
            if len(rows):
                known[name] = rows
        return known


def _places(known: dict[str, int], asked: Sequence[str], what: str) -> np.ndarray:
    try:
        return np.array([known[one] for one in asked], dtype=np.int64)
    except KeyError as error:
        raise DataError(f"{error} is no {what} of this world. Ask about `asked(week)`.") from error
