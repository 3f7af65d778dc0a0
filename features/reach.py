"""On which channels people may be written to: those that reach them, for which their last word was yes."""

from __future__ import annotations

from datetime import datetime

import ibis
import pandas as pd
from ibis.expr import types as ir

from data.tables import Tables

CHANNELS = ("email", "sms", "push")
"""Of messages that need a yes; what is shown on the shop's own pages needs none."""
MARKETING = "marketing"


def reach(tables: Tables, cutoff: datetime, *, assumed: tuple[str, ...] = ()) -> pd.DataFrame:
    """Who may be written to on which channel, as known just before a cutoff.

    A channel reaches a person who has it (all do where `users.channels` tells nothing), whose last word on marketing
    and on the channel is yes, and who neither unsubscribed from it nor bounced there since.

    Args:
        tables: With `users`.
        cutoff: When it is asked.
        assumed: Purposes for which nothing said counts as yes.

    Returns:
        A row per person, by `user_id`: a column of yes and no for each channel that is known of anybody; none where the
        shop tells neither channels nor consents.

    Example:
        >>> from datetime import UTC
        >>> yes = pd.DataFrame({"user_id": ["ann"] * 2, "purpose": ["marketing", "email"], "granted": [True, True],
        ...     "at": pd.to_datetime(["2026-01-01"] * 2, utc=True)})
        >>> shop = Tables.from_frames(users=pd.DataFrame({"user_id": ["ann", "bob"]}), consents=yes)
        >>> reach(shop, datetime(2026, 2, 1, tzinfo=UTC)).to_dict()
        {'email': {'ann': True, 'bob': False}}
    """
    known = tables.as_of(cutoff)
    users = known["users"].select("user_id", "channels").execute().set_index("user_id").sort_index()
    said = _last_words(known["consents"]) if "consents" in tables.brought else None
    has_channels = users["channels"].notna().any()
    if said is None and not has_channels:
        return pd.DataFrame(index=users.index)
    listed = users["channels"].map(lambda told: None if told is None or isinstance(told, float) else frozenset(told))
    named = {name for told in listed.dropna() for name in told} | (set() if said is None else set(said["purpose"]))
    left = _left(known["messages"])
    found = {}
    for channel in (name for name in CHANNELS if name in named):
        can = listed.map(lambda told, name=channel: told is None or name in told).astype(bool)
        for purpose in (MARKETING, channel):
            granted = _of(said, purpose)["granted"].reindex(users.index)
            can = can & (granted.astype("boolean").fillna(purpose in assumed).astype(bool))
        gone = left[left["channel"] == channel].set_index("user_id")["at"].reindex(users.index)
        yes = _of(said, channel)["at"].reindex(users.index)
        found[channel] = can & ~(gone.notna() & ~(yes > gone))
    return pd.DataFrame(found, index=users.index)


def _last_words(consents: ir.Table) -> pd.DataFrame:
    order = [ibis.desc(consents["at"]), consents.granted]
    newest = ibis.row_number().over(group_by=["user_id", "purpose"], order_by=order)
    last = consents.mutate(newest=newest).filter(lambda t: t.newest == 0)
    return last.select("user_id", "purpose", "granted", "at").execute()


def _of(said: pd.DataFrame | None, purpose: str) -> pd.DataFrame:
    if said is None:
        return pd.DataFrame({"granted": pd.Series(dtype=bool), "at": pd.Series(dtype="datetime64[us, UTC]")})
    return said[said["purpose"] == purpose].set_index("user_id")[["granted", "at"]]


def _left(messages: ir.Table) -> pd.DataFrame:
    """When each last unsubscribed from a channel, or bounced there."""
    at = ibis.greatest(messages.unsubscribed_at, messages.bounced_at)
    at = ibis.coalesce(at, messages.unsubscribed_at, messages.bounced_at)
    left = messages.mutate(left_at=at).filter(~at.isnull())
    return left.group_by("user_id", "channel").agg(at=left.left_at.max()).execute()
