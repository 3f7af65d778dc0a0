"""One person's due steps: which of them goes out, on which channel and when, and what is kept of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import pandas as pd
import sqlalchemy as sa

from data.settings import Settings
from data.state.facts import HANDED_OUT
from data.state.schema import tables as state_tables
from data.state.writes import add, append
from serving.decisions.journeys import Due, settle
from serving.decisions.rules import Contact, Person, Suppressed, held_back
from serving.decisions.triggers import NONE
from serving.happened import KIND, told_of
from serving.schemas import ActionItem, ActionOffer, ActionVariant, DueAction, HeldBack, SendTime, WaitingJourney
from serving.sending import Moment, next_moment

HOLDOUT, CONFLICT = "holdout", "conflict"
OWN = frozenset({"frequency", "caps", "re_entry"})
"""Rules that are not asked again of a step that was handed out: it counts towards them itself."""
FIRST_BY = {"value": "is worth most", "priority": "has the highest priority", "chance": "was drawn"}

Row = dict[str, Any]

LOGGED = state_tables["decisions"].c
LATER = (
    sa.select(LOGGED.seq)
    .where(LOGGED.user_id == sa.bindparam("user_id"), HANDED_OUT, LOGGED.seq > sa.bindparam("newest"))
    .limit(1)
)


@dataclass(frozen=True)
class Filled:
    """What a message holds, each part a decision of its own.

    Attributes:
        offer: None = without one.
        variants: A variant for each slot.
        items: The best first.
        decided: Ids of the parts' decisions, as the action's decision keeps them: `offer`, `variants`, `items`.
    """

    offer: ActionOffer | None = None
    variants: Sequence[ActionVariant] = ()
    items: Sequence[ActionItem] = ()
    decided: Mapping[str, Any] = field(default_factory=dict)

    def store(self, connection: sa.Connection) -> Filled:  # noqa: ARG002 - of what is there already
        """Store the parts' decisions; what the message holds in the end, for an offer may have run out meanwhile."""
        return self


class Parts(Protocol):
    """What fills a message."""

    def probabilities(self, label: str, frame: pd.DataFrame) -> np.ndarray:
        """Of a propensity, float (n,); NaN where nothing tells it."""

    def categories(self, item_ids: Sequence[str]) -> list[str | None]:
        """What each item is filed under."""

    def hours(self, user_ids: Sequence[str], *, now: datetime) -> tuple[list[SendTime], list[Row]]:
        """When to write to each; and a row of `decisions` for each, or none at all."""

    def fill(self, person: Person, due: Due, channel: str, *, now: datetime, at: datetime) -> Filled:
        """Decide the offer, the variants and the items of a step that is sent at a moment; nothing is stored."""

    def again(self, person: Person, decided: Mapping[str, Any], *, now: datetime, at: datetime) -> Filled:
        """What was decided before, by the ids that the action's decision kept."""


@dataclass(frozen=True)
class Acted:
    """What is to be done for somebody; `store` it before it is told.

    Attributes:
        user_id: Whom.
        action: The message; None if there is none.
        held_back: What was due and is not done, with the rules.
        waiting: Journeys of which nothing is due.
        decision: The row of `decisions` that is new; None where nothing was due, or it was decided before.
        filled: What the message holds.
        time: The row about the hour that was chosen; None if none was.
        newest: The `seq` of their newest decision about an action when this was decided; 0 if there was none.
    """

    user_id: str
    action: DueAction | None = None
    held_back: Sequence[HeldBack] = ()
    waiting: Sequence[WaitingJourney] = ()
    decision: Row | None = None
    filled: Filled = Filled()
    time: Row | None = None
    newest: int = 0

    @property
    def note(self) -> str | None:
        """Why nothing is to be done."""
        if self.action is not None:
            return None
        if self.held_back:
            return f"Nothing may be sent: {'; '.join(dict.fromkeys(one.reason for one in self.held_back))}."
        return "Nothing is due now." if self.waiting else "No journey is under way."

    def store(self, connection: sa.Connection) -> Acted | None:
        """Store what was decided; what is to be done in the end, None if something was handed out meanwhile.

        Another step too, on another channel say: caps and re-entry were held without it.
        """
        if self.decision is None:
            return self
        if self.action is None:
            add(connection, "decisions", [self.decision])
            return self
        since = {"user_id": self.user_id, "newest": self.newest}
        if connection.scalar(LATER, since) is not None or not append(connection, "decisions", [self.decision]):
            return None
        if self.time is not None:
            add(connection, "decisions", [self.time])
        return replace(self, action=self.action.model_copy(update=_shown(self.filled.store(connection))))


@dataclass(frozen=True)
class Asked:
    """A person of whom something is due.

    Attributes:
        user_id: Who.
        person: What the rules need to know.
        due: The steps, in the order of the triggers.
        worth: What each trigger's message is expected to earn, by its name; NaN where that is not known.
        time: When to write to them; None where nothing tells it.
        time_row: The decision about that.
        channel: Only what goes out on it; None = any.
        now: The moment.
    """

    user_id: str
    person: Person
    due: Sequence[Due]
    worth: Mapping[str, float]
    time: SendTime | None
    time_row: Row | None
    channel: str | None
    now: datetime


@dataclass(frozen=True)
class Way:
    """One way to do a step.

    Attributes:
        due: The step.
        channel: On which.
        send_at: When.
        hour: Of the person's own day, chosen for them; None = as soon as it is due.
        hour_probability: The chance with which it was chosen.
        against: The rules that speak against it.
    """

    due: Due
    channel: str
    send_at: datetime
    hour: int | None
    hour_probability: float | None
    against: tuple[Suppressed, ...]


def act(asked: Asked, settings: Settings, parts: Parts) -> Acted:
    """The first of the steps that are due and that no rule speaks against; all that was held back, and by which rule.

    Whoever is left alone (the arm `holdout`) is logged when they would have been written to, and goes on to the next
    step as if they had been, so that what follows can be compared.
    """
    alone = asked.person.arm.name == HOLDOUT
    ways = [way for due in asked.due for way in _ways(asked, due, settings, parts)]
    held = [_held(way, one) for way in ways for one in way.against]
    open_ = [way for way in ways if all(alone and one.rule == HOLDOUT for one in way.against)]
    may = list({way.due.decision_id: way for way in reversed(open_)}.values())[::-1]  # the first channel of each step
    if not may:
        return Acted(asked.user_id, held_back=held, decision=_blocked(asked, held) if held else None)
    first, probability, why = _first(asked, may)
    conflict = Suppressed(CONFLICT, f"{first.due.name} goes first: it {why}")
    held += [_held(way, conflict) for way in may if way is not first]
    names = [way.due.name for way in may]
    handed = first.due.handed
    if handed is not None and (alone or handed.nothing):
        return Acted(asked.user_id, held_back=held)
    if handed is not None:
        filled = parts.again(asked.person, handed.told["parts"], now=asked.now, at=first.send_at)
        return Acted(asked.user_id, _action(asked, first, filled, handed.told["expected_value"]), held)
    if alone:
        told = told_of(first.due.beginning, first.due.number) | {"campaign_id": first.due.trigger.name}
        row = _row(asked, first.due, NONE, probability, candidates=names, held=held, context=told)
        return Acted(asked.user_id, held_back=held, decision=row)
    filled = parts.fill(asked.person, first.due, first.channel, now=asked.now, at=first.send_at)
    worth = asked.worth[first.due.trigger.name]
    action = _action(asked, first, filled, None if math.isnan(worth) else worth)
    told = {
        **told_of(first.due.beginning, first.due.number),
        "campaign_id": first.due.trigger.name,
        "channel": first.channel,
        "send_at": first.send_at.isoformat(),
        "hour": first.hour,
        "hour_probability": first.hour_probability,
        "expected_value": action.expected_value,
        "parts": dict(filled.decided),
    }
    time = asked.time_row if first.hour_probability is not None else None
    row = _row(asked, first.due, first.due.name, probability, candidates=names, held=held, context=told)
    return Acted(asked.user_id, action, held, decision=row, filled=filled, time=time)


def _shown(filled: Filled) -> Row:
    """What an action tells of its parts."""
    items_id = filled.decided.get("items")
    held = {"offer": filled.offer, "variants": list(filled.variants), "items": list(filled.items)}
    return {**held, "items_decision_id": items_id}


def _first(asked: Asked, may: Sequence[Way]) -> tuple[Way, float, str]:
    """Which goes first, with what chance and why. What was handed out and may not be sent yet stays the first."""
    for way in may:
        if way.due.handed is not None:
            return way, 1.0, "was handed out before"
    settled = settle(
        [way.due for way in may],
        [asked.worth[way.due.trigger.name] for way in may],
        arm=asked.person.arm.name,
        user_id=asked.user_id,
    )
    return may[settled.first], settled.probability, FIRST_BY[settled.by]


def _ways(asked: Asked, due: Due, settings: Settings, parts: Parts) -> list[Way]:
    """The channels of a step that are asked for, in their order."""
    declared, told = due.trigger.declared, due.handed.told if due.handed is not None else {}
    channels = [told["channel"]] if "send_at" in told else due.step.channels
    about = due.beginning.about
    categories = [about] if declared.same == "category" else parts.categories(due.beginning.items)
    found = []
    for channel in channels:
        if asked.channel not in (None, channel):
            continue
        contact = Contact(
            channel,
            purpose=declared.purpose,
            categories=tuple(dict.fromkeys(name for name in categories if name)),
            about_order=declared.about_order,
            trigger=due.trigger.name if due.number == 0 and declared.again_days is None else None,
        )
        if "send_at" in told:
            when = Moment(datetime.fromisoformat(told["send_at"]), told["hour"], told["hour_probability"])
        else:
            time = asked.time if declared.best_hour else None
            when = next_moment(time, asked.person, channel, settings.rules, now=asked.now)
        against = held_back(asked.person, contact, settings, now=when.at)
        if due.handed is not None:
            against = tuple(one for one in against if one.rule not in OWN)
        found.append(Way(due, channel, when.at, when.hour, when.probability, against))
    return found


def _action(asked: Asked, way: Way, filled: Filled, expected_value: float | None) -> DueAction:
    due = way.due
    return DueAction(
        decision_id=due.decision_id,
        trigger=due.trigger.name,
        step=due.number + 1,
        began_at=due.beginning.at,
        about=due.beginning.about or None,
        about_items=list(due.beginning.items),
        channel=way.channel,
        send_at=way.send_at,
        hour=way.hour,
        hour_probability=way.hour_probability,
        time_zone=asked.person.timezone,
        **_shown(filled),
        expected_value=expected_value,
        again=due.handed is not None,
    )


def _row(
    asked: Asked,
    due: Due,
    chosen: str,
    probability: float,
    *,
    candidates: Sequence[str],
    held: Sequence[HeldBack],
    context: Mapping[str, Any],
) -> Row:
    """A row of `decisions`."""
    return {
        "decision_id": due.decision_id,
        "user_id": asked.user_id,
        "at": asked.now,
        "kind": KIND,
        "slot": due.trigger.name,
        "arm": asked.person.arm.name,
        "arm_share": asked.person.arm.share,
        "chosen": [chosen],
        "probability": [probability],
        "candidates": list(candidates),
        "suppressed": json.dumps([{"id": one.action, **one.model_dump(exclude={"action"})} for one in held]),
        "model_version": "triggers",
        "context": json.dumps(context),
    }


def _blocked(asked: Asked, held: Sequence[HeldBack]) -> Row:
    """That nothing may be sent: once a day for the same steps and rules, however often it is asked."""
    campaign = {"campaign_id": asked.due[0].trigger.name}
    row = _row(asked, asked.due[0], NONE, 1.0, candidates=[], held=held, context=campaign)
    day = asked.now.replace(hour=0, minute=0, second=0, microsecond=0)
    told = json.dumps([asked.user_id, day.isoformat(), sorted({(one.action, one.rule) for one in held})])
    digest = blake2b(told.encode(), digest_size=8).hexdigest()
    return row | {"decision_id": f"{int(day.timestamp()) * 10**9:016x}{digest}"}


def _held(way: Way, one: Suppressed) -> HeldBack:
    return HeldBack(action=way.due.name, channel=way.channel, rule=one.rule, reason=one.reason)
