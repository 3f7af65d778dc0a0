"""Behind `/v1/offers`: which offers there are, what each is expected to bring of somebody, and which they get."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from data.errors import WorkspaceError
from data.settings import Settings
from data.state import State
from data.state.counting import take, used
from data.state.schema import tables as state_tables
from data.state.writes import append
from data.tables import Tables
from features.expressions import Expression
from features.rules import Rule, parse_rule
from features.segments import parsed as segments_of
from models.offers import NOTHING, OfferModel
from serving.champions import Champion
from serving.decisions.ids import new_decision_id
from serving.decisions.offers import Given, Offer, Profit, Withheld, give, ranked, withheld
from serving.decisions.rules import PERSONALISATION, Contact, Person, Suppressed, consents, held_back
from serving.profiles import Profiles, Row
from serving.schemas import OffersAsk, RankedOffer, WithheldOffer

GIVEN, REDEMPTIONS, BUDGET = "offer given", "offer redemptions", "offer budget"
"""What the state counts: offers by person, offers over all, and money by period."""
DAY_SECONDS = 86_400
COLUMNS = (
    "offer_id", "name", "kind", "cost", "min_spend", "category", "channels", "segment", "starts_at", "ends_at",
    "max_redemptions",
)  # fmt: skip
USUAL = "[offers].usual"
NOT_STORED = "not_stored"


@dataclass(frozen=True)
class Offered:
    """Offers for a person, before what is limited was taken and the decision stored: `store` does both.

    Attributes:
        decision_id: Of the decision.
        person: Whose.
        ask: The request.
        now: When.
        offers: The candidates but no offer, by id.
        order: Candidates and no offer, the best first.
        profits: What each is expected to bring, by id.
        against: What is no candidate, and why.
        usual: What the shop's rule says.
        model_version: What answers.
        degraded: Whether a fallback does.
        settings: The workspace's.
    """

    decision_id: str
    person: Person
    ask: OffersAsk
    now: datetime
    offers: Mapping[str, Offer]
    order: Sequence[str]
    profits: Mapping[str, Profit]
    against: Sequence[Withheld]
    usual: str
    model_version: str
    degraded: bool
    settings: Settings = field(repr=False)

    @cached_property
    def given(self) -> Given:
        """What the person gets, by their arm."""
        return give(
            self.person.arm.name,
            self.order,
            usual=self.usual,
            user_id=self._who,
            salt=self.settings.shop.salt,
            horizon_days=self.settings.offers.horizon_days,
            now=self.now,
            k=self.ask.k,
        )

    @property
    def items(self) -> list[RankedOffer]:
        """The offers to be made, the best first; none where no offer is best."""
        return [self._told(offer_id) for offer_id in self.given.chosen if offer_id != NOTHING]

    @property
    def suppressed(self) -> list[WithheldOffer]:
        """What is no candidate, and why."""
        return [WithheldOffer(offer_id=one.offer_id, rule=one.rule, reason=one.reason) for one in self.against]

    @property
    def note(self) -> str | None:
        """Why there is no offer."""
        if self.given.chosen != (NOTHING,):
            return None
        if not self.offers:
            reasons = dict.fromkeys(one.reason for one in self.against)
            return f"no offer may be made: {'; '.join(reasons) or 'there is none'}"
        if self.person.arm.name != "model":
            return f"no offer, in the arm {self.person.arm.name}"
        best = max((offer for offer in self.offers if offer in self.profits), key=self._expected, default=None)
        if best is None:
            return "no offer: what each would bring is not known yet"
        return f"no offer: the best, {self._name(best)}, {self._in_words(best)}"

    @property
    def limited(self) -> bool:
        """Whether anything is to be counted."""
        return self.settings.offers.budget is not None or any(
            offer.max_redemptions is not None for offer in self.offers.values()
        )

    def store(self, connection: sa.Connection) -> Offered:
        """Take what the given offers use up and store the decision, in one transaction; what is given in the end.

        An offer of which nothing is left is no candidate, so that chances are those of the others. Whoever got an
        offer before gets it again without using up another one.
        """
        found = self._without(self._used_up(connection))
        while (short := found._take(connection)) is not None:
            found = found._without([short])
        append(connection, "decisions", [found.decision])
        return found

    def unstored(self) -> Offered:
        """What may be given when nothing can be counted or stored: nothing that is limited."""
        reason = "it is limited, and the state cannot count now"
        every = self.settings.offers.budget is not None
        limited = [offer for offer in self.offers.values() if every or offer.max_redemptions is not None]
        return self._without([Withheld(offer.offer_id, NOT_STORED, reason) for offer in limited])

    @property
    def decision(self) -> dict[str, Any]:
        """The row of `decisions`."""
        context: dict[str, Any] = {"channel": self.ask.channel}
        if self.ask.k > 1:
            context["k"] = self.ask.k
        if self.ask.user_id is None:
            context["stranger"] = True
        suppressed = [{"id": one.offer_id, "rule": one.rule, "reason": one.reason} for one in self.against]
        return {
            "decision_id": self.decision_id,
            "user_id": self._who,
            "at": self.now,
            "kind": "offer",
            "placement": self.ask.placement,
            "arm": self.person.arm.name,
            "arm_share": self.person.arm.share,
            "chosen": list(self.given.chosen),
            "probability": list(self.given.probability),
            "candidates": list(self.order),
            "suppressed": json.dumps(suppressed) if suppressed else None,
            "model_version": self.model_version,
            "context": json.dumps(context),
        }

    @property
    def _who(self) -> str:
        return self.ask.user_id or self.ask.anonymous_id or f"stranger-{self.decision_id}"

    def _without(self, gone: Sequence[Withheld]) -> Offered:
        ids = {one.offer_id for one in gone}
        return replace(
            self,
            offers={name: offer for name, offer in self.offers.items() if name not in ids},
            order=[offer for offer in self.order if offer not in ids],
            against=[*self.against, *gone],
        )

    def _used_up(self, connection: sa.Connection) -> list[Withheld]:
        if not self.limited:
            return []
        mine, redemptions, budget = (
            used(connection, kind, user_id=user) for kind, user in ((GIVEN, self._who), (REDEMPTIONS, ""), (BUDGET, ""))
        )
        left = (self.settings.offers.budget or math.inf) - budget.get(self._period, 0.0)
        found = []
        for name, offer in self.offers.items():
            if mine.get(name):
                continue
            if offer.max_redemptions is not None and redemptions.get(name, 0.0) >= offer.max_redemptions:
                found.append(_exhausted(offer))
            elif self._cost(offer) > left:
                found.append(self._too_dear(offer))
        return found

    def _take(self, connection: sa.Connection) -> Withheld | None:
        """Use up what is given, all of it; or nothing, and what there was not enough of."""
        taken: list[tuple[str, str, float, str]] = []
        for name in self.given.chosen:
            offer = self.offers.get(name)
            if offer is None or not self.limited or not take(connection, GIVEN, name, limit=1, user_id=self._who):
                continue
            taken.append((GIVEN, name, 1.0, self._who))
            limit, budget = offer.max_redemptions, self.settings.offers.budget
            if limit is not None:
                if not take(connection, REDEMPTIONS, name, limit=limit):
                    return _given_back(connection, taken, _exhausted(offer))
                taken.append((REDEMPTIONS, name, 1.0, ""))
            if budget is not None:
                cost = self._cost(offer)
                if not take(connection, BUDGET, self._period, limit=budget, amount=cost):
                    return _given_back(connection, taken, self._too_dear(offer))
                taken.append((BUDGET, self._period, cost, ""))
        return None

    @property
    def _period(self) -> str:
        return str(int(self.now.timestamp()) // (self.settings.offers.budget_days * DAY_SECONDS))

    def _cost(self, offer: Offer) -> float:
        return offer.cost + self.settings.offers.contact_costs.get(self.ask.channel, 0.0)

    def _too_dear(self, offer: Offer) -> Withheld:
        days = self.settings.offers.budget_days
        return Withheld(offer.offer_id, "budget", f"the budget of these {days} days does not reach for it")

    def _expected(self, offer_id: str) -> float:
        return self.profits[offer_id].expected

    def _name(self, offer_id: str) -> str:
        return self.offers[offer_id].name or offer_id

    def _in_words(self, offer_id: str) -> str:
        profit, currency = self.profits[offer_id], self.settings.shop.currency
        return (
            f"is expected to bring {profit.expected:+.2f} {currency} against no offer within "
            f"{self.settings.offers.horizon_days} days, after its cost ({profit.low:+.2f} to {profit.high:+.2f})"
        )

    def _told(self, offer_id: str) -> RankedOffer:
        profit = self.profits.get(offer_id)
        return RankedOffer(
            offer_id=offer_id,
            name=self.offers[offer_id].name,
            expected_profit=None if profit is None else profit.expected,
            low=None if profit is None else profit.low,
            high=None if profit is None else profit.high,
            reason="what it brings is not known yet" if profit is None else self._in_words(offer_id),
        )


@dataclass(frozen=True, eq=False)
class _Told:
    """What is worked out for all rows of a frame of features at once.

    Attributes:
        profit: Expected, its low and high end, by row and arm of the model; None without a model.
        usual: What the shop's rule says of each row.
        segments: By name, who is in it.
    """

    profit: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    usual: np.ndarray
    segments: Mapping[str, np.ndarray]


class Offering:
    """Decides about offers from the champion, everybody's features and the offers as they are now.

    Attributes:
        champion: What tells the offers apart; None = the shop's usual rule decides.
        offers: As they are now, by id.
    """

    def __init__(
        self,
        settings: Settings,
        tables: Tables | None,
        state: State,
        profiles: Profiles | None,
        champion: Champion | None = None,
    ) -> None:
        """Read the offers, and work out what each brings of everybody.

        Raises:
            WorkspaceError: the usual rule or a segment cannot be read, or names what is no feature; says where.
        """
        self._settings, self._tables, self._state, self._profiles = settings, tables, state, profiles
        self.champion = champion
        self._model = champion.model if champion is not None and isinstance(champion.model, OfferModel) else None
        self._version = str(champion) if self._model is not None else "usual"
        self._rule = _rule_of(settings, profiles)
        self._segments = segments_of(settings.segments)
        self._checked = {} if tables is None else _of_rows(tables["offers"].select(*COLUMNS).execute())
        self._told: dict[int, _Told] = {}
        self.prepare()
        self._stranger = self._of_nobody()
        self.offers: Mapping[str, Offer] = {}
        self.refresh()

    def under(self, champion: Champion | None) -> Offering:
        """The same with another champion."""
        return Offering(self._settings, self._tables, self._state, self._profiles, champion)

    def refresh(self) -> None:
        """Take over what changed in the state.

        Raises:
            StateUnavailableError: it cannot be read.
        """
        table = state_tables["offers"]
        with self._state.reading() as connection:
            found = connection.execute(sa.select(*(table.c[name] for name in COLUMNS))).all()
        changed = _of_rows(pd.DataFrame(found, columns=list(COLUMNS), dtype=object))
        offers = {**self._checked, **changed}
        self.offers = {name: offers[name] for name in sorted(offers) if name != NOTHING}

    def prepare(self) -> None:
        """Work out what offers bring of those whose features are new, so that no request waits for it."""
        for frame in [] if self._profiles is None else self._profiles.frames:
            if id(frame) not in self._told:
                self._of_frame(frame)

    def decide(self, person: Person, ask: OffersAsk, *, now: datetime) -> Offered:
        """The offers of one person; nothing is counted or stored here."""
        settings = self._settings
        row = self._profiles.row(ask.user_id) if self._profiles is not None and ask.user_id else None
        if row is None or not consents(person, PERSONALISATION, settings.rules):
            told, place = self._stranger, 0
        else:
            told, place = self._of_row(row), row.position
        candidates, against = self._candidates(person, ask, told, place, now)
        profits = self._profits(told, place, candidates, ask.channel)
        model, usual = self._model, str(told.usual[place])
        order = ranked(profits, candidates, policy=usual if model is None else model.policy)
        return Offered(
            decision_id=new_decision_id(now),
            person=person,
            ask=ask,
            now=now,
            offers={name: self.offers[name] for name in candidates},
            order=order,
            profits=profits,
            against=against,
            usual=usual,
            model_version={"model": self._version, "random": "even"}.get(person.arm.name, person.arm.name),
            degraded=self._model is None or not person.live,
            settings=settings,
        )

    def _candidates(
        self, person: Person, ask: OffersAsk, told: _Told, place: int, now: datetime
    ) -> tuple[list[str], list[Withheld]]:
        """Ids of the offers that may be given, and what speaks against the others."""
        offers = dict(self.offers)
        against = [Withheld(name, "asked", "there is no such offer") for name in ask.offers or () if name not in offers]
        segments = {name for name, holds in told.segments.items() if holds[place]}
        candidates = []
        rules: dict[tuple[str, ...], tuple[Suppressed, ...]] = {}  # most offers are for all categories
        for name, offer in offers.items():
            if ask.offers is not None and name not in ask.offers:
                continue
            found = withheld(
                offer, now=now, channel=ask.channel, segments=segments, cart_value=ask.cart_value, only=ask.offers
            )
            if found is None:
                about = (offer.category,) if offer.category else ()
                if about not in rules:
                    contact = Contact(ask.channel, categories=about)
                    rules[about] = held_back(person, contact, self._settings, now=now)
                for one in rules[about][:1]:
                    found = Withheld(name, one.rule, one.reason)
            if found is None:
                candidates.append(name)
            else:
                against.append(found)
        return candidates, against

    def _profits(self, told: _Told, place: int, candidates: Sequence[str], channel: str) -> dict[str, Profit]:
        """Of the candidates that the model knows, after what the contact costs on this channel."""
        model = self._model
        if model is None or told.profit is None:
            return {}
        dearer = self._settings.offers.contact_costs.get(channel, 0.0) - model.contact_cost
        found = {}
        for code, arm in enumerate(model.arms):
            if code and arm in candidates:
                found[arm] = Profit(*(float(values[place, code]) - dearer for values in told.profit))
        return found

    def _of_row(self, row: Row) -> _Told:
        """What is worked out for the frame that a row is in: everybody's, or that of those touched since."""
        return self._told.get(id(row.frame)) or self._of_frame(row.frame)

    def _of_frame(self, frame: pd.DataFrame) -> _Told:
        n = len(frame)
        profit = None
        if self._model is not None:
            found = self._model.predict(frame)
            profit = found.profit, found.low, found.high
        told = _Told(
            profit,
            np.full(n, NOTHING, dtype=object) if self._rule is None or not n else _said(self._rule, frame),
            {
                name: condition.mask(frame)
                for name, condition in self._segments.items()
                if n and not set(condition.names) - set(frame.columns)
            },
        )
        self._told[id(frame)] = told
        weakref.finalize(frame, self._told.pop, id(frame), None).atexit = False  # it goes with the frame
        return told

    def _of_nobody(self) -> _Told:
        """A stranger: the averages, in no segment; the usual rule says what it says of all others."""
        usual = NOTHING if self._rule is None else self._rule.otherwise
        profit = None
        if self._model is not None:
            found = self._model.of_stranger()
            profit = found.profit, found.low, found.high
        return _Told(profit, np.array([usual], dtype=object), {})


def _rule_of(settings: Settings, profiles: Profiles | None) -> Rule | None:
    if not settings.offers.usual:
        return None
    rule = parse_rule(settings.offers.usual)
    conditions: list[Expression] = [condition for condition, _ in rule.parts]
    if profiles is not None:
        try:
            for condition in conditions:
                condition.check(profiles.columns)
        except (WorkspaceError, ValueError) as error:
            raise WorkspaceError(f"{USUAL}: {error}") from error
    return rule


def _said(rule: Rule, frame: pd.DataFrame) -> np.ndarray:
    """What a rule gives each row, ids (n,)."""
    arms = list(dict.fromkeys([NOTHING, *(arm for _, arm in rule.parts), rule.otherwise]))
    return np.asarray(arms, dtype=object)[rule.codes(frame, arms)]


def _of_rows(rows: pd.DataFrame) -> dict[str, Offer]:
    """Offers by id; that of nothing is always there and is not among them."""
    found = {}
    for row in rows.to_dict("records"):
        told = {str(name): None if _missing(value) else value for name, value in row.items()}
        if told["kind"] == NOTHING:
            continue
        offer = Offer(
            offer_id=str(told["offer_id"]),
            name=told["name"],
            cost=float(told["cost"] or 0.0),
            min_spend=told["min_spend"],
            category=told["category"],
            channels=None if told["channels"] is None or not len(told["channels"]) else frozenset(told["channels"]),
            segment=told["segment"],
            starts_at=told["starts_at"],
            ends_at=told["ends_at"],
            max_redemptions=None if told["max_redemptions"] is None else int(told["max_redemptions"]),
        )
        found[offer.offer_id] = offer
    return found


def _missing(value: object) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _exhausted(offer: Offer) -> Withheld:
    return Withheld(offer.offer_id, "max_redemptions", f"all {offer.max_redemptions} are given")


def _given_back(connection: sa.Connection, taken: Sequence[tuple[str, str, float, str]], short: Withheld) -> Withheld:
    for kind, about, amount, user_id in taken:
        take(connection, kind, about, limit=math.inf, amount=-amount, user_id=user_id)
    return short
