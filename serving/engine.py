"""What answers the requests: models, catalogue and histories behind plain functions, without HTTP."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from data.errors import DataError, StateUnavailableError, WorkspaceError
from data.histories import Step
from data.settings import Settings
from data.state import State, keys
from data.state.reads import Touch, Watermarks, Who, recent, unlike
from data.state.tombstones import stranger
from data.tables import Tables
from data.workspace import Workspace
from features import profile
from features.expressions import Expression, parse
from features.segments import lifecycle_of, members
from features.segments import parsed as segments_of
from features.snapshots import lacking
from features.words import in_words
from models.offers import OfferModel
from models.recommenders import Recommender
from models.timing import Timing
from models.variants import VariantModel
from models.worth import CustomerValue
from serving.acting import Acting
from serving.catalogue import Catalogue
from serving.champions import OFFERS, PROPENSITY, RECOMMENDER, SEND_TIME, VALUE, VARIANTS, Champion, Champions
from serving.channels import refuse_channel
from serving.contacting import Acted
from serving.decisions.ids import new_decision_id, rng_of
from serving.decisions.rules import PERSONALISATION, Person, consents
from serving.filling import Filling
from serving.offered import Offered
from serving.offering import Offering
from serving.past import Past
from serving.people import People
from serving.placements import Placements
from serving.profiles import Profiles
from serving.recommending import (
    EVERYBODY,
    FieldError,
    Ranked,
    View,
    at_random,
    for_everybody,
    recommend,
    similar,
    steps_of,
)
from serving.schemas import (
    ActionsAsk,
    OffersAsk,
    Propensity,
    RankedItem,
    Reason,
    RecommendAsk,
    ScoreAsk,
    SendTime,
    SimilarAsk,
    Status,
    UserScore,
    VariantsAsk,
    Worth,
)
from serving.sending import no_time, send_times
from serving.varying import Varied, Varying

log = logging.getLogger("attune")
T = TypeVar("T")

IMPERSONAL = ("usual", "holdout")
"""Arms in which items are what everybody gets."""


@dataclass(frozen=True)
class Recommended:
    """Items for a person, and the decision to be stored.

    Attributes:
        items: Best first.
        model_version: What answered.
        degraded: Whether a fallback did.
        note: Why there are no items.
        decision: A row of `decisions`.
    """

    items: list[RankedItem]
    model_version: str
    degraded: bool
    note: str | None
    decision: Mapping[str, Any]


@dataclass(frozen=True)
class Similar:
    """Items like one item.

    Attributes:
        items: The most alike first.
        model_version: What answered.
        degraded: Whether a fallback did.
    """

    items: list[RankedItem]
    model_version: str
    degraded: bool


@dataclass(frozen=True)
class Scored:
    """What is expected of customers.

    Attributes:
        users: In the order asked.
        model_version: What answered.
        warnings: Why the scores are to be read with care.
        decisions: Rows of `decisions`: the hours to send at.
    """

    users: list[UserScore]
    model_version: str
    warnings: list[str]
    decisions: list[dict[str, Any]]


class Engine:
    """Answers requests from what is loaded.

    Every method may run in many threads at once, but for `load` and those that refresh: of each of them, one.

    Attributes:
        workspace: The shop's folder.
        settings: Its settings.
        placements: Where items are shown, and by which rules.
        attributes: What of a user's attributes may be used.
        state: The live state.
        champions: The versions in force.
        view: What recommendations come from.
        profiles: The customers' features; None where nothing was checked.
        people: What rules need to know of them.
        acting: Tells what is due for them; None where nothing was checked.
        offering: Decides about offers.
        varying: Decides about variants.
        api_keys: Keys in force, by id.
    """

    def __init__(self, workspace: Workspace) -> None:
        """Open what is there; nothing is read yet.

        Raises:
            WorkspaceError: a placement's filter cannot be read.
        """
        self.workspace = workspace
        self.settings: Settings = workspace.settings
        self.placements = Placements(self.settings.placements, columns=self.settings.recommender.item_columns)
        self.attributes = _attributes_allowed(self.settings)
        self.state = State.of(workspace)
        self.champions = Champions(workspace)
        self.api_keys = keys.in_force(self.state)
        self.view = View(None, Past.of(None, self.settings.recommender), Catalogue.of(Tables.from_frames()))
        self.profiles: Profiles | None = None
        self.acting: Acting | None = None
        self.offering = Offering(self.settings, None, self.state, None)
        self.varying = Varying(self.settings, None, self.state, None)
        self.people = People(self.settings, None, self.state, Watermarks(), now=datetime.now(UTC))
        self._checked = ""
        self._at: datetime | None = None
        self._troubles: Mapping[str, str] = {}
        self._changing = threading.Lock()

    @property
    def status(self) -> Status:
        """What answers, and what does not."""
        return Status(
            ready=True,
            model_versions={name: str(champion.number) for name, champion in self.champions.current.items()},
            degraded=self.view.champion is None,
            troubles={**self.champions.troubles, **self._troubles, **self._unread},
        )

    def load(self, *, at: datetime | None = None) -> None:
        """Read everything; takes as long as the tables are large.

        Args:
            at: The earliest moment that will be asked of: caps count what was sent before it, and nothing that came
                after the moment asked of. By default this one.
        """
        started = time.monotonic()
        self._at = at
        self.champions.refresh()
        self._load_checked()
        self.refresh()
        log.info("loaded in %.1f s: %s", time.monotonic() - started, self.view.version)

    def refresh_access(self) -> None:
        """Take over who was erased and which keys are in force; nothing else may keep that waiting, or make it fail."""
        with self.state.reading() as connection:
            self.state.tombstones.refresh(connection)
        self.api_keys = keys.in_force(self.state)

    def refresh(self) -> None:
        """Take over what changed in the state: the catalogue, the offers and the variants."""
        with self._changing:
            catalogue = self.view.catalogue.refreshed(self.state)
            if catalogue is not self.view.catalogue:
                self.view = replace(self.view, catalogue=catalogue).prepared()
        self.offering.refresh()
        self.varying.refresh()

    def refresh_profiles(self) -> None:
        """Compute the features of those who did something since; of many people it takes long."""
        if self.profiles is not None and self.profiles.refresh():
            self.offering.prepare()

    def refresh_models(self) -> None:
        """Take over new champions, newly checked tables and newly built features."""
        self.champions.refresh()
        # Each by itself, whatever changed: what could not be taken over while the state was away is so the next time.
        if (champion := self.champions.current.get(RECOMMENDER)) is not self.view.champion:
            with self._changing:
                self.view = replace(self.view, champion=champion).prepared()
        if (champion := self.champions.current.get(OFFERS)) is not self.offering.champion:
            self.offering = self.offering.under(champion)
        if (champion := self.champions.current.get(VARIANTS)) is not self.varying.champion:
            varying = self.varying.under(champion)
            varying.learn()
            self.varying = varying
        self.varying.learn()
        if self._stamp() != self._checked or (self.profiles is not None and self.profiles.outdated):
            try:
                self._load_checked()
            except Exception as error:
                if isinstance(error, StateUnavailableError):
                    self._checked = ""  # to be read again
                told = "What was checked last is not in force, what was before stays; the log tells why"
                self._troubles = {**self._troubles, "tables": f"{told} ({type(error).__name__})."}
                raise

    def recommend(self, ask: RecommendAsk) -> Recommended:
        """Rank items for whoever asks.

        Raises:
            DataError: a filter that cannot be read, an attribute that is none, or too large a k.
        """
        return _told(self.recommend_each([ask])[0])

    def recommend_each(self, asks: Sequence[RecommendAsk]) -> list[Recommended | Exception]:
        """As `recommend`, for several who ask at once: what the state knows of them is read together.

        In the place of what would be raised for one of them stands the error; the others are answered.
        """
        now = datetime.now(UTC)
        people = self.people.of([ask.user_id or ask.anonymous_id for ask in asks], now=now, consents_only=True)
        return self._recommended(people, asks, now=now)

    def recommend_to(
        self, person: Person, ask: RecommendAsk, *, now: datetime, channel: str | None = None
    ) -> Recommended:
        """As `recommend`, to somebody whose facts are known already; of a message, on its channel."""
        return _told(self._recommended([person], [ask], now=now, channel=channel)[0])

    def offers_each(self, asks: Sequence[OffersAsk]) -> list[Offered | Exception]:
        """The offer for each who asks, or none; in the place of what would be raised stands the error.

        `store_offers` counts what is limited and stores the decisions.
        """
        now = datetime.now(UTC)
        people = self.people.of([ask.user_id or ask.anonymous_id for ask in asks], now=now)
        return [_tried(self.offering.decide, person, ask, now=now) for person, ask in zip(people, asks, strict=True)]

    def variants_each(self, asks: Sequence[VariantsAsk]) -> list[Varied | Exception]:
        """The variant of a slot for each who asks; in the place of what would be raised stands the error."""
        now = datetime.now(UTC)
        people = self.people.of([ask.user_id or ask.anonymous_id for ask in asks], now=now, consents_only=True)
        return [_tried(self.varying.decide, person, ask, now=now) for person, ask in zip(people, asks, strict=True)]

    def similar(self, ask: SimilarAsk) -> Similar:
        """Items like one item.

        Raises:
            UnknownItemError: nobody knows the item.
            DataError: a filter that cannot be read, or too large a k.
        """
        view = self.view
        self._check_k(ask.k)
        return Similar(similar(view, ask), view.version, view.champion is None)

    def act(self, user_ids: Sequence[str], *, now: datetime, channel: str | None = None) -> list[Acted]:
        """What is to be done for each of these people now (see `Acting.decide`).

        Raises:
            FieldError: there is no such channel.
            StateUnavailableError: the state cannot be read, so nobody knows what was sent.
        """
        refuse_channel(channel, self.settings)
        if self.acting is None:
            return [Acted(user_id) for user_id in user_ids]
        return self.acting.decide(user_ids, now=now, channel=channel)

    def act_each(self, asks: Sequence[ActionsAsk]) -> list[Acted | Exception]:
        """As `act`, now, for several who ask at once; in the place of what would be raised for one stands the error."""
        now = datetime.now(UTC)
        found: dict[tuple[str | None, str], Acted | Exception] = {}
        for channel in {ask.channel for ask in asks}:
            ids = list(dict.fromkeys(ask.user_id for ask in asks if ask.channel == channel))
            found |= {(channel, id_): acted for id_, acted in self._acted(ids, channel, now).items()}
        return [found[ask.channel, ask.user_id] for ask in asks]

    def _acted(self, user_ids: Sequence[str], channel: str | None, now: datetime) -> dict[str, Acted | Exception]:
        """By person. Somebody of whom it cannot be told does not keep the others from what is due for them."""
        found = _tried(self.act, user_ids, now=now, channel=channel)
        if not isinstance(found, Exception):
            return dict(zip(user_ids, found, strict=True))
        if len(user_ids) == 1 or isinstance(found, (FieldError, StateUnavailableError)):
            return dict.fromkeys(user_ids, found)
        return {id_: one for user_id in user_ids for id_, one in self._acted([user_id], channel, now).items()}

    def score(self, ask: ScoreAsk) -> Scored:
        """Propensities with their reasons, value, the hour and channel to write at, lifecycle stage and segments.

        Raises:
            FieldError: a model that there is not: no label of the settings, nor `value` or `send-time`.
        """
        known = [*self.settings.propensity, VALUE, SEND_TIME]
        asked = known if ask.models is None else ask.models
        if unknown := [name for name in asked if name not in known]:
            raise FieldError("models", f"{unknown[0]!r} is none of {', '.join(known)}; attune.toml declares the labels")
        labels = [name for name in asked if name in self.settings.propensity]
        champions = {label: self.champions.current.get(f"{PROPENSITY}{label}") for label in labels}
        if VALUE in asked:
            champions[VALUE] = self.champions.current.get(VALUE)
        people = self._people(ask.user_ids, champions)
        trouble = "" if self.profiles is None else self.profiles.trouble
        note = trouble or "not known: no row in users, events, orders or messages"
        nothing = UserScore(
            user_id="",
            scores={label: Propensity(probability=None, reasons=[], note=note) for label in labels},
            value=self._no_value(note) if VALUE in asked else None,
            lifecycle_stage=None,
            segments=[],
        )
        users = [people.get(user_id) or nothing.model_copy(update={"user_id": user_id}) for user_id in ask.user_ids]
        decisions: list[dict[str, Any]] = []
        if SEND_TIME in asked:
            champions[SEND_TIME] = self.champions.current.get(SEND_TIME)
            asked_of = list(dict.fromkeys(ask.user_ids))
            found, decisions = self.send_times(asked_of, champions[SEND_TIME], now=datetime.now(UTC))
            times = dict(zip(asked_of, found, strict=True))
            users = [user.model_copy(update={"send_time": times[user.user_id]}) for user in users]
        answered = [champion for champion in champions.values() if champion]
        return Scored(users, ", ".join(map(str, answered)) or "none", self._warnings(answered), decisions)

    def send_times(
        self, user_ids: Sequence[str], champion: Champion | None, *, now: datetime
    ) -> tuple[list[SendTime], list[dict[str, Any]]]:
        """When and where to write to each, with the decisions; or why that cannot be told."""
        if champion is None or not isinstance(champion.model, Timing):
            return [no_time(self.champions.troubles.get(SEND_TIME, "there is no model"))] * len(user_ids), []
        try:
            habits = self.profiles.habits(user_ids) if self.profiles else None
        except StateUnavailableError as error:
            log.warning("no hour is told: %s", error)
            return [no_time("the live state cannot be read now")] * len(user_ids), []
        if habits is None:
            return [no_time("no table tells which messages were opened")] * len(user_ids), []
        explore = self.settings.send_time.explore
        return send_times(champion.model, str(champion), habits, user_ids, explore=explore, now=now)

    def _warnings(self, answered: Sequence[Champion]) -> list[str]:
        """Which of the models that answer are stale."""
        limit, now = self.settings.drift.stale_after_horizons, datetime.now(UTC)
        ages = [((now - c.fitted_until) / timedelta(days=c.horizon_days), c) for c in answered if c.fitted_until]
        return [
            f"{champion} is stale: what it learnt from ended {age:.1f} horizons of {champion.horizon_days} days ago; "
            "train anew"
            for age, champion in ages
            if age > limit
        ]

    def _people(self, user_ids: Sequence[str], champions: Mapping[str, Champion | None]) -> dict[str, UserScore]:
        """Scores of those who are known, by id."""
        if self.profiles is None:
            return {}
        frame, ids = self.profiles.of(user_ids)
        if not ids:
            return {}
        asked = dict(champions)
        values = self._values(asked.pop(VALUE), frame) if VALUE in asked else [None] * len(frame)
        scores = {label: self._scores(label, champion, frame) for label, champion in asked.items()}
        stages: Sequence[str | None] = lifecycle_of(frame).tolist() if "orders_life" in frame else [None] * len(frame)
        segments = members(segments_of(self.settings.segments), frame)
        return {
            user_id: UserScore(
                user_id=user_id,
                scores={label: found[row] for label, found in scores.items()},
                value=values[row],
                lifecycle_stage=stages[row],
                segments=[name for name, holds in segments.items() if holds[row]],
            )
            for row, user_id in enumerate(ids)
        }

    def _values(self, champion: Champion | None, frame: pd.DataFrame) -> list[Worth | None]:
        """What each row of a frame of features is worth."""
        if champion is None or not isinstance(champion.model, CustomerValue):
            return [self._no_value(self.champions.troubles.get(VALUE, "there is no model"))] * len(frame)
        try:
            worth, never = champion.model.predict(frame), self._no_value("has not ordered yet")
        except DataError as error:  # such as tables that lost the prices that it learnt from
            return [self._no_value(str(error))] * len(frame)
        names, columns = ("value", "low", "high", "orders"), (worth.value, worth.low, worth.high, worth.orders)
        about = {"horizon_days": champion.horizon_days, "currency": self.settings.shop.currency}
        rows = [dict(zip(names, row, strict=True)) for row in np.stack(columns, axis=1).round(6).tolist()]
        return [never if math.isnan(row["value"]) else Worth(**row, **about) for row in rows]

    def _no_value(self, note: str) -> Worth:
        empty = dict.fromkeys(("value", "low", "high", "orders", "horizon_days"))
        return Worth(**empty, currency=self.settings.shop.currency, note=note)

    def _scores(self, label: str, champion: Champion | None, frame: pd.DataFrame) -> list[Propensity]:
        """One propensity for each row of a frame of features."""
        others = Recommender | CustomerValue | Timing | OfferModel | VariantModel
        if champion is None or isinstance(champion.model, others):
            note = self.champions.troubles.get(f"{PROPENSITY}{label}", "there is no model")
            return [Propensity(probability=None, reasons=[], note=note)] * len(frame)
        population = self.population(label)
        try:
            asked_about, probabilities = population.mask(frame), champion.model.predict(frame)
            reasons = in_words(frame, champion.model.features, champion.model.contributions(frame))
        except (DataError, WorkspaceError) as error:  # such as tables whose columns are no longer of their kind
            return [Propensity(probability=None, reasons=[], note=str(error))] * len(frame)
        told = f"outside of whom {label} is asked about: {population.text}"
        outside = Propensity(probability=None, reasons=[], note=told)
        no_reason = None if champion.model.features else "nothing is known that tells people apart"
        return [
            Propensity(
                probability=float(probability),
                reasons=[Reason(feature=r.feature, value=r.value, effect=r.effect, text=r.text) for r in why],
                note=no_reason,
            )
            if inside
            else outside
            for inside, probability, why in zip(asked_about, probabilities, reasons, strict=True)
        ]

    def population(self, label: str) -> Expression:
        """Of whom a propensity is asked."""
        return parse(self.settings.propensity[label].population, place=f"propensity.{label}.population")

    def _profiles(self, tables: Tables, past: Past) -> Profiles | None:
        """None where settings and tables do not go together: recommendations need no features."""
        try:
            return Profiles(self.workspace, tables, self.state, past.until)
        except (DataError, WorkspaceError) as error:
            log.error("there are no features, so nobody can be scored: %s", error)  # noqa: TRY400
            return None

    def _troubles_of_state(self, tables: Tables, past: Past) -> dict[str, str]:
        """Why the state is not the one that the tables were synced from, if it is not."""
        with self.state.reading() as connection:
            name = unlike(connection, tables, past.until)
        if not name:
            return {}
        told = (
            f"The checked tables have {name} that the live state lacks: a backup was put in its place, or it is "
            "another one. Some of what comes in is not seen until `attune sync` and `attune check` were run."
        )
        log.warning(told)
        return {"state": told}

    def _check_conditions(self, tables: Tables, profiles: Profiles) -> None:
        """Refuse a condition that names what is no feature, or compares text with a number: nobody would ever be in it.

        Raises:
            WorkspaceError: says which.
        """
        lacks = lacking(tables, self.settings.features)
        populations = (self.population(label) for label in self.settings.propensity)
        for condition in (*segments_of(self.settings.segments).values(), *populations):
            condition.check([*profiles.columns, *lacks])
            if (lacked := next((name for name in condition.names if name in lacks), None)) is None:
                condition.mask(profiles.example)
            else:
                log.warning("%s holds for nobody: %s needs %s", condition.place, lacked, lacks[lacked])

    def _acting(self, tables: Tables | None, profiles: Profiles | None, people: People) -> Acting | None:
        """None where no table tells what people did.

        Raises:
            WorkspaceError: an action of the settings that cannot be meant.
        """
        if tables is None or profiles is None:
            return None
        try:
            return Acting(self.settings, tables, self.state, profiles=profiles, people=people, parts=Filling(self))
        except DataError as error:
            log.error("nobody's actions can be told: %s", error)  # noqa: TRY400
            return None

    def _recommended(
        self, people: Sequence[Person], asks: Sequence[RecommendAsk], *, now: datetime, channel: str | None = None
    ) -> list[Recommended | Exception]:
        """Items for each of these people, or what is wrong with what they ask."""
        view, rules = self.view, self.settings.rules
        personal = [person.arm.name not in IMPERSONAL and consents(person, PERSONALISATION, rules) for person in people]
        whose = [Who(ask.user_id, ask.anonymous_id) if one else Who() for ask, one in zip(asks, personal, strict=True)]
        return [
            _tried(self._recommend, view, person, ask, did, personal=one, now=now, channel=channel)
            for person, ask, did, one in zip(people, asks, self._touches(whose, view), personal, strict=True)
        ]

    def _recommend(
        self,
        view: View,
        person: Person,
        ask: RecommendAsk,
        touches: Sequence[Touch] | None,
        *,
        personal: bool,
        now: datetime,
        channel: str | None,
    ) -> Recommended:
        """Items for one person, of whom it is known what they did lately; None where the state could not tell."""
        placed = self.placements[ask.placement]
        self._check_k(ask.k)
        self._check_attributes(ask.context.attributes)
        decision_id = new_decision_id(now)
        rng = partial(rng_of, decision_id)
        if personal:
            degraded = view.champion is None or touches is None
            steps = steps_of(ask.context, touches or (), self.settings.recommender.event_weights, now)
            told = self._attributes(ask, view, steps)
            placed = at_random(placed) if person.arm.name == "random" else placed
            found, version = recommend(view, ask, placed, steps, attributes=told, now=now, rng=rng), view.version
        else:
            found, version, degraded = for_everybody(view, ask, placed, now=now, rng=rng), EVERYBODY, False
        decision = _decision(decision_id, ask, found, version=version, person=person, now=now, channel=channel)
        return Recommended(found.items, version, degraded or not person.live, found.note, decision)

    def _touches(self, asked: Sequence[Who], view: View) -> Sequence[Sequence[Touch] | None]:
        """What each of them did since the past ends, the newest first; None where the state cannot be read."""
        if not any(map(any, asked)):
            return [()] * len(asked)
        try:
            with self.state.reading() as connection:
                return recent(connection, asked, since=view.past.until)
        except StateUnavailableError as error:
            log.warning("answering without the live state: %s", error)
            return [None] * len(asked)

    def _attributes(self, ask: RecommendAsk, view: View, steps: Sequence[Step]) -> Mapping[str, str]:
        """What the request says of the person, and of one without a history what their profile says beside."""
        told = ask.context.attributes
        if ask.user_id is None or self.profiles is None or steps or ask.user_id in view.past.users:
            return told
        if (row := self.profiles.row(ask.user_id)) is None:
            return told
        known = {name: row.frame[name].iloc[row.position] for name in self.attributes if name in row.frame}
        return {name: value for name, value in known.items() if isinstance(value, str)} | told

    def _check_attributes(self, told: Mapping[str, str]) -> None:
        if unknown := [name for name in told if name not in self.attributes]:
            known = ", ".join(self.attributes)
            reason = f"{unknown[0]!r} is none of {known}; features.attributes in attune.toml names further ones"
            raise FieldError("context.attributes", reason)

    def _check_k(self, k: int) -> None:
        if k > self.settings.serving.max_k:
            raise FieldError("k", f"{k} is more than serving.max_k = {self.settings.serving.max_k}")

    @property
    def _unread(self) -> dict[str, str]:
        """Which attributes of the live state are not read, if there are any."""
        unread = {} if self.profiles is None else self.profiles.unread
        told = ", ".join(f"{name} (no {kind})" for name, kind in sorted(unread.items()))
        return {"attributes": f"values in the live state are read as missing: {told}"} if told else {}

    def _stamp(self) -> str:
        stamp = self.workspace.checked_dir / "fingerprint.txt"
        return stamp.read_text(encoding="utf-8") if stamp.is_file() else ""

    def _load_checked(self) -> None:
        self._checked = self._stamp()
        if not self._checked:
            log.warning("%s: nothing was checked yet; `attune check` makes the histories", self.workspace.path)
        # Not workspace.checked: tables that changed since the last check are no reason not to serve.
        folder, limit = self.workspace.checked_dir, self.settings.data.memory_limit_gb
        tables = Tables.open(folder, memory_limit_gb=limit) if self._checked else None
        past = Past.of(tables, self.settings.recommender, attributes=self.attributes)
        items = Tables.from_frames() if tables is None else tables
        columns = self.settings.recommender.item_columns
        catalogue = Catalogue.of(items, columns=columns, features=self.settings.features)
        self.placements.check(catalogue)
        profiles = None if tables is None else self._profiles(tables, past)
        if tables is not None and profiles is not None:
            self._check_conditions(tables, profiles)
            profiles.refresh()
        now = datetime.now(UTC)
        since, back = min(now, self._at or now), self._at is not None
        people = People(self.settings, tables, self.state, past.until, now=since, back=back)
        acting = self._acting(tables, profiles, people)
        offering = Offering(self.settings, tables, self.state, profiles, self.champions.current.get(OFFERS))
        varying = Varying(self.settings, tables, self.state, profiles, self.champions.current.get(VARIANTS))
        varying.learn()
        troubles = {} if tables is None else self._troubles_of_state(tables, past)
        self._troubles = troubles | ({"features": profiles.trouble} if profiles and profiles.trouble else {})
        with self._changing:
            champion = self.champions.current.get(RECOMMENDER)
            self.view = View(champion, past, catalogue.refreshed(self.state)).prepared()
            self.profiles, self.people, self.acting = profiles, people, acting
            self.offering, self.varying = offering, varying


def _tried(work: Callable[..., T], *args: Any, **options: Any) -> T | Exception:
    """What it gives, or why it fails: of several who ask at once, each fails alone."""
    try:
        return work(*args, **options)
    except Exception as error:  # noqa: BLE001 - told to the one who asked
        return error


def _told(found: T | Exception) -> T:
    if isinstance(found, Exception):
        raise found
    return found


def _attributes_allowed(settings: Settings) -> tuple[str, ...]:
    """Which attributes of users may be used; without those that the settings name where one of them is refused."""
    try:
        return profile.attributes(settings.features)
    except WorkspaceError as error:
        log.error("%s", error)  # noqa: TRY400
        return profile.ATTRIBUTES


def _decision(
    decision_id: str,
    ask: RecommendAsk,
    found: Ranked,
    *,
    version: str,
    person: Person,
    now: datetime,
    channel: str | None,
) -> dict[str, Any]:
    context = ask.model_dump(include={"k", "context", "exclude", "filter", "campaign_id"}, exclude_defaults=True)
    if channel is not None:
        context["channel"] = channel  # that an unsubscription is a no to
    if ask.user_id is None:
        context["stranger"] = True
    return {
        "decision_id": decision_id,
        # Strangers stay apart from one another: what is known of one must not become known of all.
        "user_id": ask.user_id or ask.anonymous_id or stranger(decision_id),
        "at": now,
        "kind": "items",
        "placement": ask.placement,
        "arm": person.arm.name,
        "arm_share": person.arm.share,
        "chosen": [item.item_id for item in found.items],
        "probability": found.probability,
        "model_version": version,
        "context": json.dumps(context) if context else None,
    }
