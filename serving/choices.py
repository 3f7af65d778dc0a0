"""What people say for themselves: consents and preferences, as rows to be stored and as what holds now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from data.contract import TABLES
from data.settings import Rules
from data.state.rows import RowRefusedError, fit, refuse_times
from features.hours import WANTED
from serving.decisions.rules import ANY, CHANNELS, FREQUENCY, NONE, TOPICS, Person, refuse_preference
from serving.recommending import FieldError
from serving.schemas import ConsentsAsk, Holding, PreferencesAsk

READ = (TOPICS, CHANNELS, FREQUENCY, WANTED)
"""Preferences that rules follow."""


def consent_rows(
    ask: ConsentsAsk, *, purposes: Collection[str], now: datetime, skew: timedelta
) -> list[dict[str, Any]]:
    """Rows of `consents`.

    Args:
        ask: What was said.
        purposes: Those that rules ask about, channels among them; any other is kept.
        now: When, if the request does not say.
        skew: By how much clocks may disagree.

    Raises:
        FieldError: one cannot be stored, or is a slip of a purpose that rules ask about.

    Example:
        >>> from datetime import UTC
        >>> when = {"purposes": ["email"], "now": datetime(2026, 1, 31, tzinfo=UTC), "skew": timedelta(0)}
        >>> [row] = consent_rows(ConsentsAsk(user_id="ann", consents={"email": False}), **when)
        >>> row["purpose"], row["granted"]
        ('email', False)
    """
    for purpose in ask.consents:
        _refuse_slip("consents", purpose, purposes)
    said = {purpose: {"purpose": purpose, "granted": granted} for purpose, granted in ask.consents.items()}
    return _rows("consents", ask, said, now=now, skew=skew)


def preference_rows(
    ask: PreferencesAsk, *, channels: Collection[str], now: datetime, skew: timedelta
) -> list[dict[str, Any]]:
    """Rows of `preferences`; a choice that is taken back is `any`, one of none of several `none`.

    Arguments as those of `consent_rows`, and the channels that there are.

    Raises:
        FieldError: one cannot be stored, or no rule could follow it.
    """
    chosen: dict[str, dict[str, Any]] = {}
    for name, given in ask.preferences.items():
        _refuse_slip("preferences", name, READ)
        value = ANY if given is None else ", ".join(given) or NONE if isinstance(given, list) else given.strip()
        try:
            refuse_preference(name, value, channels=channels)
        except ValueError as error:
            raise FieldError(f"preferences.{name}", str(error)) from error
        chosen[name] = {"name": name, "value": value}
    return _rows("preferences", ask, chosen, now=now, skew=skew)


def consents_of(person: Person, rules: Rules) -> dict[str, Holding]:
    """Whether each purpose and channel that is known is allowed now, and since when; every other needs a yes.

    Example:
        >>> consents_of(Person("ann"), Rules(assumed=("marketing",), on_site=()))
        {'marketing': Holding(granted=True, at=None)}
    """
    found = {purpose: Holding(granted=True, at=None) for purpose in (*rules.assumed, *rules.on_site)}
    found |= {purpose: Holding(granted=said.granted, at=said.at) for purpose, said in person.consents.items()}
    for channel, at in person.unsubscribed.items():
        said = person.consents.get(channel)
        if said is None or said.at <= at:
            found[channel] = Holding(granted=False, at=at)
    return dict(sorted(found.items()))


def _refuse_slip(field: str, name: str, known: Collection[str]) -> None:
    """Refuse a name that differs from a known one by capitals or spaces: no rule would follow it."""
    meant = {one.casefold(): one for one in known}.get(name.strip().casefold(), name)
    if meant != name:
        raise FieldError(f"{field}.{name}", f"is written {meant!r}")


def _rows(
    table: str,
    ask: ConsentsAsk | PreferencesAsk,
    said: Mapping[str, dict[str, Any]],
    *,
    now: datetime,
    skew: timedelta,
) -> list[dict[str, Any]]:
    rows = []
    for name, row in said.items():
        try:
            fitted = fit(TABLES[table], {**row, "user_id": ask.user_id, "at": ask.at or now.isoformat()})
            refuse_times(TABLES[table], fitted, now=now, skew=skew)
        except RowRefusedError as error:
            field = "at" if error.field == "at" else f"{table}.{name}"
            raise FieldError(field, error.reason) from error
        rows.append(fitted)
    return rows
