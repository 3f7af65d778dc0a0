"""Behind `/v1/decide`: a page or a message whole, its parts for one person in one arm, fitting one another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from data.state.tombstones import stranger
from models.offers import NOTHING
from serving.champions import SEND_TIME
from serving.channels import refuse_channel
from serving.decisions.ids import new_decision_id
from serving.decisions.rules import Contact, Person, Suppressed, held_back
from serving.offered import Offered
from serving.recommending import FieldError
from serving.schemas import (
    DecideAsk,
    DecidedItems,
    DecidedOffer,
    DecidedTime,
    DecidedVariant,
    OffersAsk,
    PersonAsk,
    RecommendAsk,
    VariantsAsk,
)
from serving.sending import next_moment, no_time
from serving.varying import Varied

if TYPE_CHECKING:
    from serving.engine import Engine, Recommended

MESSAGE = "message"
"""Slot of the decision not to send, where the message is of no campaign."""
HOLDOUT = "holdout"


@dataclass(frozen=True)
class Begun:
    """What does not depend on which offer is given in the end.

    Attributes:
        ask: The request.
        person: Whom it is for.
        now: When it is decided.
        at: When it is shown or sent.
        held_back: Why nothing may be sent to them now; then nothing else is decided.
        items: Of each list that was asked for.
        offered: The offer, before it was counted and stored; None if none was asked for.
        time: When to send it; None if it was not asked for.
        time_row: The row of `decisions` about that hour; None if none was drawn.
    """

    ask: DecideAsk
    person: Person
    now: datetime
    at: datetime
    held_back: tuple[Suppressed, ...]
    items: Sequence[Recommended] = ()
    offered: Offered | None = None
    time: DecidedTime | None = None
    time_row: Mapping[str, Any] | None = None

    @property
    def refusal(self) -> dict[str, Any]:
        """The row of `decisions` that says that nothing is sent."""
        decision_id = new_decision_id(self.now)
        channel, campaign = self.ask.channel, self.ask.campaign_id
        against = [{"id": channel, "rule": one.rule, "reason": one.reason} for one in self.held_back]
        return {
            "decision_id": decision_id,
            "user_id": self.person.user_id or stranger(decision_id),
            "at": self.now,
            "kind": "action",
            "slot": campaign or MESSAGE,
            "arm": self.person.arm.name,
            "arm_share": self.person.arm.share,
            "chosen": [NOTHING],
            "probability": [1.0],
            "suppressed": json.dumps(against),
            "model_version": "rules",
            "context": json.dumps({"channel": channel} | ({} if campaign is None else {"campaign_id": campaign})),
        }


def begin(engine: Engine, ask: DecideAsk, *, now: datetime) -> Begun:
    """Decide the items and the offer of a page or a message; nothing is stored here.

    No item stands in two lists. In the holdout a message is what everybody gets, so that arm alone holds none back.

    Raises:
        FieldError: nothing was asked for, a slot twice, no such channel, or items that cannot be told.
    """
    refuse_channel(ask.channel, engine.settings)
    slots = [part.slot for part in ask.variants]
    if not (ask.offer or ask.variants or ask.items):
        raise FieldError("items", "nothing is asked for: send `items`, `offer` or `variants`")
    if twice := [slot for slot in slots if slots.count(slot) > 1]:
        raise FieldError("variants", f"the slot {twice[0]!r} is there twice")
    person = engine.people.one(ask.user_id or ask.anonymous_id, now=now)
    time, time_row = _time(engine, ask, person, now) if ask.send_time else (None, None)
    at = now if time is None else time.send_at or now
    against = held_back(person, Contact(ask.channel), engine.settings, now=at)
    against = tuple(one for one in against if one.rule != HOLDOUT)
    if against:
        return Begun(ask, person, now, at, against)
    offered = None
    items = _items(engine, ask, person, now)
    if ask.offer is not None:
        asked = OffersAsk(**_shared(ask), **ask.offer.model_dump(), channel=ask.channel)
        offered = engine.offering.decide(person, asked, now=now, at=at)
    return Begun(ask, person, now, at, (), items, offered, time, time_row)


def vary(engine: Engine, begun: Begun, offer_id: str) -> list[Varied]:
    """The variants of each slot, that go with the offer shown (`none` = without one) and with the campaign."""
    ask = begun.ask
    about = {**_shared(ask), "channel": ask.channel, "format": ask.format, "k": 1}
    return [
        engine.varying.decide(
            begun.person,
            # Checked as part of `ask` but for the offer, whose imported id may be longer than those of requests.
            VariantsAsk.model_construct(**about, slot=part.slot, variants=part.variants, offer_id=offer_id),
            now=begun.now,
            at=begun.at,
        )
        for part in ask.variants
    ]


def told_items(begun: Begun, *, stored: bool) -> list[DecidedItems]:
    """The lists as they are answered; without ids where they could not be stored."""
    return [
        DecidedItems(
            placement=part.placement,
            decision_id=found.decision["decision_id"] if stored else None,
            items=found.items,
            note=found.note,
        )
        for part, found in zip(begun.ask.items, begun.items, strict=False)
    ]


def told_offer(offered: Offered, *, stored: bool) -> DecidedOffer:
    """The offer as it is answered."""
    return DecidedOffer(
        placement=offered.ask.placement,
        decision_id=offered.decision_id if stored else None,
        offer=next(iter(offered.items), None),
        suppressed=offered.suppressed,
        note=offered.note,
    )


def told_variants(begun: Begun, found: Sequence[Varied], *, stored: bool) -> list[DecidedVariant]:
    """The variants as they are answered."""
    return [
        DecidedVariant(
            slot=part.slot,
            decision_id=one.decision["decision_id"] if stored and one.decision is not None else None,
            variant=next(iter(one.items), None),
            suppressed=one.suppressed,
            note=one.note,
        )
        for part, one in zip(begun.ask.variants, found, strict=False)
    ]


def told_time(begun: Begun, *, stored: bool) -> DecidedTime | None:
    """The hour as it is answered."""
    return begun.time if stored or begun.time is None else begun.time.model_copy(update={"decision_id": None})


def offer_of(offered: Offered | None) -> str:
    """Which offer is shown, `none` if none is."""
    return NOTHING if offered is None else next((one.offer_id for one in offered.items), NOTHING)


def _items(engine: Engine, ask: DecideAsk, person: Person, now: datetime) -> list[Recommended]:
    shown: list[str] = []
    found = []
    for number, part in enumerate(ask.items):
        asked = RecommendAsk(
            **_shared(ask), placement=part.placement, k=part.k, filter=part.filter, context=ask.context
        )
        exclude = list(dict.fromkeys([*part.exclude, *shown]))  # may be more than anybody may ask for
        asked = asked.model_copy(update={"exclude": exclude})
        try:
            found.append(engine.recommend_to(person, asked, now=now, channel=ask.channel))
        except FieldError as error:
            field = error.field if error.field.startswith("context") else f"items.{number}.{error.field}"
            raise FieldError(field, error.reason) from error
        shown += [item.item_id for item in found[-1].items]
    return found


def _time(
    engine: Engine, ask: DecideAsk, person: Person, now: datetime
) -> tuple[DecidedTime, Mapping[str, Any] | None]:
    """When to send it, and the row about the hour that was drawn."""
    rules = engine.settings.rules
    found = no_time("nobody is named to write to")
    rows: list[dict[str, Any]] = []
    if ask.channel in rules.on_site:
        found = no_time(f"people come to {ask.channel} themselves")
    elif ask.user_id is not None:
        [found], rows = engine.send_times([ask.user_id], engine.champions.current.get(SEND_TIME), now=now)
    when = next_moment(found, person, ask.channel, rules, now=now)
    row = next(iter(rows), None) if when.probability is not None else None
    told = DecidedTime(
        send_at=None if when.hour is None else when.at,
        hour=when.hour,
        probability=when.probability,
        time_zone=found.time_zone,
        decision_id=None if row is None else row["decision_id"],
        note=found.note,
    )
    return told, row


def _shared(ask: DecideAsk) -> Mapping[str, Any]:
    """What the request for each part says too: who asks, and of which campaign it is."""
    return {name: getattr(ask, name) for name in PersonAsk.model_fields}
