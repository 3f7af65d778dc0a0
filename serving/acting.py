"""What is due for people now: where each of them is in each trigger's journey, and what is done about it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from data.settings import Settings
from data.state import State
from data.tables import Tables
from features.segments import lifecycle_of, members
from features.segments import parsed as segments_of
from features.snapshots import lacking
from serving.channels import channels_of
from serving.contacting import Acted, Asked, Parts, Row, act
from serving.decisions import triggers
from serving.decisions.journeys import Due, Handed, Waiting, next_step
from serving.decisions.triggers import LIFECYCLE, Names, begun, check_catalogue, reached
from serving.happened import Happened, Happenings
from serving.people import People
from serving.profiles import Profiles
from serving.schemas import SendTime, WaitingJourney
from serving.upserted import there

TOLD_DAYS = 30


class Acting:
    """Tells what is due for whom, from the checked tables, the state and what was handed out.

    Attributes:
        triggers: Those of the settings that this shop's tables can tell, and why not the others.
    """

    def __init__(
        self, settings: Settings, tables: Tables, state: State, *, profiles: Profiles, people: People, parts: Parts
    ) -> None:
        """Read the triggers and hold them against what the shop has.

        Raises:
            WorkspaceError: a trigger that cannot be meant; says where.
        """
        self._settings, self._profiles, self._people, self._parts = settings, profiles, people, parts
        lacks = lacking(tables, settings.features)
        segments = segments_of(settings.segments)
        reads = {LIFECYCLE: ("orders_life",), **{name: one.names for name, one in segments.items()}}
        lacks |= {name: lacks[of] for name, read in reads.items() for of in read if of in lacks}
        self._segments = {name: one for name, one in segments.items() if name not in lacks}
        answers = settings.features.form_answers
        names = Names(
            features=profiles.columns,
            lacking=lacks,
            labels=settings.propensity,
            segments=self._segments,
            answers=answers,
        )
        self.triggers = triggers.read(settings.actions, names, channels=channels_of(settings))
        check_catalogue(
            self.triggers.on,
            offers=there(tables, state, "offers", "offer_id"),
            slots=there(tables, state, "variants", "slot"),
        )
        asked = {event.what for trigger in self.triggers.on for event in (*trigger.events, trigger.goal)}
        self._happenings = Happenings(tables, state, profiles, answers=answers, asked=asked)
        expressions = [one for trigger in self.triggers.on for one in trigger.conditions]
        self._conditions = {one.text: one for one in expressions}
        values = [trigger.value for trigger in self.triggers.on if trigger.value is not None]
        named = {name for one in (*expressions, *values) for name in one.names}
        self._labels = [label for label in settings.propensity if label in named]
        self._named = named
        self._told(profiles.example)  # a comparison of text with a number is refused now

    def decide(self, user_ids: Sequence[str], *, now: datetime, channel: str | None = None) -> list[Acted]:
        """What is to be done for each of these people, in their order; nothing is stored here.

        Args:
            user_ids: Whom, each once; somebody nobody knows has no journeys.
            now: The moment.
            channel: Only what goes out on it.

        Raises:
            StateUnavailableError: the state cannot be read, so nobody knows what was sent.
        """
        if not self.triggers.on:
            return [Acted(user_id) for user_id in user_ids]
        happened = self._happenings.of(user_ids, now)
        holds, worth = self._told(self._frame(user_ids))
        journeys = self._journeys(user_ids, happened, holds, now)
        busy = [user_id for user_id in user_ids if any(isinstance(one, Due) for one in journeys[user_id])]
        people = dict(zip(busy, self._people.of(busy, now=now), strict=True))
        hours = self._hours(busy, now)
        found = []
        for number, user_id in enumerate(user_ids):
            waiting = [_waiting(one) for one in journeys[user_id] if isinstance(one, Waiting) and _young(one, now)]
            due = [one for one in journeys[user_id] if isinstance(one, Due)]
            if not due:
                found.append(Acted(user_id, waiting=waiting))
                continue
            mine = {name: float(values[number]) for name, values in worth.items()}
            time, time_row = hours[user_id]
            asked = Asked(user_id, people[user_id], due, mine, time, time_row, channel, now)
            acted = act(asked, self._settings, self._parts)
            found.append(replace(acted, waiting=waiting, newest=happened.newest.get(user_id, 0)))
        return found

    def _journeys(
        self,
        user_ids: Sequence[str],
        happened: Happened,
        holds: Mapping[str, np.ndarray],
        now: datetime,
    ) -> dict[str, list[Due | Waiting]]:
        """Where everybody is in every journey, in the order of the triggers."""
        found: dict[str, list[Due | Waiting]] = {user_id: [] for user_id in user_ids}
        position = {user_id: number for number, user_id in enumerate(user_ids)}
        for trigger in self.triggers.on:
            beginnings = begun(trigger, happened.rows) if trigger.events else {}
            goals = reached(trigger, happened.rows)
            logs: dict[tuple[str, str], list[Handed]] = defaultdict(list)
            for user_id, log in happened.handed.items():
                for entry in log:
                    if entry.trigger == trigger.name:
                        logs[user_id, entry.beginning.about].append(entry)
            asked = {*beginnings, *logs} if trigger.events else {*((user_id, "") for user_id in user_ids), *logs}
            again = trigger.declared.again_days
            for user_id, about in sorted(asked & {(u, a) for u, a in asked if u in position}):
                here = position[user_id]
                step = next_step(
                    user_id,
                    trigger,
                    beginnings.get((user_id, about)),
                    logs.get((user_id, about), ()),
                    goal_at=goals.get((user_id, about)),
                    holds=lambda condition, here=here: bool(holds[condition.text][here]),  # type: ignore[misc]
                    now=now,
                    again_days=self._settings.rules.re_entry_days if again is None else again,
                )
                if step is not None:
                    found[user_id].append(step)
        return found

    def _frame(self, user_ids: Sequence[str]) -> pd.DataFrame:
        """The features of these people, a row each; missing of those who are not known."""
        frame, known = self._profiles.of(user_ids)
        return frame.set_axis(pd.Index(known, dtype=object)).reindex(pd.Index(user_ids, dtype=object))

    def _told(self, frame: pd.DataFrame) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """For which rows each condition holds, by its text; and what each trigger's message is worth, by its name."""
        columns = frame.reindex(columns=[name for name in frame.columns if name in self._named])
        further: dict[str, Any] = {label: self._parts.probabilities(label, frame) for label in self._labels}
        further |= members({name: one for name, one in self._segments.items() if name in self._named}, frame)
        if LIFECYCLE in self._named:
            further[LIFECYCLE] = lifecycle_of(frame)
        columns = columns.assign(**further)
        holds = {text: condition.mask(columns) for text, condition in self._conditions.items()}
        worth = {
            trigger.name: np.full(len(frame), math.nan) if trigger.value is None else trigger.value.numbers(columns)
            for trigger in self.triggers.on
        }
        return holds, worth

    def _hours(self, user_ids: Sequence[str], now: datetime) -> dict[str, tuple[SendTime, Row | None]]:
        if not user_ids:
            return {}
        times, rows = self._parts.hours(user_ids, now=now)
        told: Sequence[Row | None] = rows or [None] * len(times)
        return dict(zip(user_ids, zip(times, told, strict=True), strict=True))


def _young(one: Waiting, now: datetime) -> bool:
    """Whether it is worth telling: what ended long ago is not."""
    return one.why == "waits" or now - one.began.at < timedelta(days=TOLD_DAYS)


def _waiting(one: Waiting) -> WaitingJourney:
    return WaitingJourney(trigger=one.trigger, about=one.began.about or None, why=one.why, reason=one.reason)
