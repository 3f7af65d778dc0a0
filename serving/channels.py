"""Which channels there are: a slip in a channel's name is refused, rather than decided by nobody's rules and logged."""

from __future__ import annotations

from data.settings import Settings
from features.engagement import CHANNELS
from serving.decisions.rules import ALL
from serving.recommending import FieldError


def channels_of(settings: Settings) -> tuple[str, ...]:
    """The channels that there are: the contract's, and those that the settings name.

    Example:
        >>> from data.settings import Offers
        >>> channels_of(Settings(offers=Offers(contact_costs={"letter": 0.8})))
        ('email', 'sms', 'push', 'web', 'in_app', 'ads', 'letter')
    """
    rules = settings.rules
    named = (*CHANNELS, *rules.on_site, *rules.caps, *rules.quiet_hours, *settings.offers.contact_costs)
    return tuple(name for name in dict.fromkeys(named) if name != ALL)


def refuse_channel(channel: str | None, settings: Settings) -> None:
    """Refuse a channel that there is not.

    Raises:
        FieldError: there is no such channel; says which there are.
    """
    if channel is not None and channel not in (known := channels_of(settings)):
        further = "rules.caps in attune.toml names further ones"
        raise FieldError("channel", f"{channel[:64]!r} is none of {', '.join(known)}; {further}")
