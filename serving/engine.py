"""What answers the requests: models, catalogue and histories behind plain functions, without HTTP."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pandas as pd

from data.errors import DataError, StateUnavailableError, WorkspaceError
from data.settings import Settings
from data.state import State, keys
from data.state.reads import ORDER, Touch, recent
from data.tables import Tables
from data.workspace import Workspace
from features import expressions
from features.segments import lifecycle_of
from features.segments import parsed as segments_of
from models.recommenders import Recommender
from serving.catalogue import Catalogue
from serving.champions import PROPENSITY, RECOMMENDER, Champion, Champions, row_of
from serving.decisions.ranking import Choice, choose
from serving.past import Past
from serving.profiles import Profiles
from serving.schemas import Propensity, RankedItem, Reason, RecommendAsk, ScoreAsk, SimilarAsk, Status, UserScore

log = logging.getLogger("attune")

FALLBACK = "fallback-popularity"
POPULARITY = "popularity"
TOGETHER = "together"
"""Source of items that the same people touched: what is similar where the champion compares no items."""
VERBS = {
    ORDER: "because you bought {}",
    "product_added": "because you added {} to your cart",
    "product_added_to_wishlist": "because you saved {}",
    "product_viewed": "because you viewed {}",
    "product_clicked": "because you viewed {}",
    "product_reviewed": "because you reviewed {}",
}


@dataclass(frozen=True)
class Recommended:
    """Items for a person, and the decision to be stored.

    Attributes:
        items: Best first.
        model_version: What answered.
        degraded: Whether a fallback did.
        decision: A row of `decisions`.
    """

    items: list[RankedItem]
    model_version: str
    degraded: bool
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
    """

    users: list[UserScore]
    model_version: str


class UnknownItemError(DataError):
    """Neither the model nor the catalogue knows the item."""


@dataclass(frozen=True, eq=False)
class View:
    """All that a recommendation needs, at one moment; replaced as one reference.

    Attributes:
        champion: The recommender in force, None if there is none.
        past: Histories of the checked tables.
        catalogue: The items now.
    """

    champion: Champion | None
    past: Past
    catalogue: Catalogue

    @cached_property
    def model(self) -> Recommender | None:
        """What ranks: the champion's model, else windowed popularity; None where nothing was ever touched."""
        if self.champion is not None and isinstance(self.champion.model, Recommender):
            return self.champion.model
        return self.past.popular

    @property
    def version(self) -> str:
        """What the answers call it."""
        return FALLBACK if self.champion is None else str(self.champion)


class Engine:
    """Answers requests from what is loaded. Every method but `load` and `refresh` may run in many threads at once.

    Attributes:
        workspace: The shop's folder.
        settings: Its settings.
        state: The live state.
        champions: The versions in force.
        view: What recommendations come from.
        profiles: The customers' features; None where nothing was checked.
        api_keys: Keys in force, by id.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.settings: Settings = workspace.settings
        self.state = State.open(workspace.state_url)
        self.champions = Champions(workspace)
        self.api_keys = keys.in_force(self.state)
        self.view = View(None, Past.of(None, self.settings.recommender), Catalogue.of(Tables.from_frames()))
        self.profiles: Profiles | None = None
        self._checked = ""
        self._changing = threading.Lock()

    @property
    def status(self) -> Status:
        """What answers, and what does not."""
        return Status(
            ready=True,
            model_versions={name: str(champion.number) for name, champion in self.champions.current.items()},
            degraded=self.view.champion is None,
            troubles=dict(self.champions.troubles),
        )

    def load(self) -> None:
        """Read everything; takes as long as the tables are large."""
        started = time.monotonic()
        self.champions.refresh()
        self._load_checked()
        self.refresh()
        log.info("loaded in %.1f s: %s", time.monotonic() - started, self.view.version)

    def refresh(self) -> None:
        """Take over what changed in the state: the catalogue and the keys."""
        with self._changing:
            self.view = replace(self.view, catalogue=self.view.catalogue.refreshed(self.state))
        self.api_keys = keys.in_force(self.state)
        if self.profiles is not None:
            self.profiles.refresh()

    def refresh_models(self) -> None:
        """Take over new champions and newly checked tables."""
        if self.champions.refresh():
            with self._changing:
                self.view = replace(self.view, champion=self.champions.current.get(RECOMMENDER))
        if self._stamp() != self._checked:
            self._load_checked()

    def recommend(self, ask: RecommendAsk) -> Recommended:
        """Rank items for whoever asks.

        Raises:
            DataError: a filter that cannot be read, or too large a k.
        """
        view = self.view
        self._check_k(ask.k)
        only = _filter(ask.filter, view)
        degraded = view.champion is None
        try:
            touches = self._touches(ask)
        except StateUnavailableError as error:
            log.warning("answering without the live state: %s", error)
            touches, degraded = [], True
        shown = [item for item in (ask.context.viewing, *ask.context.cart) if item]
        choices = self._choices(view, ask, touches, only, excluded={*ask.exclude, *shown})
        told = {touch.item_id: touch.event for touch in reversed(touches)}
        items = [_shown(choice, view.catalogue, told) for choice in choices]
        return Recommended(items, view.version, degraded, self._decision(ask, choices, view.version))

    def similar(self, ask: SimilarAsk) -> Similar:
        """Items like one item.

        Raises:
            UnknownItemError: nobody knows the item.
            DataError: too large a k.
        """
        view, model = self.view, self.view.model
        self._check_k(ask.k)
        code = -1 if model is None else model.items.code(ask.item_id)
        if code < 0 and ask.item_id not in view.catalogue.items:
            raise UnknownItemError(f"item {ask.item_id!r} is not known. Send it with /v1/tables, or train anew.")
        rankings: list[list[Choice]] = []
        if model is not None and code >= 0:
            allowed = view.catalogue.allowed(model.items)
            most = min(len(model.items), ask.k + int((~allowed).sum()))
            ranking = model.similar([code], most)
            kept = [(c, s) for c, s in zip(ranking.items[0], ranking.scores[0], strict=True) if c >= 0 and allowed[c]]
            ids = model.items.ids([c for c, _ in kept])
            reason = [Choice(id_, float(s), model.name, ask.item_id) for id_, (_, s) in zip(ids, kept, strict=True)]
            rankings.append(reason)
        if not any(rankings):
            alike = view.past.alike(ask.item_id, view.catalogue.allowed(view.past.items))
            rankings.append([Choice(id_, score, TOGETHER, ask.item_id) for id_, score in alike])
        rankings.append(_popular(view, ask.k + 1, view.catalogue, None, set()))
        choices = choose(rankings, k=ask.k, excluded={ask.item_id})
        items = [_shown(choice, view.catalogue, {}, verb="like {}") for choice in choices]
        return Similar(items, view.version, view.champion is None)

    def score(self, ask: ScoreAsk) -> Scored:
        """Propensities with their reasons, the lifecycle stage and the segments of customers.

        Raises:
            FieldError: a label that the settings do not declare.
        """
        labels = list(self.settings.propensity) if ask.models is None else ask.models
        if unknown := [label for label in labels if label not in self.settings.propensity]:
            known = ", ".join(self.settings.propensity)
            raise FieldError("models", f"{unknown[0]!r} is none of {known}; attune.toml declares them")
        champions = {label: self.champions.current.get(f"{PROPENSITY}{label}") for label in labels}
        people = self._people(ask.user_ids, champions)
        note = "not known: no row in users, events, orders or messages"
        nothing = {label: Propensity(probability=None, reasons=[], note=note) for label in labels}
        users = [
            people.get(user_id) or UserScore(user_id=user_id, scores=nothing, lifecycle_stage=None, segments=[])
            for user_id in ask.user_ids
        ]
        return Scored(users, ", ".join(str(champion) for champion in champions.values() if champion) or "none")

    def _people(self, user_ids: Sequence[str], champions: Mapping[str, Champion | None]) -> dict[str, UserScore]:
        """Scores of those who are known, by id."""
        if self.profiles is None:
            return {}
        frame, ids = self.profiles.of(user_ids)
        if not ids:
            return {}
        scores = {label: self._scores(label, champion, frame) for label, champion in champions.items()}
        stages = lifecycle_of(frame)
        segments = {name: condition.mask(frame) for name, condition in segments_of(self.settings.segments).items()}
        return {
            user_id: UserScore(
                user_id=user_id,
                scores={label: found[row] for label, found in scores.items()},
                lifecycle_stage=str(stages[row]),
                segments=[name for name, holds in segments.items() if holds[row]],
            )
            for row, user_id in enumerate(ids)
        }

    def _scores(self, label: str, champion: Champion | None, frame: pd.DataFrame) -> list[Propensity]:
        """One propensity for each row of a frame of features."""
        if champion is None or isinstance(champion.model, Recommender):
            note = self.champions.troubles.get(f"{PROPENSITY}{label}", "there is no model")
            return [Propensity(probability=None, reasons=[], note=note)] * len(frame)
        population = self.settings.propensity[label].population
        asked_about = expressions.parse(population, place=f"propensity.{label}.population").mask(frame)
        outside = Propensity(probability=None, reasons=[], note=f"outside of whom {label} is asked about: {population}")
        probabilities = champion.model.predict(frame)
        reasons = champion.model.reasons(frame)
        return [
            Propensity(
                probability=float(probability),
                reasons=[Reason(feature=r.feature, value=r.value, effect=r.contribution) for r in why],
            )
            if inside
            else outside
            for inside, probability, why in zip(asked_about, probabilities, reasons, strict=True)
        ]

    def _profiles(self, tables: Tables, past: Past) -> Profiles | None:
        """None where settings and tables do not go together: recommendations need no features."""
        try:
            return Profiles(self.workspace, tables, self.state, past.until)
        except (DataError, WorkspaceError) as error:
            log.error("there are no features, so nobody can be scored: %s", error)  # noqa: TRY400
            return None

    def _choices(
        self,
        view: View,
        ask: RecommendAsk,
        touches: Sequence[Touch],
        only: expressions.Expression | None,
        *,
        excluded: set[str],
    ) -> list[Choice]:
        model = view.model
        if model is None:
            return []
        weights = self._history(view, ask.user_id, touches)
        history = row_of(model.items, weights)
        rankings: list[list[Choice]] = []
        if view.champion is not None and (history.nnz or model.serves_cold_users):
            ranking = model.recommend(
                history,
                ask.k,
                exclude_seen=view.champion.exclude_seen,
                allowed=view.catalogue.allowed(model.items, only),
                excluded=row_of(model.items, dict.fromkeys(excluded, 1.0)),
            )
            codes = ranking.items[0][ranking.items[0] >= 0]
            because = model.reasons(history, codes)
            ids = model.items.ids(codes)
            reasons = [model.items.ids([code])[0] if code >= 0 else None for code in because]
            scores = ranking.scores[0].tolist()
            rankings.append([Choice(i, s, model.name, r) for i, s, r in zip(ids, scores, reasons, strict=False)])
        if sum(map(len, rankings)) < ask.k:
            seen = set(weights) if view.champion is not None and view.champion.exclude_seen else set()
            rankings.append(_popular(view, ask.k, view.catalogue, only, excluded | seen))
        return choose(rankings, k=ask.k, excluded=excluded)

    def _history(self, view: View, user_id: str | None, touches: Sequence[Touch]) -> dict[str, float]:
        """Weights by item id: the past, and what came since, which has not decayed yet."""
        weights: dict[str, float] = {}
        if user_id is not None:
            codes, values = view.past.of_user(user_id)
            for item_id, value in zip(view.past.items.ids(codes), values.tolist(), strict=True):
                weights[item_id] = weights.get(item_id, 0.0) + value
        worth = self.settings.recommender.event_weights
        for touch in touches:
            if (weight := worth.get(touch.event, 0.0)) > 0:
                weights[touch.item_id] = weights.get(touch.item_id, 0.0) + weight
        return weights

    def _touches(self, ask: RecommendAsk) -> list[Touch]:
        """What the person is doing and did since the past ends, the newest first."""
        now = [Touch(item, "product_viewed") for item in (ask.context.viewing, *ask.context.recent) if item]
        now += [Touch(item, "product_added") for item in ask.context.cart]
        if ask.user_id is None and ask.anonymous_id is None:
            return now
        with self.state.reading() as connection:
            since = self.view.past.until
            return now + recent(connection, user_id=ask.user_id, anonymous_id=ask.anonymous_id, since=since)

    def _decision(self, ask: RecommendAsk, choices: Sequence[Choice], version: str) -> dict[str, Any]:
        decision_id = f"{time.time_ns():016x}{secrets.token_hex(8)}"  # by time, so that the index grows at its end
        context = ask.model_dump(include={"k", "context", "exclude", "filter"}, exclude_defaults=True)
        if ask.user_id is None:
            context["stranger"] = True
        return {
            "decision_id": decision_id,
            # Strangers stay apart from one another: what is known of one must not become known of all.
            "user_id": ask.user_id or ask.anonymous_id or f"stranger-{decision_id}",
            "at": datetime.now(UTC),
            "kind": "items",
            "placement": ask.placement,
            "arm": "model",
            "arm_share": 1.0,
            "chosen": [choice.item_id for choice in choices],
            "probability": [1.0] * len(choices),
            "model_version": version,
            "context": json.dumps(context) if context else None,
        }

    def _check_k(self, k: int) -> None:
        if k > self.settings.serving.max_k:
            raise FieldError("k", f"{k} is more than serving.max_k = {self.settings.serving.max_k}")

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
        past = Past.of(tables, self.settings.recommender)
        catalogue = Catalogue.of(Tables.from_frames() if tables is None else tables)
        profiles = None if tables is None else self._profiles(tables, past)
        with self._changing:
            champion = self.champions.current.get(RECOMMENDER)
            self.view = View(champion, past, catalogue.refreshed(self.state))
            self.profiles = profiles


class FieldError(DataError):
    """A field of a request has a value that cannot be used.

    Attributes:
        field: Its name.
        reason: What is wrong.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def _filter(text: str | None, view: View) -> expressions.Expression | None:
    if text is None:
        return None
    try:
        found = expressions.parse(text, place="filter")
        view.catalogue.allowed(view.catalogue.items, found)
    except WorkspaceError as error:
        raise FieldError("filter", str(error).removeprefix("filter: ")) from error
    except RecursionError as error:
        raise FieldError("filter", "is nested too deeply") from error
    return found


def _popular(
    view: View, k: int, catalogue: Catalogue, only: expressions.Expression | None, excluded: set[str]
) -> list[Choice]:
    popular = view.past.popular
    if popular is None:
        return []
    ranking = popular.recommend(
        row_of(popular.items, {}),
        k,
        allowed=catalogue.allowed(popular.items, only),
        excluded=row_of(popular.items, dict.fromkeys(excluded, 1.0)),
    )
    ids = popular.items.ids(ranking.items[0][ranking.items[0] >= 0])
    return [Choice(id_, score, POPULARITY) for id_, score in zip(ids, ranking.scores[0].tolist(), strict=False)]


def _shown(choice: Choice, catalogue: Catalogue, told: Mapping[str, str], *, verb: str = "") -> RankedItem:
    """A choice with its reason in words: of what the person did themselves, or of what everybody does."""
    reason = "popular right now" if choice.source == POPULARITY else None
    if choice.because_of == choice.item_id:
        reason = "because of your earlier interest in it"
    elif choice.because_of is not None:
        verb = verb or VERBS.get(told.get(choice.because_of, ""), "because of your interest in {}")
        reason = verb.format(catalogue.name(choice.because_of))
    return RankedItem(item_id=choice.item_id, score=choice.score, source=choice.source, reason=reason)
