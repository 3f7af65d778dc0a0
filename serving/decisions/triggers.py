"""Triggers: what begins a journey, read from the settings and refused with its place where it cannot be meant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from data.errors import WorkspaceError, meant
from data.settings import WAIT, Action, ActionStep
from features.engagement import CHANNELS
from features.expressions import Expression, parse
from features.happenings import COLUMNS, ENGAGEMENT, NO_ENGAGEMENT, ORDER
from features.labels import SPEND, Event
from features.labels import read as read_event

NONE, BEST = "none", "best"
LIFECYCLE = "lifecycle"
SAME = ("item_id", "category", "page")
UNIT_DAYS = {"minute": 1 / 1440, "hour": 1 / 24, "day": 1.0}
NUMBERS = ("value", "quantity")
MOST_ITEMS = 20
DAY_MICROS = 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Rows = Mapping[str, np.ndarray]
"""What people did, a column each, the oldest first: `at` in microseconds since 1970, text as objects."""
_Happened = tuple[int, Any]
"""Microseconds since 1970, and the item, a text if there is one."""


@dataclass(frozen=True)
class Step:
    """One message of a journey.

    Attributes:
        wait: After the step before, or what began the journey: days, or multiples of the person's rhythm.
        by_rhythm: Whether `wait` counts rhythms.
        condition: Left out where it does not hold.
        channels: On the first of these that may be used.
        offer: `none`, `best` or an offer's id.
        slots: Of the message; None = those that have variants for this trigger.
        items: So many items.
        placement: By whose rules.
    """

    wait: float
    by_rhythm: bool
    condition: Expression | None
    channels: tuple[str, ...]
    offer: str
    slots: tuple[str, ...] | None
    items: int
    placement: str


@dataclass(frozen=True)
class Trigger:
    """What begins a journey, its steps, and what ends it; `data.settings.Action` says what each is.

    Attributes:
        name: Its name in the settings.
        declared: As the settings have it.
        events: That begin it; none = it begins when `condition` comes to hold.
        goal: That ends it, reached.
        condition: Who is written to.
        exit: That ends it, not reached.
        value: What a message is expected to earn; None where that cannot be told.
        steps: Its messages.
    """

    name: str
    declared: Action
    events: tuple[Event, ...]
    goal: Event
    condition: Expression | None
    exit: Expression | None
    value: Expression | None
    steps: tuple[Step, ...]

    @property
    def conditions(self) -> Iterator[Expression]:
        """All that must be known of a person to tell what is due."""
        for one in (self.condition, self.exit, *(step.condition for step in self.steps)):
            if one is not None:
                yield one


@dataclass(frozen=True)
class Beginning:
    """What begins a journey.

    Attributes:
        at: When it happened.
        about: The item, category or page that it is about; empty if none.
        items: Items that it is about: those of the events of its last day, the newest first.
        rhythm_days: Median days between such events; None if it happened on one day only, or no step waits by it.
    """

    at: datetime
    about: str = ""
    items: tuple[str, ...] = ()
    rhythm_days: float | None = None


@dataclass(frozen=True)
class Names:
    """What conditions may name.

    Attributes:
        features: Of this shop.
        lacking: Features that the shop's tables are too poor for, with what is missing.
        labels: Propensities.
        segments: Named ones.
        answers: To forms, which events may be asked about.
    """

    features: Collection[str] = ()
    lacking: Mapping[str, str] = field(default_factory=dict)
    labels: Collection[str] = ()
    segments: Collection[str] = ()
    answers: Collection[str] = ()

    @property
    def every(self) -> list[str]:
        """All that conditions over people may name."""
        return [*self.features, *self.lacking, *self.labels, *self.segments, LIFECYCLE]


@dataclass(frozen=True)
class Triggers:
    """The triggers in their order.

    Attributes:
        on: That can be asked.
        off: By name, why one cannot: its features need tables that the shop did not bring.
    """

    on: tuple[Trigger, ...] = ()
    off: Mapping[str, str] = field(default_factory=dict)


def read(declared: Mapping[str, Action], names: Names, *, channels: Collection[str] = CHANNELS) -> Triggers:
    """The triggers that the settings declare, without those turned off.

    Args:
        declared: By name.
        names: What conditions may name.
        channels: That there are.

    Raises:
        WorkspaceError: a condition or an event that cannot be read, a name that nobody knows, a channel that there is
            not, or a circle; says where, and what to do.

    Example:
        >>> cart = Action(events=("product_added",), exit="cart_items == 0", steps=(ActionStep(wait="4 hours"),))
        >>> [trigger.name for trigger in read({"cart": cart}, Names(features=["cart_items"])).on]
        ['cart']
        >>> read({"cart": cart}, Names(features=["cart_value"]))
        Traceback (most recent call last):
        data.errors.WorkspaceError: actions.cart.exit: 'cart_items' is no feature (column 1); ...
    """
    found = [_trigger(name, action, names, channels) for name, action in declared.items() if action.enabled]
    if circle := _circle(found):
        raise WorkspaceError(circle)
    off = {trigger.name: why for trigger in found if (why := _lacks(trigger, names))}
    on = tuple(_with_value(trigger, names) for trigger in found if trigger.name not in off)
    return Triggers(on, off)


def check_catalogue(triggers: Sequence[Trigger], *, offers: Collection[str], slots: Collection[str]) -> None:
    """Refuse a step that names an offer or a slot that there is not.

    Raises:
        WorkspaceError: says where.
    """
    for trigger in triggers:
        for number, step in enumerate(trigger.steps):
            place = f"actions.{trigger.name}.steps[{number}]"
            if step.offer not in (NONE, BEST, *offers):
                raise WorkspaceError(f"{place}.offer: {unknown(step.offer, 'offer', [NONE, BEST, *offers])}")
            for slot in step.slots or ():
                if slot not in slots:
                    raise WorkspaceError(f"{place}.slots: {unknown(slot, 'slot with variants', slots)}")


def columns_of(happened: pd.DataFrame) -> Rows:
    """Rows of `features.happenings` as triggers ask about them again and again: the oldest first, columns as arrays."""
    found = {name: happened[name].to_numpy(dtype=float if name in NUMBERS else object) for name in happened}
    found["at"] = happened["at"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    order = np.argsort(found["at"], kind="stable")
    return {name: column[order] for name, column in found.items()}


def matches(event: Event, rows: Rows) -> np.ndarray:
    """Which rows are such an event, bool (n,)."""
    kinds = rows["event"]
    held: np.ndarray = kinds == event.what
    if event.what == ENGAGEMENT:
        held = np.array([kind not in NO_ENGAGEMENT for kind in kinds.tolist()], bool)
    if event.category is not None:
        held = held & (rows["category"] == event.category)
    if event.condition is not None and held.any():
        held[held] = event.condition.mask({name: rows[name][held] for name in ("event", *event.condition.names)})
    return held


def begun(trigger: Trigger, rows: Rows) -> dict[tuple[str, str], Beginning]:
    """What last began a trigger's journey, by user and what it is about: the newest event that has enough before it.

    Enough are `times` in the `within_days` up to it. It is about nothing ("") where they need have nothing in common.

    Args:
        trigger: With events.
        rows: From `columns_of`.

    Example:
        >>> looked = Action(events=("product_viewed",), same="category", times=2, steps=(ActionStep(wait="rhythm"),))
        >>> [trigger] = read({"browse": looked}, Names()).on
        >>> rows = pd.DataFrame({"user_id": "ann", "event": "product_viewed", "category": ["tea", "tea", "cups"],
        ...     "item_id": ["i1", "i2", "i3"], "at": pd.to_datetime(["2026-01-01"] + ["2026-01-05"] * 2, utc=True)})
        >>> {key: (found.items, found.rhythm_days) for key, found in begun(trigger, columns_of(rows)).items()}
        {('ann', 'tea'): (('i2',), 4.0)}
    """
    declared, found = trigger.declared, {}
    within = round(declared.within_days * DAY_MICROS)
    by_rhythm = any(step.by_rhythm for step in trigger.steps)
    for key, events in _grouped(trigger.events, rows, declared.same).items():
        before = zip(events[declared.times - 1 :], events, strict=False)  # each with the first of so many up to it
        last = max((at for (at, _), (first, _) in before if at - first < within), default=None)
        if last is not None:
            recent = [event for event in events if last - within < event[0] <= last]
            lately = (item_id for at, item_id in reversed(recent) if last - at < DAY_MICROS)
            items = tuple(dict.fromkeys(item_id for item_id in lately if isinstance(item_id, str)))[:MOST_ITEMS]
            found[key] = Beginning(_moment(last), key[1], items, _rhythm_days(recent) if by_rhythm else None)
    return found


def reached(trigger: Trigger, rows: Rows) -> dict[tuple[str, str], datetime]:
    """When a trigger's goal was reached last, by user and what it is about."""
    found = _grouped([trigger.goal], rows, trigger.declared.same)
    return {key: _moment(events[-1][0]) for key, events in found.items()}


def _grouped(events: Sequence[Event], rows: Rows, same: str) -> dict[tuple[str, str], list[_Happened]]:
    """The events among the rows by user and what they have in common, the oldest first."""
    held = np.zeros(len(rows["at"]), bool)
    for event in events:
        held |= matches(event, rows)
    users, times, items = (rows[name][held].tolist() for name in ("user_id", "at", "item_id"))
    about = rows[same][held].tolist() if same else [""] * len(users)
    found: dict[tuple[str, str], list[_Happened]] = defaultdict(list)
    for user, what, at, item_id in zip(users, about, times, items, strict=True):
        if isinstance(what, str):
            found[user, what].append((at, item_id))
    return found


def _moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def _rhythm_days(events: Sequence[_Happened]) -> float | None:
    """The median days between two days with events; None of a single one."""
    days = sorted({at // DAY_MICROS for at, _ in events})
    return float(median(later - earlier for earlier, later in pairwise(days))) if len(days) > 1 else None


def _trigger(name: str, action: Action, names: Names, channels: Collection[str]) -> Trigger:
    place = f"actions.{name}"
    if not action.steps:
        raise WorkspaceError(f"{place}.steps: there is none. Write [[{place}.steps]] for each message.")
    if not action.events and not action.condition:
        raise WorkspaceError(f"{place}: nothing begins it. Name `events`, or a `condition`.")
    if action.same not in ("", *SAME):
        raise WorkspaceError(f"{place}.same: {unknown(action.same, 'column to have in common', SAME)}")
    if not action.events and (action.same or action.times > 1):
        raise WorkspaceError(f"{place}: `same` and `times` are of `events`. Name some, or leave both out.")
    for where, wanted in (("", action.channels), *((f".steps[{i}]", s.channels) for i, s in enumerate(action.steps))):
        for channel in wanted:
            if channel not in channels:
                raise WorkspaceError(f"{place}{where}.channels: {unknown(channel, 'channel', channels)}")
    steps = tuple(_step(step, f"{place}.steps[{number}]", action, names) for number, step in enumerate(action.steps))
    if not action.events and steps[0].wait:
        raise WorkspaceError(
            f"{place}.steps[0].wait: {action.steps[0].wait!r} would never be over: without `events` a journey begins "
            "when its first step is handed out. Leave it out, or name `events`."
        )
    if not action.events and steps[0].condition is not None and len(steps) > 1 and steps[1].wait:
        raise WorkspaceError(
            f"{place}.steps[1].wait: {action.steps[1].wait!r} would never be over for whom steps[0] is left out: "
            "without `events` a journey begins when a step is handed out. Write the condition of steps[0] into "
            f"{place}.condition, or name `events`."
        )
    return Trigger(
        name=name,
        declared=action,
        events=tuple(_event(text, f"{place}.events", names) for text in action.events),
        goal=_event(action.goal, f"{place}.goal", names),
        condition=_condition(action.condition, f"{place}.condition", names),
        exit=_condition(action.exit, f"{place}.exit", names),
        value=_condition(action.value, f"{place}.value", names),
        steps=steps,
    )


def _step(step: ActionStep, place: str, action: Action, names: Names) -> Step:
    read_wait = WAIT.fullmatch(step.wait)
    number, unit = read_wait.groups() if read_wait else (None, None)
    wait = 0.0 if unit is None else float(number or 1)
    if unit == "rhythm" and not action.events:
        raise WorkspaceError(f"{place}.wait: {step.wait!r} is of `events`, and there are none. Say hours or days.")
    return Step(
        wait=wait * UNIT_DAYS.get(unit or "", 1.0),
        by_rhythm=unit == "rhythm",
        condition=_condition(step.condition, f"{place}.condition", names),
        channels=step.channels or action.channels,
        offer=step.offer,
        slots=step.slots,
        items=step.items,
        placement=step.placement,
    )


def _condition(text: str, place: str, names: Names) -> Expression | None:
    if not text:
        return None
    found = parse(text, place=place)
    found.check(names.every)
    return found


def _event(text: str, place: str, names: Names) -> Event:
    event = read_event(text, place=place)
    if event.absent or event.what == SPEND:
        raise WorkspaceError(f"{place} {text!r}: nothing happens then. Name what people do, such as 'order'.")
    if event.condition is not None:
        told = f"There are {', '.join((*COLUMNS, *names.answers))}; features.form_answers names further ones."
        event.condition.check((*COLUMNS, *names.answers), called="column of events", told=told)
        example = {name: [0.0 if name in NUMBERS else ""] for name in event.condition.names}
        event.condition.mask(pd.DataFrame(example))  # a comparison of text with a number is refused now
    return event


def _lacks(trigger: Trigger, names: Names) -> str:
    """What the shop's tables lack for it; empty if nothing."""
    asked = (name for condition in trigger.conditions for name in condition.names)
    return next((f"{name} needs {names.lacking[name]}" for name in asked if name in names.lacking), "")


def _with_value(trigger: Trigger, names: Names) -> Trigger:
    told = trigger.value is not None and not any(name in names.lacking for name in trigger.value.names)
    return trigger if told else replace(trigger, value=None)


def _circle(triggers: Sequence[Trigger]) -> str:
    """Why a journey would begin itself again and again; empty if none does."""
    after = {a.name: [b.name for b in triggers if any(_begins(a.goal, e) for e in b.events)] for a in triggers}
    goals = {trigger.name: trigger.goal.text for trigger in triggers}
    for trigger in triggers:
        if trigger.name in after[trigger.name] and not trigger.steps[0].wait:
            return (
                f"actions.{trigger.name}: reaching its goal {trigger.goal.text!r} begins it again at once. "
                f"Give its first step a wait, or name another goal."
            )
        path = _way_back(trigger.name, after)
        if path:
            round_ = ", ".join(f"the goal {goals[a]!r} of {a} begins {b}" for a, b in pairwise(path))
            return f"actions.{trigger.name}.goal: a circle: {round_}. Name another goal for one of them."
    return ""


def _way_back(start: str, after: Mapping[str, Sequence[str]]) -> list[str]:
    """A way from a trigger through others back to it; empty if there is none."""
    ways = [[start, other] for other in after[start] if other != start]
    seen = set()
    while ways:
        way = ways.pop()
        for other in after[way[-1]]:
            if other == start:
                return [*way, start]
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []


def _begins(goal: Event, event: Event) -> bool:
    """Whether reaching a goal is such an event, or may be: two different conditions are taken for two things."""
    asked = [(one.category, None if one.condition is None else one.condition.text) for one in (goal, event)]
    return _what(goal) == _what(event) and (asked[0] == asked[1] or (None, None) in asked)


def _what(event: Event) -> str:
    return ORDER if event.what == "order_completed" else event.what


def unknown(name: str, called: str, known: Collection[str]) -> str:
    """That there is none of this name, and what may have been meant."""
    return f"{name!r} is no {called}" + meant(name, known, f". There are {', '.join(sorted(known)) or 'none'}.")
