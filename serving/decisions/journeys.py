"""Journeys: which step of which is due for a person now, from what they did and what was handed out already.

A step is known by the person, the trigger, what it is about, the moment that began the journey and its number: asked
twice, by whomever, it is the same step under the same decision id.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

from data.chance import stable_uniform
from features.expressions import Expression
from serving.decisions.arms import ArmName
from serving.decisions.triggers import Beginning, Step, Trigger

REPEAT_HOURS = 24
"""What was handed out and is not known to be sent is answered again for so long, as the same decision: the asker may
have lost the answer. Later it counts as sent."""
NEVER = datetime(1970, 1, 1, tzinfo=UTC)

Holds = Callable[[Expression], bool]
"""Whether a condition holds for the person."""
Why = Literal["waits", "goal", "exit", "condition", "late", "re_entry", "over"]


@dataclass(frozen=True)
class Handed:
    """A step that was handed out, as the log has it.

    Attributes:
        decision_id: Of the decision.
        trigger: Whose.
        beginning: Of the journey.
        step: Its number, from 0.
        at: When it was handed out.
        sent: Whether it is known to be sent or shown.
        nothing: Whether nothing was done, because the person is in the holdout.
        told: What was decided.
    """

    decision_id: str
    trigger: str
    beginning: Beginning
    step: int
    at: datetime
    sent: bool = False
    nothing: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Due:
    """A step that is due.

    Attributes:
        trigger: Whose.
        number: Of the step, from 0.
        beginning: Of the journey.
        decision_id: That it has, whoever asks.
        handed: As it was handed out before; None if it was not.
    """

    trigger: Trigger
    number: int
    beginning: Beginning
    decision_id: str
    handed: Handed | None = None

    @property
    def step(self) -> Step:
        """What is to be done."""
        return self.trigger.steps[self.number]

    @property
    def name(self) -> str:
        """What decisions call it: `cart_abandoned.1`."""
        return f"{self.trigger.name}.{self.number + 1}"


@dataclass(frozen=True)
class Waiting:
    """A journey of which nothing is due.

    Attributes:
        trigger: Its name.
        began: What began it.
        why: In a word.
        reason: In words.
    """

    trigger: str
    began: Beginning
    why: Why
    reason: str


@dataclass(frozen=True)
class Settled:
    """Which of several steps goes first.

    Attributes:
        first: Its position.
        probability: The chance with which it was chosen.
        by: Why: what it is worth, the shop's order, or chance.
    """

    first: int
    probability: float
    by: Literal["value", "priority", "chance"]


def next_step(
    user_id: str,
    trigger: Trigger,
    beginning: Beginning | None,
    log: Sequence[Handed],
    *,
    goal_at: datetime | None,
    holds: Holds,
    now: datetime,
    again_days: float,
) -> Due | Waiting | None:
    """Where a person is in a journey.

    Args:
        user_id: Whose.
        trigger: Of the journey.
        beginning: The newest event that begins it; None if there is none. A trigger without events begins when its
            condition comes to hold.
        log: What was handed out of this trigger, about the same thing.
        goal_at: When the goal was reached last.
        holds: Whether a condition holds now.
        now: The moment.
        again_days: So long after the first step was handed out no other journey begins.

    Returns:
        The step that is due, or why none is; None where nothing began.

    Example:
        >>> from data.settings import Action, ActionStep
        >>> from serving.decisions.triggers import Names, read
        >>> cart = Action(events=("product_added",), steps=(ActionStep(wait="4 hours"),))
        >>> [trigger] = read({"cart": cart}, Names()).on
        >>> added = Beginning(datetime(2026, 1, 31, 12, tzinfo=UTC))
        >>> for hour in (15, 16):
        ...     now = datetime(2026, 1, 31, hour, tzinfo=UTC)
        ...     found = next_step("ann", trigger, added, [], goal_at=None, holds=bool, now=now, again_days=30)
        ...     print(type(found).__name__)
        Waiting
        Due
    """
    under_way, anew = _journeys(user_id, trigger, beginning, log, now=now, again_days=again_days)
    found = None if under_way is None else _where(under_way, goal_at, holds, now, again_days)
    goes_on = isinstance(found, Due) or (found is not None and found.why == "waits")
    return found if goes_on or anew is None else _where(anew, goal_at, holds, now, again_days)


def settle(contenders: Sequence[Due], worth: Sequence[float], *, arm: ArmName, user_id: str) -> Settled:
    """Which of the steps that may be done goes first.

    By what they are expected to earn if that is known of all of them, else by `priority`, then as they were declared.
    In the arm `usual` always by priority, in `random` evenly by chance: the same steps, the same draw.

    Args:
        contenders: At least one.
        worth: What each is expected to earn; NaN where that is not known.
        arm: The person's.
        user_id: Who.
    """
    names = [due.decision_id for due in contenders]
    if arm == "random":
        order = sorted(range(len(names)), key=names.__getitem__)
        drawn = stable_uniform([user_id], salt=f"action {' '.join(sorted(names))}")[0]
        return Settled(order[int(drawn * len(names))], 1 / len(names), "chance")
    by_priority = [-due.trigger.declared.priority for due in contenders]
    if arm == "usual" or any(math.isnan(one) for one in worth):
        return Settled(min(range(len(names)), key=lambda i: (by_priority[i], i)), 1.0, "priority")
    return Settled(min(range(len(names)), key=lambda i: (-worth[i], by_priority[i], i)), 1.0, "value")


def step_id(user_id: str, trigger: str, about: str, keyed: datetime, number: int) -> str:
    """The decision id of a step: by the moment that it is known by, the same for whoever asks.

    Example:
        >>> began = datetime(2026, 1, 31, tzinfo=UTC)
        >>> step_id("ann", "cart_abandoned", "", began, 0) == step_id("ann", "cart_abandoned", "", began, 0)
        True
    """
    told = json.dumps([user_id, trigger, about, keyed.isoformat(), number])
    return f"{round(keyed.timestamp() * 1e6) * 1000:016x}{blake2b(told.encode(), digest_size=8).hexdigest()}"


@dataclass(frozen=True)
class _Journey:
    """A journey under way.

    Attributes:
        user_id: Whose.
        trigger: Of the journey.
        beginning: What began it.
        keyed: The moment that its steps are known by.
        last: The step that was handed out last; None if none was.
        anew: Whether something began it anew, too early.
    """

    user_id: str
    trigger: Trigger
    beginning: Beginning
    keyed: datetime
    last: Handed | None = None
    anew: bool = False

    def none(self, why: Why, reason: str) -> Waiting:
        """Nothing is due."""
        return Waiting(self.trigger.name, self.beginning, why, reason)


def _journeys(
    user_id: str,
    trigger: Trigger,
    beginning: Beginning | None,
    log: Sequence[Handed],
    *,
    now: datetime,
    again_days: float,
) -> tuple[_Journey | None, _Journey | None]:
    """The journey that was begun, and the one that may begin; None if there is none.

    A newer event ends the one that was begun, once that is `again_days` ago. What begins by a condition, which may hold
    all the time, begins anew only once nothing of the one before is ahead.
    """
    log = sorted(log, key=lambda handed: (handed.at, handed.step))
    last = log[-1] if log else None
    newer = beginning is not None and (last is None or beginning.at > last.beginning.at)
    under_way = None
    if last is not None:
        under_way = _Journey(user_id, trigger, last.beginning, last.beginning.at, last, newer)
        first_at = min(handed.at for handed in log if handed.beginning.at == last.beginning.at)
        if now - first_at < timedelta(days=again_days):
            return under_way, None
    if beginning is not None and newer:
        return None, _Journey(user_id, trigger, beginning, beginning.at)
    if trigger.events:
        return under_way, None
    # What begins by a condition begins when it is first seen to hold: the journey before it tells two who see it at
    # once that they see the same.
    return under_way, _Journey(user_id, trigger, Beginning(now), NEVER if last is None else last.beginning.at)


def _where(
    journey: _Journey, goal_at: datetime | None, holds: Holds, now: datetime, again_days: float
) -> Due | Waiting | None:
    """The step of a journey that is due, or why none is; None where it never began."""
    trigger, last = journey.trigger, journey.last
    ended = _ended(journey, goal_at, holds)
    if ended is not None:
        # What begins by a condition has not begun where it does not hold: nothing is to be told of it.
        return None if ended.why == "condition" and not trigger.events and last is None else ended
    there = last is not None and last.step < len(trigger.steps)  # the settings may have lost steps since
    if last is not None and there and not last.sent and now - last.at < timedelta(hours=REPEAT_HOURS):
        return Due(trigger, last.step, journey.beginning, last.decision_id, last)
    if last is not None and last.step + 1 >= len(trigger.steps) and journey.anew:
        return journey.none("re_entry", f"it began {journey.beginning.at:%Y-%m-%d}; anew after {again_days:g} days")
    return _ahead(journey, holds, now)


def _ended(journey: _Journey, goal_at: datetime | None, holds: Holds) -> Waiting | None:
    """What ended it, if anything did."""
    trigger = journey.trigger
    if goal_at is not None and goal_at > journey.beginning.at:
        return journey.none("goal", f"{trigger.goal.text!r} was reached")
    if trigger.exit is not None and holds(trigger.exit):
        return journey.none("exit", f"{trigger.exit.text} holds")
    if trigger.condition is not None and not holds(trigger.condition):
        return journey.none("condition", f"{trigger.condition.text} does not hold")
    return None


def _ahead(journey: _Journey, holds: Holds, now: datetime) -> Due | Waiting | None:
    """The next step that is neither left out nor too late; each waits from when the one before was done or was due.

    None where a step would have to wait for what begins with the first step, and none was theirs.
    """
    trigger, beginning, last = journey.trigger, journey.beginning, journey.last
    first, due = (0, beginning.at) if last is None else (last.step + 1, last.at)
    late = False
    for number, step in enumerate(trigger.steps[first:], start=first):
        if step.by_rhythm and beginning.rhythm_days is None:
            return journey.none("waits", "there is no rhythm yet")
        due += timedelta(days=step.wait * (beginning.rhythm_days or 0.0) if step.by_rhythm else step.wait)
        if now < due:
            if last is None and not trigger.events:
                return None
            return journey.none("waits", f"step {number + 1} is due on {due:%Y-%m-%d %H:%M} UTC")
        if step.condition is not None and not holds(step.condition):
            continue
        if now - due >= timedelta(days=trigger.declared.due_days):
            late = True
        else:
            step_key = step_id(journey.user_id, trigger.name, beginning.about, journey.keyed, number)
            return Due(trigger, number, beginning, step_key)
    if late:
        return journey.none("late", f"nothing was done within {trigger.declared.due_days:g} days")
    return journey.none("over", "no further step is for them")
