"""What must not be done to somebody now, and why: consent, own choices, caps, quiet hours, purchases, the holdout.

Every rule is a few lines below, in the order in which it is told; `held_back` asks all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from data.settings import Rules, Settings
from features.hours import HOURS, WANTED, wanted_hours
from features.profile import sensitive, sensitive_category
from serving.decisions.arms import STRANGER, Arm

MARKETING, PERSONALISATION = "marketing", "personalisation"
"""Purposes of consent; a channel's name is one too."""
CHANNELS, TOPICS, FREQUENCY = "channels", "topics", "frequency"
"""Preferences, beside `hours`: names with commas between them, and a word of `FREQUENCIES` or `2 in 7` (days)."""
FREQUENCIES = {"daily": "1 in 1", "weekly": "1 in 7", "monthly": "1 in 30", "never": "0 in 1"}
ANY, NONE = "any", "none"
"""What somebody chooses who takes a choice back, and who wants none of several."""
MOST_DAYS = 31
"""The longest of somebody's own `frequency`, and so how far back messages count at least."""
ALL = "all"
"""In `rules.caps`: every channel that goes to people, counted together."""


class Consent(NamedTuple):
    """Somebody's last word on a purpose."""

    granted: bool
    at: datetime


@dataclass(frozen=True)
class Person:
    """What the rules need to know of somebody.

    Attributes:
        user_id: Who; an anonymous id of a visitor, None of a stranger.
        arm: Theirs.
        consents: The last word, by purpose.
        preferences: What they chose last, by name.
        channels: On which they can be reached; None where nothing is said.
        timezone: Whose hours are theirs, by its IANA name.
        sent: When something was sent to them or is to be, by channel.
        last_order_at: When they ordered last.
        unsubscribed: When they last unsubscribed, by channel.
        bounced: When a message last came back, by channel, if none was opened since.
        entered: When a trigger last began for them, by its name.
        live: Whether the state was asked; without it a no of this morning may be missing.
    """

    user_id: str | None
    arm: Arm = STRANGER
    consents: Mapping[str, Consent] = field(default_factory=dict)
    preferences: Mapping[str, str] = field(default_factory=dict)
    channels: frozenset[str] | None = None
    timezone: str = "UTC"
    sent: Mapping[str, tuple[datetime, ...]] = field(default_factory=dict)
    last_order_at: datetime | None = None
    unsubscribed: Mapping[str, datetime] = field(default_factory=dict)
    bounced: Mapping[str, datetime] = field(default_factory=dict)
    entered: Mapping[str, datetime] = field(default_factory=dict)
    live: bool = True


@dataclass(frozen=True)
class Contact:
    """What is about to be done.

    Attributes:
        channel: On which.
        purpose: What for, as consents call it.
        categories: Of items, that it is about.
        attributes: Of the person, that it is chosen by or tells of.
        about_order: Whether it is about what they ordered: not silenced by a recent order.
        trigger: Whose journey it would begin; None if it begins none.
        re_entry_days: The trigger does not begin anew within so many; None = as `rules.re_entry_days` says.
    """

    channel: str
    purpose: str = MARKETING
    categories: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    about_order: bool = False
    trigger: str | None = None
    re_entry_days: float | None = None


@dataclass(frozen=True)
class Suppressed:
    """Why something is not done.

    Attributes:
        rule: Its name, a key of `RULES`.
        reason: In plain words.
    """

    rule: str
    reason: str


def held_back(person: Person, contact: Contact, settings: Settings, *, now: datetime) -> tuple[Suppressed, ...]:
    """Every rule that speaks against a contact; it may be made if there is none.

    Args:
        person: Whom it goes to.
        contact: What would be done.
        settings: The workspace's; `rules` and `features.sensitive` are looked at.
        now: When it would be done, with a time zone; of something planned, when it is to arrive.

    Example:
        >>> from datetime import UTC
        >>> evening = datetime(2026, 1, 31, 20, tzinfo=UTC)
        >>> ann = Person("ann", consents={"email": Consent(True, evening)}, last_order_at=evening - timedelta(days=2))
        >>> [found.rule for found in held_back(ann, Contact("email"), Settings(), now=evening)]
        ['recent_purchase']
        >>> held_back(ann, Contact("sms"), Settings(), now=evening)[0].reason
        'there is no yes to sms'
    """
    found = ((name, rule(person, contact, settings, now)) for name, rule in RULES.items())
    return tuple(Suppressed(name, reason) for name, reason in found if reason is not None)


def consents(person: Person, purpose: str, rules: Rules) -> bool:
    """Whether a purpose, or a channel, is allowed: by the person's last word, or because it is assumed.

    Example:
        >>> consents(Person("ann"), "personalisation", Rules()), consents(Person("ann"), "email", Rules())
        (True, False)
    """
    said = person.consents.get(purpose)
    return (purpose in rules.assumed or purpose in rules.on_site) if said is None else said.granted


def allowed_hours(person: Person, channel: str, rules: Rules) -> np.ndarray:
    """At which hours of their own day somebody may be written to, bool (24,): those they chose, else all but the quiet.

    Example:
        >>> np.flatnonzero(~allowed_hours(Person("ann"), "sms", Rules(quiet_hours={"sms": "22-1"}))).tolist()
        [0, 22, 23]
    """
    if channel in rules.on_site:
        return np.ones(HOURS, bool)
    chosen = wanted_hours(person.preferences.get(WANTED))
    return chosen if chosen.any() else ~wanted_hours(rules.quiet_hours.get(channel))


def chosen(person: Person, name: str) -> frozenset[str]:
    """What somebody chose of several, in lower case: `Tea, Coffee` is two; empty if they did not choose, or `any`."""
    said = _parts(person.preferences.get(name, ""))
    return frozenset() if ANY in said else said


def refuse_preference(name: str, value: str, *, channels: Collection[str]) -> None:
    """Refuse a choice that no rule could follow; what no rule reads is only kept.

    Args:
        name: What is chosen.
        value: As it is stored.
        channels: Those that there are.

    Raises:
        ValueError: it cannot be read; says what can.

    Example:
        >>> refuse_preference("hours", "evenings", channels=["email"])
        Traceback (most recent call last):
        ValueError: 'evenings' is no span of hours; write it like 20-23, or any
    """
    if value == ANY:
        return
    if name == CHANNELS:
        known = {NONE, *(channel.casefold() for channel in channels)}
        strange = [part.strip() for part in value.split(",") if part.strip().casefold() not in known]
        if strange:
            raise ValueError(f"{strange[0][:64]!r} is none of {', '.join(channels)}; an empty list is no channel")
    if name == WANTED and not wanted_hours(value).any():
        raise ValueError(f"{value!r} is no span of hours; write it like 20-23, or {ANY}")
    if name == FREQUENCY and ((cap := cap_of(value)) is None or cap[1] > MOST_DAYS):
        raise ValueError(f"{value!r} is none of {', '.join(FREQUENCIES)}, 2 in 7 (days, up to {MOST_DAYS}) or {ANY}")


def cap_of(text: str) -> tuple[int, int] | None:
    """How many in how many days: of `2 in 7` or a word of `FREQUENCIES`; None if it cannot be read.

    Example:
        >>> cap_of("weekly"), cap_of("2 in 7"), cap_of("often")
        ((1, 7), (2, 7), None)
    """
    read = re.fullmatch(r"(\d{1,4}) in ([1-9]\d{0,3})", FREQUENCIES.get(text.strip().casefold(), text.strip()))
    return (int(read[1]), int(read[2])) if read else None


def _sensitive(_person: Person, contact: Contact, settings: Settings, _now: datetime) -> str | None:
    found = [name for name in contact.categories if sensitive_category(name, settings.features)]
    found += [name for name in contact.attributes if sensitive(name, settings.features)]
    return f"{found[0]!r} is sensitive, and the settings give no reason to use it" if found else None


def _holdout(person: Person, _contact: Contact, _settings: Settings, _now: datetime) -> str | None:
    return "left alone in this period, to measure what the others gain" if person.arm.name == "holdout" else None


def _live(person: Person, contact: Contact, settings: Settings, _now: datetime) -> str | None:
    known = person.live or contact.channel in settings.rules.on_site
    return None if known else "what they said lately cannot be read now"


def _consent(person: Person, contact: Contact, settings: Settings, _now: datetime) -> str | None:
    for purpose in (contact.purpose, contact.channel):
        if not consents(person, purpose, settings.rules):
            return f"said no to {purpose}" if purpose in person.consents else f"there is no yes to {purpose}"
    return None


def _unsubscribed(person: Person, contact: Contact, _settings: Settings, _now: datetime) -> str | None:
    return f"unsubscribed from {contact.channel}" if _since_yes(person, contact, person.unsubscribed) else None


def _bounced(person: Person, contact: Contact, settings: Settings, now: datetime) -> str | None:
    at = _since_yes(person, contact, person.bounced)
    recent = at is not None and now - at < timedelta(days=settings.rules.bounce_days)
    return f"the last message on {contact.channel} came back" if recent else None


def _reachable(person: Person, contact: Contact, settings: Settings, _now: datetime) -> str | None:
    if contact.channel in settings.rules.on_site or person.channels is None or contact.channel in person.channels:
        return None
    return f"cannot be reached on {contact.channel}"


def _channel(person: Person, contact: Contact, settings: Settings, _now: datetime) -> str | None:
    wanted = chosen(person, CHANNELS)
    if contact.channel in settings.rules.on_site or not wanted or contact.channel.casefold() in wanted:
        return None
    return f"chose to hear on {_listed(wanted)} only" if wanted != {NONE} else "chose to hear on no channel"


def _topic(person: Person, contact: Contact, _settings: Settings, _now: datetime) -> str | None:
    wanted = chosen(person, TOPICS)
    about = [part for name in contact.categories for part in (name, *re.split(r"[>/]", name))]
    # A name with commas was stored among others between commas: it was chosen if all its parts were.
    if not wanted or not about or any((parts := _parts(name)) and wanted >= parts for name in about):
        return None
    return f"chose to hear of {_listed(wanted)} only" if wanted != {NONE} else "chose to hear of no topic"


def _hours(person: Person, contact: Contact, settings: Settings, now: datetime) -> str | None:
    if contact.channel in settings.rules.on_site:
        return None
    hour = now.astimezone(ZoneInfo(person.timezone)).hour
    if allowed_hours(person, contact.channel, settings.rules)[hour]:
        return None
    if wanted_hours(person.preferences.get(WANTED)).any():
        return f"it is {hour}:00 with them, and they chose {person.preferences[WANTED]}"
    return f"it is {hour}:00 with them, a quiet hour on {contact.channel}"


def _frequency(person: Person, contact: Contact, settings: Settings, now: datetime) -> str | None:
    wanted = person.preferences.get(FREQUENCY)
    cap = None if wanted is None or contact.channel in settings.rules.on_site else cap_of(wanted)
    return f"chose to hear {wanted}" if cap and _full(_every(person, settings.rules), cap, now) else None


def _caps(person: Person, contact: Contact, settings: Settings, now: datetime) -> str | None:
    rules = settings.rules
    if contact.channel in rules.on_site:
        return None
    for name, sent in ((contact.channel, person.sent.get(contact.channel, ())), (ALL, _every(person, rules))):
        cap = cap_of(rules.caps.get(name, ""))
        if cap and _full(sent, cap, now):
            return f"has had {cap[0]} in {cap[1]} days on {'all channels' if name == ALL else name}"
    return None


def _purchase(person: Person, contact: Contact, settings: Settings, now: datetime) -> str | None:
    if contact.about_order or contact.channel in settings.rules.on_site or person.last_order_at is None:
        return None
    days = (now - person.last_order_at) / timedelta(days=1)
    return f"ordered {max(days, 0):.0f} days ago" if days < settings.rules.days_after_purchase else None


def _re_entry(person: Person, contact: Contact, settings: Settings, now: datetime) -> str | None:
    at = person.entered.get(contact.trigger) if contact.trigger else None
    days = settings.rules.re_entry_days if contact.re_entry_days is None else contact.re_entry_days
    again = at is not None and now - at < timedelta(days=days)
    return f"{contact.trigger} began for them on {at:%Y-%m-%d}" if again else None


RULES: Mapping[str, Callable[[Person, Contact, Settings, datetime], str | None]] = {
    "sensitive": _sensitive,
    "holdout": _holdout,
    "live": _live,
    "consent": _consent,
    "unsubscribed": _unsubscribed,
    "bounced": _bounced,
    "reachable": _reachable,
    "channels": _channel,
    "topics": _topic,
    "hours": _hours,
    "frequency": _frequency,
    "caps": _caps,
    "recent_purchase": _purchase,
    "re_entry": _re_entry,
}
"""Every rule by its name: why it speaks against a contact, or None."""


def _since_yes(person: Person, contact: Contact, told: Mapping[str, datetime]) -> datetime | None:
    """When it was told of the channel, if no yes to the channel came later."""
    at, said = told.get(contact.channel), person.consents.get(contact.channel)
    return None if at is None or (said is not None and said.granted and said.at > at) else at


def _every(person: Person, rules: Rules) -> Iterator[datetime]:
    return (at for channel, times in person.sent.items() if channel not in rules.on_site for at in times)


def _full(sent: Iterator[datetime] | tuple[datetime, ...], cap: tuple[int, int], now: datetime) -> bool:
    most, days = cap
    return sum(at > now - timedelta(days=days) for at in sent) >= most


def _parts(text: str) -> frozenset[str]:
    return frozenset(part.strip().casefold() for part in text.split(",")) - {""}


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
