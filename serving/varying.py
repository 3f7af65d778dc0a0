"""Behind `/v1/variants`: which variants there are, what is known of each by now, and which of them somebody sees."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from data.contract import TABLES
from data.errors import StateUnavailableError
from data.merge_fields import FIELD, NAME, filled, known_columns, wrong_with
from data.settings import Settings
from data.state import State
from data.state.arrow import EXTRA
from data.state.reads import Newest
from data.state.rows import RowRefusedError
from data.state.schema import tables as state_tables
from data.state.tombstones import stranger
from data.tables import Tables
from features.profile import sensitive
from features.segments import members
from features.segments import parsed as segments_of
from features.variants import CHANNEL, answered, discount, situation
from models.variants import Draws, Evidence, Variant, VariantModel
from serving.champions import Champion
from serving.channels import refuse_channel
from serving.decisions.ids import new_decision_id, rng_of
from serving.decisions.rules import PERSONALISATION, Person, consents
from serving.decisions.variants import Unfit, Wording, chances, drawn, unfit
from serving.profiles import Profiles
from serving.schemas import RankedVariant, VariantsAsk, WithheldVariant
from serving.upserted import changed, records

log = logging.getLogger("attune")

COLUMNS = ("variant_id", "slot", "campaign_id", "text", "attributes", "segment", "starts_at", "ends_at")
LEARN_SECONDS, LEARN_SHARE = 30.0, 0.02
"""How often what came of decisions is looked at, at the most, and how much of the time that may take."""
MOST_DECISIONS = 100_000
"""Looked at, the newest: enough to tell variants apart, and bounded work."""
FRAMES_KEPT = 64
FRESH = "variants (nothing learnt before)"


@dataclass(frozen=True)
class Varied:
    """The variant for a person, and the decision to be stored.

    Attributes:
        items: The one to show first, then the others by their chance.
        suppressed: What is no candidate, and why.
        enough: Whether trying on cannot gain more than 1 %; None without candidates.
        model_version: What answered.
        degraded: Whether the state cannot be used.
        note: Why there is none.
        decision: A row of `decisions`; None where there is no candidate, for nothing was chosen.
    """

    items: list[RankedVariant]
    suppressed: list[WithheldVariant]
    enough: bool | None
    model_version: str
    degraded: bool
    note: str | None
    decision: Mapping[str, Any] | None


@dataclass(frozen=True, eq=False)
class _Slot:
    """What is known of a slot.

    Attributes:
        wordings: By id, those that have not ended.
        draws: Of all of them.
        place: Of each in the draws.
    """

    wordings: Mapping[str, Wording]
    draws: Draws
    place: Mapping[str, int]
    _enough: dict[tuple[int, ...], bool] = field(default_factory=dict)

    def enough(self, places: np.ndarray) -> bool:
        """Whether going on with these variants is worth nothing; worked out once."""
        key = tuple(places.tolist())
        if key not in self._enough:
            self._enough[key] = self.draws.enough(places)
        return self._enough[key]


@dataclass(frozen=True, eq=False)
class _Told:
    """What is worked out for all rows of a frame of features at once.

    Attributes:
        frame: The features.
        codes: Tokens of each row's situation, -1 = none, (n, columns).
        segments: By name, who is in it.
    """

    frame: pd.DataFrame
    codes: np.ndarray
    segments: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Named:
    """Users' columns that texts merge in, from the checked tables.

    Attributes:
        columns: Their names.
        rows: By user: from when on the row is known, then the values.
    """

    columns: tuple[str, ...] = ()
    rows: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


class Varying:
    """Decides about variants; `refresh` and `learn` are called by one thread at a time, `decide` by many.

    Attributes:
        champion: Whose priors are used; None = those of `models.variants`, and all is learnt live.
    """

    def __init__(
        self,
        settings: Settings,
        tables: Tables | None,
        state: State,
        profiles: Profiles | None,
        champion: Champion | None = None,
    ) -> None:
        self._settings, self._tables, self._state, self._profiles = settings, tables, state, profiles
        self.champion = champion
        known = champion is not None and isinstance(champion.model, VariantModel)
        self._model = champion.model if champion and isinstance(champion.model, VariantModel) else VariantModel()
        self._version = str(champion) if known else FRESH
        until = champion.fitted_until if known and champion else None
        self._since = until or datetime.now(UTC) - timedelta(days=4 * settings.variants.half_life_days)
        self._segments = segments_of(settings.segments)
        self._checked = {} if tables is None else _wordings(tables["variants"].select(*COLUMNS).execute())
        self._wordings: Mapping[str, Wording] = {}
        self._newest: Newest | None = None
        self._slots: Mapping[str, _Slot] = {}
        self._named = _Named()
        self._told: dict[int, _Told] = {}
        for frame in [] if profiles is None else profiles.frames:
            self._of_frame(frame)
        self._evidence: Mapping[str, Evidence] = {}
        self._learn_again = 0.0
        self._preparing = threading.Lock()
        self.refresh()

    def under(self, champion: Champion | None) -> Varying:
        """The same with another champion."""
        return Varying(self._settings, self._tables, self._state, self._profiles, champion)

    def slots_of(self, campaign_id: str) -> list[str]:
        """The slots that have variants of a campaign's own."""
        return sorted(
            slot
            for slot, known in self._slots.items()
            if any(wording.variant.campaign_id == campaign_id for wording in known.wordings.values())
        )

    def refuse_text(self, text: str | None) -> None:
        """Refuse a text with merge fields that cannot be filled, or that would show what is sensitive.

        Raises:
            RowRefusedError: says which field.
        """
        wrong = wrong_with(text or "", columns=self._user_columns)
        for name in _fields([text or ""]):
            if word := sensitive(name, self._settings.features):
                wrong = wrong or f"user.{name} is sensitive ({word}, see features.sensitive) and is shown to nobody"
        if wrong:
            raise RowRefusedError("text", wrong)

    def refresh(self) -> None:
        """Take over what changed in the state.

        Raises:
            StateUnavailableError: it cannot be read.
        """
        if (found := changed(self._state, "variants", COLUMNS, self._newest)) is None:
            return
        newest, rows = found
        wordings = {**self._checked, **_wordings(rows)}
        if wordings != self._wordings:
            self._wordings = wordings
            self._prepare()
        self._newest = newest

    def learn(self) -> None:
        """Take over what came of the decisions since the champion was made, if it is time to.

        Raises:
            StateUnavailableError: the state cannot be read.
        """
        if time.monotonic() < self._learn_again:
            return
        started = time.monotonic()
        self._evidence = self._since_then()
        self._prepare()
        took = time.monotonic() - started
        self._learn_again = time.monotonic() + max(LEARN_SECONDS, took / LEARN_SHARE)

    def decide(self, person: Person, ask: VariantsAsk, *, now: datetime, at: datetime | None = None) -> Varied:
        """The variant of one person; nothing is stored here.

        Args:
            person: Whose.
            ask: The request.
            now: When it is decided.
            at: When it is shown, by which variants begin and end; by default now.

        Raises:
            FieldError: there is no such channel.
        """
        refuse_channel(ask.channel, self._settings)
        slot = self._slots.get(ask.slot)
        tokens, segments = self._about(person, ask)
        candidates, against = _candidates({} if slot is None else slot.wordings, ask, segments, at or now)
        suppressed = [WithheldVariant(variant_id=one.variant_id, rule=one.rule, reason=one.reason) for one in against]
        arm = person.arm.name
        version = {"model": self._version, "random": "even"}.get(arm, arm)
        if slot is None or not candidates:
            reasons = "; ".join(dict.fromkeys(one.reason for one in against)) or "it has none now"
            note = f"no variant of the slot {ask.slot!r} may be shown: {reasons}"
            return Varied([], suppressed, None, version, not person.live, note, None)
        places = np.array([slot.place[wording.variant.variant_id] for wording in candidates])
        best = slot.draws.best(tokens, places)
        probability = chances(arm, candidates, best, floor=self._settings.variants.floor)
        decision_id = new_decision_id(now)
        chosen = drawn(probability, float(rng_of(decision_id).random()))
        others = sorted(set(range(len(candidates))) - {chosen}, key=lambda place: -probability[place])
        personal = arm != "holdout" and consents(person, PERSONALISATION, self._settings.rules)
        user = self._user(ask.user_id) if personal else {}  # a visitor chooses their own id, and it may be a user's
        items = [
            RankedVariant(
                variant_id=candidates[place].variant.variant_id,
                text=filled(candidates[place].variant.text, user, format=ask.format),
                attributes=candidates[place].variant.told or {},
                probability=float(probability[place]),
                best=float(best[place]),
            )
            for place in (chosen, *others)[: ask.k]
        ]
        decision = self._decision(decision_id, person, ask, items[0], [w.variant.variant_id for w in candidates], now)
        decision |= {"model_version": version, "suppressed": _written(against)}
        return Varied(items, suppressed, slot.enough(places), version, not person.live, None, decision)

    def _decision(  # noqa: PLR0917 - what a row is made of
        self,
        decision_id: str,
        person: Person,
        ask: VariantsAsk,
        shown: RankedVariant,
        candidates: list[str],
        now: datetime,
    ) -> dict[str, Any]:
        context = {"channel": ask.channel, "campaign_id": ask.campaign_id, "stranger": ask.user_id is None or None}
        return {
            "decision_id": decision_id,
            "user_id": ask.user_id or ask.anonymous_id or stranger(decision_id),
            "at": now,
            "kind": "variant",
            "slot": ask.slot,
            "arm": person.arm.name,
            "arm_share": person.arm.share,
            "chosen": [shown.variant_id],
            "probability": [shown.probability],
            "candidates": candidates,
            "context": json.dumps({name: value for name, value in context.items() if value is not None}),
        }

    def _about(self, person: Person, ask: VariantsAsk) -> tuple[list[int], set[str]]:
        """The tokens of somebody's situation, and the segments that they are in; a visitor is in none."""
        tokens = list(self._model.context.code_of({CHANNEL: ask.channel}))
        row = self._profiles.row(ask.user_id) if self._profiles is not None and ask.user_id else None
        if row is None or not consents(person, PERSONALISATION, self._settings.rules):
            return tokens, set()
        told = self._told.get(id(row.frame))
        if told is None or told.frame is not row.frame:
            told = self._of_frame(row.frame)
        tokens += [code for code in told.codes[row.position].tolist() if code >= 0]
        return tokens, {name for name, holds in told.segments.items() if holds[row.position]}

    def _of_frame(self, frame: pd.DataFrame) -> _Told:
        """What is worked out for all rows of a frame of features, once."""
        codes = self._model.context.codes(situation(frame, [None] * len(frame)))
        if len(self._told) >= FRAMES_KEPT:
            self._told.pop(next(iter(self._told)), None)
        self._told[id(frame)] = told = _Told(frame, codes, members(self._segments, frame))
        return told

    def _prepare(self) -> None:
        """Draw anew from what is believed of each slot's variants."""
        with self._preparing:
            self._slots = self._drawn()

    def _drawn(self) -> dict[str, _Slot]:
        now = datetime.now(UTC)
        by_slot: dict[str, dict[str, Wording]] = {}
        for wording in sorted(self._wordings.values(), key=lambda one: one.age):
            if wording.ends_at is None or wording.ends_at > now:
                by_slot.setdefault(wording.variant.slot, {})[wording.variant.variant_id] = wording
        half_life = self._settings.variants.half_life_days
        faded = 2 ** (-max((now - self._since) / timedelta(days=1), 0) / half_life) if self.champion else 1.0
        slots = {}
        for slot, wordings in by_slot.items():
            scores = self._model.scores(slot, [wording.variant for wording in wordings.values()], faded=faded)
            if slot in self._evidence:
                scores = self._model.told(scores, self._evidence[slot])
            draws = self._model.draws(scores, n=self._settings.variants.draws)
            slots[slot] = _Slot(wordings, draws, {name: i for i, name in enumerate(wordings)})
        columns = _fields(wording.variant.text for wording in self._wordings.values())
        if set(columns) - set(self._named.columns):
            self._named = self._named_of(columns)
        return slots

    def _since_then(self) -> dict[str, Evidence]:
        """What came of the decisions since the champion was made, by slot."""
        decisions, outcomes = state_tables["decisions"].c, state_tables["outcomes"].c
        since = f"{int(self._since.timestamp() * 1e6) * 1000:016x}"
        names = ("decision_id", "user_id", "at", "slot", "chosen", "context")
        made_query = (
            sa.select(*(decisions[name] for name in names))
            .where(decisions.decision_id >= since, decisions.kind == "variant", decisions.at >= self._since)
            .order_by(decisions.decision_id.desc())
            .limit(MOST_DECISIONS)
        )
        with self._state.reading() as connection:
            made = pd.DataFrame(connection.execute(made_query).all(), columns=list(names))
            if made.empty:
                return {}
            columns = (outcomes.decision_id, outcomes.kind, outcomes.at, outcomes.value)
            came_query = (
                sa.select(*columns)
                .join(state_tables["decisions"], decisions.decision_id == outcomes.decision_id)
                .where(decisions.decision_id >= made["decision_id"].min(), decisions.kind == "variant")
            )
            came = pd.DataFrame(connection.execute(came_query).all(), columns=["decision_id", "kind", "at", "value"])
        settings, until = self._settings.variants, pd.Timestamp.now("UTC")
        made["chosen"] = made["chosen"].str[0]
        for frame in (made, came):
            frame["at"] = pd.to_datetime(frame["at"], utc=True)
        rows = answered(made, came, reward=settings.reward, window_hours=settings.window_hours, until=until)
        fades = discount(rows["at"], until=until, half_life_days=settings.half_life_days)
        codes = self._codes(rows)
        return {
            str(slot): Evidence(
                rows["chosen"].to_numpy(dtype=object)[places],
                codes[places],
                (rows["shown"].to_numpy() * fades)[places],
                (rows["reward"].to_numpy() * fades)[places],
            )
            for slot, places in rows.groupby("slot").indices.items()
        }

    def _codes(self, rows: pd.DataFrame) -> np.ndarray:
        """The situation of each decision as tokens; the people are as they are now, which is later by days at most."""
        channels = [json.loads(told or "{}").get("channel") for told in rows["context"]]
        features = pd.DataFrame(index=rows.index)
        if self._profiles is not None and self._model.context.tokens:
            found, ids = self._profiles.of(rows["user_id"].tolist())
            features = found.set_axis(ids).reindex(rows["user_id"]).set_axis(rows.index)
        return self._model.context.codes(situation(features, channels))

    def _user(self, user_id: str | None) -> Mapping[str, Any]:
        """What texts may merge in of a person: of the row that `/v1/tables` brought and the checked one the newer."""
        columns = self._named.columns
        if user_id is None or not columns or self._state.tombstones.holds(user_id):
            return {}
        known_from, *known = self._named.rows.get(user_id, (None,))
        checked = dict(zip(columns, known, strict=False))
        table = state_tables["users"].c
        plain = [name for name in columns if name in TABLES["users"].by_name]
        told = (table.updated_at.label("known_from"), table[EXTRA], *(table[name] for name in plain))
        query = sa.select(*told).where(table.user_id == user_id).order_by(table.updated_at.desc()).limit(1)
        try:
            with self._state.reading() as connection:
                live = connection.execute(query).first()
        except StateUnavailableError:
            return checked
        if live is None or (known_from is not None and live.known_from < known_from):
            return checked
        _, extra, *values = live
        further = {name: value for name, value in (extra or {}).items() if name in columns}  # none that is sensitive
        return {**checked, **further, **dict(zip(plain, values, strict=True))}

    def _named_of(self, columns: Sequence[str]) -> _Named:
        """The columns of the checked users, but for sensitive ones."""
        allowed = [name for name in columns if not sensitive(name, self._settings.features)]
        if self._tables is None or "users" not in self._tables.brought:
            return _Named(tuple(allowed))
        users = self._tables.as_of(datetime.now(UTC))["users"]
        there = [name for name in allowed if name in users.columns]
        if not there:
            return _Named(tuple(allowed))
        rows = users.select("user_id", "updated_at", *(name for name in there if name != "updated_at")).execute()
        values = zip(*(rows[name].astype(object).tolist() for name in ("updated_at", *there)), strict=True)
        missing = [name for name in allowed if name not in there]
        return _Named((*there, *missing), dict(zip(rows["user_id"], values, strict=True)))

    @property
    def _user_columns(self) -> frozenset[str]:
        """What a merge field may name."""
        return known_columns(() if self._tables is None else self._tables["users"].columns)


def _candidates(
    wordings: Mapping[str, Wording], ask: VariantsAsk, segments: Collection[str], at: datetime
) -> tuple[list[Wording], list[Unfit]]:
    """Those that may be shown, and what speaks against the others."""
    candidates, against = [], []
    for wording in wordings.values():
        wrong = unfit(
            wording, now=at, campaign_id=ask.campaign_id, segments=segments, only=ask.variants, offer_id=ask.offer_id
        )
        if wrong is None:
            candidates.append(wording)
        else:
            against.append(wrong)
    unknown = [name for name in ask.variants or () if name not in wordings]
    return candidates, [*against, *(Unfit(name, "asked", "there is no such variant") for name in unknown)]


def _wordings(rows: pd.DataFrame) -> dict[str, Wording]:
    found = {}
    for told in records(rows):
        variant = Variant(
            str(told["variant_id"]),
            str(told["slot"]),
            told["campaign_id"] or "",
            told["text"] or "",
            told["attributes"] or "",
        )
        found[variant.variant_id] = Wording(variant, told["segment"], told["starts_at"], told["ends_at"])
    return found


def _fields(texts: Any) -> list[str]:
    """Columns of users that texts merge in, sorted."""
    names = (NAME.fullmatch(field[1].strip()) for text in texts for field in FIELD.finditer(text))
    return sorted({name[1] for name in names if name})


def _written(against: Sequence[Unfit]) -> str | None:
    told = [{"id": one.variant_id, "rule": one.rule, "reason": one.reason} for one in against]
    return json.dumps(told) if told else None
