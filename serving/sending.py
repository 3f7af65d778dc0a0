"""When and where to write to customers: the champion's plan for each, in words, and the decision to be stored."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from data.chance import stable_uniform
from data.settings import Rules
from features.hours import HOURS, Habits
from models.timing import Engagement, Timing
from serving.champions import SEND_TIME
from serving.decisions.rules import Person, allowed_hours
from serving.schemas import SendTime


def no_time(note: str) -> SendTime:
    """Why there is no hour."""
    empty = dict.fromkeys(SendTime.model_fields)
    return SendTime(**{**empty, "fallback": True, "note": note})


def send_times(
    model: Timing, version: str, habits: Habits, user_ids: Sequence[str], *, explore: float, now: datetime
) -> tuple[list[SendTime], list[dict[str, Any]]]:
    """The hour and channel of each customer, and a row of `decisions` for each; the same all day unless habits change.

    Args:
        model: The champion.
        version: Its name and number.
        habits: Of those who are known.
        user_ids: Who is asked about; a stranger gets what is best for everybody.
        explore: Share of the hours that are drawn evenly.
        now: Whose date, in UTC, the draw is for.
    """
    users = pd.Index(user_ids, dtype=object)
    told = Engagement.from_frames(users, habits.answers, habits.active, channels=model.channels)
    wanted, zones = habits.wanted(users), habits.zones(users)
    plan = model.plan(
        told,
        wanted=wanted,
        reachable=habits.reachable(users, model.channels),
        explore=explore,
        draw=stable_uniform(user_ids, salt=f"{SEND_TIME} {now:%Y-%m-%d}"),
    )
    times, decisions = [], []
    for row, user_id in enumerate(user_ids):
        code = plan.channel[row]
        notes = (
            (not plan.own[row], "no answers or visits are known: the best for everybody"),
            (zones[row] is None, "the time zone is the shop's commonest: no other is known"),
            (wanted[row].any(), "within the hours that they chose"),
            (code < 0, "no channel that is known reaches them"),
        )
        time = SendTime(
            hour=int(plan.choice.hour[row]),
            probability=float(plan.choice.probability[row]),
            best_hour=int(plan.best_hour[row]),
            time_zone=zones[row] or habits.usual_zone,
            channel=None if code < 0 else model.channels[code],
            open_rate=_known(plan.open_rate[row]),
            open_rate_low=_known(plan.low[row]),
            open_rate_high=_known(plan.high[row]),
            fallback=not plan.own[row],
            note="; ".join(note for holds, note in notes if holds) or None,
            decision_id=None,
        )
        allowed = np.flatnonzero(plan.allowed[row])
        decision = _decision(time, user_id, version, [str(hour) for hour in allowed], now)
        times.append(time.model_copy(update={"decision_id": decision["decision_id"]}))
        decisions.append(decision)
    return times, decisions


@dataclass(frozen=True)
class Moment:
    """When a message goes out.

    Attributes:
        at: When.
        hour: Of the person's own day; None = nothing tells a better moment than now.
        probability: The chance with which it was chosen; None where nothing was.
    """

    at: datetime
    hour: int | None = None
    probability: float | None = None


def next_moment(time: SendTime | None, person: Person, channel: str, rules: Rules, *, now: datetime) -> Moment:
    """The next time that it is somebody's hour.

    An hour that is quiet on this channel gives way to the next that is not: it was not chosen by the model then. On
    site people come themselves, so there it is now.

    Example:
        >>> from datetime import UTC
        >>> time = no_time("").model_copy(update={"hour": 20, "probability": 0.9, "time_zone": "Asia/Tokyo"})
        >>> next_moment(time, Person("ann"), "email", Rules(), now=datetime(2026, 1, 31, 12, tzinfo=UTC)).at.isoformat()
        '2026-02-01T11:00:00+00:00'
    """
    if channel in rules.on_site or time is None or time.hour is None:
        return Moment(now)
    allowed = allowed_hours(person, channel, rules)
    hours = [hour for hour in (*range(time.hour, HOURS), *range(time.hour)) if allowed[hour]]
    if not hours:
        return Moment(now)
    hour = hours[0]
    at = local = now.astimezone(ZoneInfo(time.time_zone or person.timezone))
    if local.hour != hour:
        at = local.replace(hour=hour, minute=0, second=0, microsecond=0)
        at += timedelta(days=1 if at <= local else 0)
    return Moment(at.astimezone(UTC), hour, time.probability if hour == time.hour else None)


def _decision(time: SendTime, user_id: str, version: str, allowed: list[str], now: datetime) -> dict[str, Any]:
    """Its id is that of the day and of what was chosen: asked again, nothing new is stored."""
    chosen = json.dumps([user_id, version, time.hour, time.probability, time.channel, time.time_zone])
    day = int(now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * 10**9
    return {
        "decision_id": f"{day:016x}{blake2b(chosen.encode(), digest_size=8).hexdigest()}",
        "user_id": user_id,
        "at": now,
        "kind": "action",
        "slot": SEND_TIME,
        "arm": "model",
        "arm_share": 1.0,
        "chosen": [str(time.hour)],
        "probability": [time.probability],
        "candidates": allowed,
        "model_version": version,
        "context": json.dumps({"channel": time.channel, "time_zone": time.time_zone}),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
