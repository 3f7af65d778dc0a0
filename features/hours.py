"""When customers answer messages and are in the shop, by the hour of their own day, and when they want messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import ibis
import numpy as np
import pandas as pd
from ibis.expr import types as ir

from data.errors import DataError
from data.tables import Tables, cutoff_literal
from features.definitions import epoch_seconds

SETTLED_DAYS = 3
"""Messages younger than this may yet be opened: they say nothing so far."""
NO_ZONE = "UTC"
HOURS = 24
QUARTER_SECONDS = 900
"""Hours of the clock begin at a quarter of UTC's, in India at half past."""
WANTED = "hours"
"""The preference that says when somebody wants to be written to: `20-23` is from 20:00 to 23:00, their own time."""
SPAN = re.compile(r"\s*(\d{1,2})\s*-\s*(\d{1,2})\s*")


@dataclass(frozen=True, eq=False)
class Habits:
    """When customers answer and are in the shop, and how they want to be reached. An `hour` is 0 to 23, in their zone.

    A mail program that opens messages by itself hides the person's own opens: where it opened any of a person's
    messages on a channel, all of them there are `by_click`, and only a click counts as an answer. What a message
    brought (its channel is on the event) is no visit: it tells when the shop writes.

    Attributes:
        answers: A row for each message that arrived and had its time to be answered, by user and time: user_id,
            message_id, channel, campaign_id, decision_id, at (UTC), hour, by_click and answered.
        active: A row for each hour of the calendar in which somebody did something in the shop, by user and time:
            user_id, at (its start, UTC) and hour. Orders count where there are no events.
        people: By user_id: `zone`, the person's own (None = none that a clock knows), `channels` that reach them (a
            list; None = not said) and `wanted`, the hours they chose (`20-23`; None = none).
        usual_zone: The shop's commonest time zone, for those who have none.
    """

    answers: pd.DataFrame
    active: pd.DataFrame
    people: pd.DataFrame
    usual_zone: str

    def wanted(self, users: pd.Index) -> np.ndarray:
        """The hours that people chose, bool (n, 24); none of a row for who did not choose."""
        return np.array([wanted_hours(text) for text in self.people["wanted"].reindex(users)]).reshape(-1, HOURS)

    def zones(self, users: pd.Index) -> list[str | None]:
        """People's own time zones; None of who has none."""
        return [zone if isinstance(zone, str) else None for zone in self.people["zone"].reindex(users)]

    def reachable(self, users: pd.Index, channels: tuple[str, ...]) -> np.ndarray:
        """Whether a channel reaches somebody, bool (n, channels); where nothing is said, all do."""
        said = self.people["channels"].reindex(users)
        rows = [[name in told for name in channels] if _is_list(told) else [True] * len(channels) for told in said]
        return np.array(rows, dtype=bool).reshape(-1, len(channels))


def habits(
    known: Tables, cutoff: datetime, *, usual_zone: str | None = None, between: tuple[str, str] | None = None
) -> Habits:
    """What is known at a cutoff of everybody, or of the user ids from the first to the last of two.

    Args:
        known: `tables.as_of(cutoff)`.
        cutoff: When they were known.
        usual_zone: Of who has none that a clock knows; by default the `zone_of_most`.
        between: First and last id.

    Raises:
        DataError: there are no messages, or none says whether it was opened.
    """
    found = {name: rows.execute() for name, rows in expressions(known, cutoff, between=between).items()}
    return from_rows(found, usual_zone=zone_of_most(known) if usual_zone is None else usual_zone)


def zone_of_most(known: Tables) -> str:
    """The shop's commonest time zone that a clock knows; UTC if there is none."""
    counted = known["users"].group_by("timezone").agg(people=lambda users: users.count()).execute().dropna()
    counted = counted[counted["timezone"].map(is_zone).astype(bool)].sort_values(["people", "timezone"])
    return NO_ZONE if counted.empty else str(counted["timezone"].iloc[-1])


def wanted_hours(text: object) -> np.ndarray:
    """The hours of `20-23`, over midnight too, bool (24,); none of what cannot be read.

    Example:
        >>> np.flatnonzero(wanted_hours("22-01")).tolist(), wanted_hours("evenings").any().item()
        ([0, 22, 23], False)
    """
    read = SPAN.fullmatch(text) if isinstance(text, str) else None
    hours = np.zeros(HOURS, bool)
    if read and (first := int(read[1])) < HOURS and (last := int(read[2])) <= HOURS:
        hours[np.arange(first, last if last > first else last + HOURS) % HOURS] = True
    return hours


def expressions(
    known: Tables, cutoff: datetime | ir.TimestampScalar, *, between: tuple[str, str] | None = None
) -> dict[str, ir.Table]:
    """The tables that `from_rows` reads, before any clock is looked at; arguments as those of `habits`.

    Raises:
        DataError: there are no messages, or none says whether it was opened.
    """
    found = {"answers": _answers(known, cutoff), "active": _active(known), "people": _people(known)}
    if between:
        found = {name: rows.filter(rows.user_id.between(*between)) for name, rows in found.items()}
    order = ("user_id", "second", "message_id")
    return {name: rows.order_by(*(one for one in order if one in rows.columns)) for name, rows in found.items()}


def from_rows(found: Mapping[str, pd.DataFrame], *, usual_zone: str) -> Habits:
    """The habits in the rows of `expressions`."""
    people = found["people"].set_index("user_id")
    right = {name: is_zone(name) for name in people["timezone"].dropna().unique()}
    own = people["timezone"].map(right).fillna(False).astype(bool)
    people["zone"] = people.pop("timezone").astype(object).where(own, None)
    answers, active = (_with_hours(found[name], people["zone"], usual_zone) for name in ("answers", "active"))
    active["at"] -= pd.to_timedelta(active.pop("minute"), unit="min")
    active = active.drop_duplicates(["user_id", "at"], ignore_index=True)
    return Habits(answers.drop(columns="minute"), active, people, usual_zone)


def _answers(known: Tables, cutoff: datetime | ir.TimestampScalar) -> ir.Table:
    if not known.has("messages", "opened_at"):
        raise DataError("the hour to write at is learnt from `messages` with `opened_at`; bring them.")
    messages = known["messages"]
    settled = cutoff_literal(cutoff) - ibis.interval(days=SETTLED_DAYS)
    messages = messages.filter(messages.bounced_at.isnull(), messages.sent_at < settled)
    by_machine = messages.machine_opened.fill_null(False).cast("int64")
    line = ibis.window(group_by=["user_id", "channel"])
    rows = messages.mutate(by_click=by_machine.max().over(line) > 0)
    clicked = ~rows.clicked_at.isnull()
    return rows.select(
        "user_id",
        "message_id",
        "channel",
        "campaign_id",
        "decision_id",
        "by_click",
        answered=rows.by_click.ifelse(clicked, clicked | ~rows.opened_at.isnull()),
        second=epoch_seconds(rows.sent_at),
    )


def _active(known: Tables) -> ir.Table:
    if known.has("events", "occurred_at"):
        written = known["messages"].select("channel").distinct()
        rows = known["events"].filter(lambda event: ~event.channel.fill_null("").isin(written.channel))
    else:
        rows = known["orders"].filter(lambda line: line.quantity > 0)
    rows = rows.filter(~rows.user_id.isnull())
    quarter = (epoch_seconds(rows.occurred_at) / QUARTER_SECONDS).floor().cast("int64")
    return rows.select("user_id", second=quarter * QUARTER_SECONDS).distinct()


def _people(known: Tables) -> ir.Table:
    """user_id, timezone, channels and wanted, of who is in `users` or chose hours."""
    chosen = known["preferences"].filter(lambda row: row["name"] == WANTED)
    newest = ibis.row_number().over(group_by="user_id", order_by=[ibis.desc(chosen["at"]), chosen["value"]])
    chosen = chosen.mutate(newest=newest).filter(lambda row: row.newest == 0).select("user_id", wanted="value")
    users = known["users"].select("user_id", "timezone", "channels").outer_join(chosen, "user_id")
    return users.select("timezone", "channels", "wanted", user_id=ibis.coalesce(users.user_id, users.user_id_right))


def _with_hours(frame: pd.DataFrame, zones: pd.Series, usual_zone: str) -> pd.DataFrame:
    """With when it was (`at`, from `second` since 1970), and the local `hour` and `minute` of it."""
    mine = frame["user_id"].map(zones).fillna(usual_zone)
    at = pd.to_datetime(frame["second"], unit="s", utc=True)
    hour, minute = np.zeros((2, len(frame)), np.int64)
    for name, rows in at.groupby(mine):
        place, local = frame.index.get_indexer(rows.index), rows.dt.tz_convert(str(name)).dt
        hour[place], minute[place] = local.hour, local.minute
    return frame.drop(columns="second").assign(at=at, hour=hour, minute=minute)


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))


@lru_cache(maxsize=1024)
def is_zone(name: str) -> bool:
    """Whether a clock knows the time zone: pandas', which takes `+02:00` for one too, and Python's, which does not."""
    try:
        ZoneInfo(name)
        pd.Timestamp(0, tz=name)
    except Exception:  # noqa: BLE001 - every time zone library has errors of its own
        return False
    return True
