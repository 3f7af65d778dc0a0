"""Behind `/v1/offers`: which offers there are, what each is expected to bring of somebody, and which they get."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from data.errors import WorkspaceError
from data.settings import Settings
from data.state import State
from data.state.reads import Newest
from data.tables import Tables
from features.answers import own_answers
from features.expressions import Expression
from features.rules import Rule, parse_rule
from features.segments import members
from features.segments import parsed as segments_of
from models.offers import NOTHING, USUAL, OfferModel
from serving.champions import Champion
from serving.channels import refuse_channel
from serving.decisions.ids import new_decision_id
from serving.decisions.offers import Offer, Profit, Withheld, ranked, withheld
from serving.decisions.rules import PERSONALISATION, Contact, Person, Suppressed, consents, held_back
from serving.decisions.triggers import unknown
from serving.offered import Offered
from serving.profiles import Profiles, Row
from serving.schemas import OffersAsk
from serving.upserted import changed, records, there

COLUMNS = (
    "offer_id", "name", "kind", "cost", "min_spend", "category", "channels", "segment", "starts_at", "ends_at",
    "max_redemptions",
)  # fmt: skip
log = logging.getLogger("attune")

USUAL_SETTING = "[offers].usual"
ROWS_AT_ONCE = 10_000
"""Of features that are looked at together: bounds the memory."""


@dataclass(frozen=True, eq=False)
class _Told:
    """What is worked out for all rows of a frame of features at once.

    Attributes:
        profit: Expected, its low and high end, and the chance to be the best, by row and arm of the model; None
            without a model.
        usual: What the shop's rule says of each row.
        segments: By name, who is in it.
    """

    profit: tuple[np.ndarray, ...] | None
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
            WorkspaceError: the usual rule or a segment cannot be read, or names what is no feature or no offer; says
                where.
            StateUnavailableError: the state cannot be read.
        """
        self._settings, self._tables, self._state, self._profiles = settings, tables, state, profiles
        self.champion = champion
        self._model = _model_of(champion, profiles)
        self._version = str(champion) if self._model is not None else "usual"
        offers = None if tables is None else there(tables, state, "offers", "offer_id")
        self._rule = _rule_of(settings, profiles, offers)
        self._segments = segments_of(settings.segments)
        self._checked = {} if tables is None else _of_rows(tables["offers"].select(*COLUMNS).execute())
        self._told: dict[int, _Told] = {}
        self._answers = _answers_of(tables, self._model)
        self.prepare()
        self._stranger = self._of_nobody()
        self.offers: Mapping[str, Offer] = {}
        self._newest: Newest | None = None
        self.refresh()

    def under(self, champion: Champion | None) -> Offering:
        """The same with another champion."""
        return Offering(self._settings, self._tables, self._state, self._profiles, champion)

    def refresh(self) -> None:
        """Take over what changed in the state.

        Raises:
            StateUnavailableError: it cannot be read.
        """
        if (found := changed(self._state, "offers", COLUMNS, self._newest)) is None:
            return
        newest, rows = found
        offers = {**self._checked, **_of_rows(rows)}
        self.offers = {name: offers[name] for name in sorted(offers) if name != NOTHING}
        self._newest = newest

    def prepare(self) -> None:
        """Work out what offers bring of those whose features are new, so that no request waits for it."""
        for frame in [] if self._profiles is None else self._profiles.frames:
            if id(frame) not in self._told:
                self._of_frame(frame)

    def decide(self, person: Person, ask: OffersAsk, *, now: datetime, at: datetime | None = None) -> Offered:
        """The offers of one person; nothing is counted or stored here.

        Args:
            person: Whose.
            ask: The request.
            now: When it is decided.
            at: When they hear of it, by which offers begin and end and rules hold; by default now.

        Raises:
            FieldError: there is no such channel.
        """
        settings = self._settings
        refuse_channel(ask.channel, settings)
        row = self._profiles.row(ask.user_id) if self._profiles is not None and ask.user_id else None
        if row is None or not consents(person, PERSONALISATION, settings.rules):
            told, place = self._stranger, 0
        else:
            told, place = self._of_row(row), row.position
        candidates, against = self._candidates(person, ask, told, place, at or now)
        profits = self._profits(told, place, candidates, ask.channel)
        model, usual = self._model, str(told.usual[place])
        policy = USUAL if model is None else model.policy
        held = None if self._rule is None else usual
        order = ranked(profits, candidates, policy=usual if policy == USUAL else policy, usual=held)
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
        self, person: Person, ask: OffersAsk, told: _Told, place: int, at: datetime
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
            found = withheld(offer, now=at, channel=ask.channel, segments=segments, cart_value=ask.cart_value)
            if found is None:
                about = (offer.category,) if offer.category else ()
                if about not in rules:
                    contact = Contact(ask.channel, categories=about)
                    rules[about] = held_back(person, contact, self._settings, now=at)
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
        rows = [values[place].tolist() for values in told.profit]
        for arm, expected, low, high, best in zip(model.arms, *rows, strict=True):
            if arm == NOTHING:
                found[arm] = Profit(0.0, 0.0, 0.0, best)
            elif arm in candidates:
                found[arm] = Profit(expected - dearer, low - dearer, high - dearer, best)
        return found

    def _of_row(self, row: Row) -> _Told:
        """What is worked out for the frame that a row is in: everybody's, or that of those touched since."""
        return self._told.get(id(row.frame)) or self._of_frame(row.frame)

    def _of_frame(self, frame: pd.DataFrame) -> _Told:
        n = len(frame)
        profit = None
        if self._model is not None:
            starts = range(0, max(n, 1), ROWS_AT_ONCE)
            parts = [self._model.predict(self._with_answers(frame.iloc[at : at + ROWS_AT_ONCE])) for at in starts]
            columns = zip(*((part.profit, part.low, part.high, part.best) for part in parts), strict=True)
            profit = tuple(np.concatenate(column) for column in columns)
        told = _Told(
            profit,
            np.full(n, NOTHING, dtype=object) if self._rule is None or not n else _said(self._rule, frame),
            members(self._segments, frame),
        )
        self._told[id(frame)] = told
        weakref.finalize(frame, _forget, weakref.ref(self), id(frame)).atexit = False
        return told

    def _with_answers(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Features with how each person answered offers before, where the model reads it."""
        if self._answers is None:
            return frame
        return frame.join(self._answers.reindex(frame.index, fill_value=0.0))

    def _of_nobody(self) -> _Told:
        """A stranger: the averages, in no segment; the usual rule says what it says of all others."""
        usual = NOTHING if self._rule is None else self._rule.otherwise
        profit = None
        if self._model is not None:
            found = self._model.of_stranger()
            profit = found.profit, found.low, found.high, found.best
        return _Told(profit, np.array([usual], dtype=object), {})


def _forget(offering: weakref.ref[Offering], frame_id: int) -> None:
    """What was worked out for a frame goes with it."""
    if (kept := offering()) is not None:
        kept._told.pop(frame_id, None)


def _model_of(champion: Champion | None, profiles: Profiles | None) -> OfferModel | None:
    """What tells offers apart, if it can be asked here."""
    if champion is None or not isinstance(champion.model, OfferModel):
        return None
    known = () if profiles is None else profiles.columns
    if lacking := [name for name in champion.model.features if name not in known]:
        log.error("%s is not asked: it reads %r, which is no feature here. Train anew.", champion, lacking[0])
        return None
    return champion.model


def _answers_of(tables: Tables | None, model: OfferModel | None) -> pd.DataFrame | None:
    """How everybody answered each offer so far, by user_id, if the model reads it: who has no row was told of none."""
    if tables is None or model is None or not model.reads_answers:
        return None
    people = tables["messages"].select("user_id").distinct().execute()
    found = own_answers(tables, people.assign(at=pd.Timestamp.now(tz=UTC)), model.arms[1:]).set_axis(people["user_id"])
    return found[found.any(axis=1)]


def _rule_of(settings: Settings, profiles: Profiles | None, offers: Collection[str] | None) -> Rule | None:
    """The shop's rule; what is not known yet, features or offers, it is not held against."""
    if not settings.offers.usual:
        return None
    try:
        rule = parse_rule(settings.offers.usual)
        conditions: list[Expression] = [condition for condition, _ in rule.parts]
        if profiles is not None:
            for condition in conditions:
                condition.mask(profiles.example)
    except (WorkspaceError, ValueError) as error:
        raise WorkspaceError(f"{USUAL_SETTING}: {error}") from error
    for arm in rule.arms:
        if offers is not None and arm not in (NOTHING, *offers):
            raise WorkspaceError(f"{USUAL_SETTING}: {unknown(arm, 'offer', [NOTHING, *offers])}")
    return rule


def _said(rule: Rule, frame: pd.DataFrame) -> np.ndarray:
    """What a rule gives each row, ids (n,)."""
    arms = list(dict.fromkeys([NOTHING, *rule.arms]))
    return np.asarray(arms, dtype=object)[rule.codes(frame, arms)]


def _of_rows(rows: pd.DataFrame) -> dict[str, Offer]:
    """Offers by id; that of nothing is always there and is not among them."""
    found = {}
    for told in records(rows):
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
