"""Which messages a customer answered and when they were in the shop, by the hour of their own day."""

from __future__ import annotations

from datetime import timedelta

import ibis
import numpy as np
import pandas as pd

from data.errors import DataError
from data.tables import Tables, cutoff_literal
from features.definitions import epoch_seconds

SETTLED_DAYS = 3
"""Messages younger than this may yet be opened: they say nothing so far."""
NO_ZONE = "UTC"


def answers(known: Tables, cutoff: pd.Timestamp) -> pd.DataFrame:
    """A row for each message that arrived and had its time to be answered, sorted by user and time.

    Columns: user_id, channel, campaign_id, sent_at (UTC), `hour` (0 to 23, in the person's time zone), `by_click` and
    `answered`. A mail program that opens messages by itself hides the person's own opens: where it opened any of a
    person's messages on a channel, all of them there are `by_click`, and only a click counts as an answer.

    Args:
        known: `tables.as_of(cutoff)`.
        cutoff: When they were known.

    Raises:
        DataError: there are no messages, or none says whether it was opened.
    """
    if not known.has("messages", "opened_at"):
        raise DataError("the hour to write at is learnt from `messages` with `opened_at`; bring them.")
    messages = known["messages"]
    settled = cutoff_literal(pd.Timestamp(cutoff).to_pydatetime() - timedelta(days=SETTLED_DAYS))
    messages = messages.filter(messages.bounced_at.isnull(), messages.sent_at < settled)
    by_machine = messages.machine_opened.fill_null(False).cast("int64")
    line = ibis.window(group_by=["user_id", "channel"])
    rows = messages.mutate(by_click=by_machine.max().over(line) > 0)
    clicked = ~rows.clicked_at.isnull()
    rows = rows.select(
        "user_id",
        "channel",
        "campaign_id",
        "sent_at",
        "message_id",
        "by_click",
        answered=rows.by_click.ifelse(clicked, clicked | ~rows.opened_at.isnull()),
        second=epoch_seconds(rows.sent_at),
    )
    frame = rows.order_by("user_id", "sent_at", "message_id").execute()
    frame["hour"] = _local_hour(frame, zones(known))
    return frame.drop(columns=["message_id", "second"])


def active_hours(known: Tables) -> pd.DataFrame:
    """A row for each hour of the calendar in which a customer did something in the shop, sorted by user and time.

    Columns: user_id, `at` (its start, UTC) and `hour` (0 to 23, in the person's time zone). Orders count where there
    are no events. What a message brought (its channel is on the event) is left out: it tells when the shop writes.
    """
    if known.has("events", "occurred_at"):
        written = known["messages"].select("channel").distinct()
        rows = known["events"].filter(lambda event: ~event.channel.fill_null("").isin(written.channel))
    else:
        rows = known["orders"].filter(lambda line: line.quantity > 0)
    rows = rows.filter(~rows.user_id.isnull())
    hours = rows.select("user_id", hour_of=(epoch_seconds(rows.occurred_at) / 3600).floor().cast("int64")).distinct()
    frame = hours.order_by("user_id", "hour_of").execute()
    frame["second"] = frame.pop("hour_of") * 3600
    frame["hour"] = _local_hour(frame, zones(known))
    return frame.assign(at=pd.to_datetime(frame.pop("second"), unit="s", utc=True))


def zones(known: Tables) -> pd.Series:
    """Each customer's time zone by user_id; without one, or with one that no clock knows, the shop's commonest."""
    frame = known["users"].select("user_id", "timezone").order_by("user_id").execute()
    given = frame.set_index("user_id")["timezone"]
    right = given.map({zone: _is_zone(zone) for zone in given.dropna().unique()}).fillna(False).astype(bool)
    usual = given[right].mode()
    zone = given.where(right, usual.iloc[0] if len(usual) else NO_ZONE)
    zone.attrs["usual"] = usual.iloc[0] if len(usual) else NO_ZONE
    return zone


def _local_hour(frame: pd.DataFrame, zone: pd.Series) -> np.ndarray:
    """The local hour, 0 to 23, of each row's `second` since 1970, by its user's time zone."""
    mine = frame["user_id"].map(zone).fillna(zone.attrs["usual"])
    when = pd.to_datetime(frame["second"], unit="s", utc=True)
    hour = np.zeros(len(frame), np.int64)
    for name, rows in when.groupby(mine):
        hour[frame.index.get_indexer(rows.index)] = rows.dt.tz_convert(str(name)).dt.hour
    return hour


def _is_zone(name: str) -> bool:
    try:
        pd.Timestamp(0, tz=name)
    except Exception:  # noqa: BLE001 - every time zone library has errors of its own
        return False
    return True
