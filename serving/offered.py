"""Offers for one person: what they get by their arm, counted where it is limited, stored, and told in words."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from data.settings import Settings
from data.state import tombstones
from data.state.counting import Counted, take, used
from data.state.writes import add
from models.offers import NOTHING
from serving.decisions.offers import Given, Offer, Profit, Withheld, explored, give
from serving.decisions.rules import Person
from serving.schemas import OffersAsk, RankedOffer, WithheldOffer

GIVEN, REDEMPTIONS, BUDGET = "offer given", "offer redemptions", "offer budget"
"""What the state counts: offers by person, offers over all, and money by period."""
DAY_SECONDS = 86_400
NOT_STORED = "not_stored"
ROUNDING = 1e-9
"""What sums of money may be off by, as a share."""


@dataclass(frozen=True)
class Offered:
    """Offers for a person, before what is limited was taken and the decision stored: `store_offers` does both.

    Attributes:
        decision_id: Of the decision.
        person: Whose.
        ask: The request.
        now: When.
        offers: The candidates but no offer, by id.
        order: Candidates and no offer, the best first.
        profits: What each is expected to bring, by id.
        against: What is no candidate, and why.
        usual: What the shop's rule says.
        model_version: What answers.
        degraded: Whether a fallback does.
        settings: The workspace's.
    """

    decision_id: str
    person: Person
    ask: OffersAsk
    now: datetime
    offers: Mapping[str, Offer]
    order: Sequence[str]
    profits: Mapping[str, Profit]
    against: Sequence[Withheld]
    usual: str
    model_version: str
    degraded: bool
    settings: Settings = field(repr=False)

    @cached_property
    def given(self) -> Given:
        """What the person gets, by their arm."""
        return give(
            self.person.arm.name,
            self.order,
            usual=self.usual,
            user_id=self._who,
            salt=self.settings.shop.salt,
            horizon_days=self.settings.offers.horizon_days,
            now=self.now,
            k=self.ask.k,
            chances=explored(self.order, self.profits, share=self.settings.offers.explore),
        )

    @property
    def items(self) -> list[RankedOffer]:
        """The offers to be made, the best first; none where no offer is best."""
        return [self._told(offer_id) for offer_id in self.given.chosen if offer_id != NOTHING]

    @property
    def suppressed(self) -> list[WithheldOffer]:
        """What is no candidate, and why."""
        return [WithheldOffer(offer_id=one.offer_id, rule=one.rule, reason=one.reason) for one in self.against]

    @property
    def note(self) -> str | None:
        """Why there is no offer."""
        if self.given.chosen != (NOTHING,):
            return None
        if not self.offers:
            reasons = dict.fromkeys(one.reason for one in self.against)
            return f"no offer may be made: {'; '.join(reasons) or 'there is none'}"
        if (arm := self.person.arm.name) != "model" or self.order[0] != NOTHING:
            return f"no offer, in the arm {arm}" + (": it was drawn, to learn from" if arm == "model" else "")
        best = max((offer for offer in self.offers if offer in self.profits), key=self._expected, default=None)
        if best is None:
            return "no offer: what each would bring is not known yet"
        if self._expected(best) > 0:  # the policy is no offer, or one for all that may not be given here
            return "no offer: of those that may be made here none is proven to pay, as so many were tried"
        return f"no offer: the best, {self._name(best)}, {self._in_words(best)}"

    @property
    def limited(self) -> bool:
        """Whether anything that may be given is to be counted."""
        return any(map(self._is_limited, self.offers))

    @property
    def gives_limited(self) -> bool:
        """Whether anything that is given is counted, and so to be on the disk before it is told the first time."""
        return any(map(self._is_limited, self.given.chosen))

    def store(self, connection: sa.Connection) -> Offered:
        """As `store_offers`, of one person."""
        return store_offers(connection, [self])[0]

    def unstored(self) -> Offered:
        """What may be given when nothing can be counted or stored: nothing that is limited."""
        reason = "it is limited, and the state cannot count now"
        return self._without([Withheld(name, NOT_STORED, reason) for name in self.offers if self._is_limited(name)])

    @property
    def of_stranger(self) -> Offered:
        """The same, asked by nobody in particular."""
        return replace(self, ask=self.ask.model_copy(update={"user_id": None, "anonymous_id": None}))

    @property
    def decision(self) -> dict[str, Any]:
        """The row of `decisions`."""
        context: dict[str, Any] = {"channel": self.ask.channel}
        if self.ask.k > 1:
            context["k"] = self.ask.k
        if self.ask.user_id is None:
            context["stranger"] = True
        if self.ask.campaign_id is not None:
            context["campaign_id"] = self.ask.campaign_id
        suppressed = [{"id": one.offer_id, "rule": one.rule, "reason": one.reason} for one in self.against]
        return {
            "decision_id": self.decision_id,
            "user_id": self._who,
            "at": self.now,
            "kind": "offer",
            "placement": self.ask.placement,
            "arm": self.person.arm.name,
            "arm_share": self.person.arm.share,
            "chosen": list(self.given.chosen),
            "probability": list(self.given.probability),
            "candidates": list(self.order),
            "suppressed": json.dumps(suppressed) if suppressed else None,
            "model_version": self.model_version,
            "context": json.dumps(context),
        }

    @property
    def _who(self) -> str:
        return self.ask.user_id or self.ask.anonymous_id or tombstones.stranger(self.decision_id)

    def _without(self, gone: Sequence[Withheld]) -> Offered:
        if not gone:
            return self
        ids = {one.offer_id for one in gone}
        return replace(
            self,
            offers={name: offer for name, offer in self.offers.items() if name not in ids},
            order=[offer for offer in self.order if offer not in ids],
            against=[*self.against, *gone],
        )

    def _is_limited(self, offer_id: str) -> bool:
        offer = self.offers.get(offer_id)
        return offer is not None and (offer.max_redemptions is not None or self.settings.offers.budget is not None)

    def _counted(self, connection: sa.Connection, counts: dict[Counted, float]) -> Offered:
        """With what the given offers use up taken, and `counts` kept true.

        An offer of which nothing is left is no candidate, so that chances are those of the others. Whoever got an
        offer before gets it again without using up another one.
        """
        found = self._without(self._used_up(counts))
        while (short := found._take(connection, counts)) is not None:
            found = found._without([short])
        return found

    def _used_up(self, counts: Mapping[Counted, float]) -> list[Withheld]:
        left = self._budget - counts.get(Counted(BUDGET, self._period), 0.0)
        found = []
        for name, offer in self.offers.items():
            if not self._is_limited(name) or counts.get(Counted(GIVEN, name, self._who)):
                continue
            taken = counts.get(Counted(REDEMPTIONS, name), 0.0)
            if offer.max_redemptions is not None and taken >= offer.max_redemptions:
                found.append(_exhausted(offer))
            elif self._cost(offer) > left:
                found.append(self._too_dear(offer))
        return found

    def _take(self, connection: sa.Connection, counts: dict[Counted, float]) -> Withheld | None:
        """Use up what is given, all of it; or nothing, and what there was not enough of."""
        taken: list[tuple[Counted, float]] = []

        def use(about: Counted, limit: float, amount: float = 1.0) -> bool:
            enough = take(connection, *about[:2], user_id=about.user_id, limit=limit, amount=amount)
            if enough:
                counts[about] = counts.get(about, 0.0) + amount
                taken.append((about, amount))
            return enough

        def short(against: Withheld) -> Withheld:
            for about, amount in tuple(taken):
                use(about, math.inf, -amount)
            return against

        for name in self.given.chosen:
            mine = Counted(GIVEN, name, self._who)
            if not self._is_limited(name) or counts.get(mine) or not use(mine, 1):
                continue
            offer = self.offers[name]
            if offer.max_redemptions is not None and not use(Counted(REDEMPTIONS, name), offer.max_redemptions):
                return short(_exhausted(offer))
            if self._budget < math.inf and not use(Counted(BUDGET, self._period), self._budget, self._cost(offer)):
                return short(self._too_dear(offer))
        return None

    @property
    def _budget(self) -> float:
        """A little more than it is called: three times 1.1 is a little more than 3.3 to a computer."""
        budget = self.settings.offers.budget
        return math.inf if budget is None else budget * (1 + ROUNDING)

    @property
    def _period(self) -> str:
        return str(int(self.now.timestamp()) // (self.settings.offers.budget_days * DAY_SECONDS))

    def _cost(self, offer: Offer) -> float:
        return offer.cost + self.settings.offers.contact_costs.get(self.ask.channel, 0.0)

    def _too_dear(self, offer: Offer) -> Withheld:
        days = self.settings.offers.budget_days
        return Withheld(offer.offer_id, "budget", f"the budget of these {days} days does not reach for it")

    def _expected(self, offer_id: str) -> float:
        return self.profits[offer_id].expected

    def _name(self, offer_id: str) -> str:
        return self.offers[offer_id].name or offer_id

    def _in_words(self, offer_id: str) -> str:
        profit, currency = self.profits[offer_id], self.settings.shop.currency
        return (
            f"is expected to bring {profit.expected:+.2f} {currency} against no offer within "
            f"{self.settings.offers.horizon_days} days, after its cost ({profit.low:+.2f} to {profit.high:+.2f})"
        )

    def _told(self, offer_id: str) -> RankedOffer:
        profit = self.profits.get(offer_id)
        return RankedOffer(
            offer_id=offer_id,
            name=self.offers[offer_id].name,
            expected_profit=None if profit is None else profit.expected,
            low=None if profit is None else profit.low,
            high=None if profit is None else profit.high,
            reason="what it brings is not known yet" if profit is None else self._in_words(offer_id),
        )


class NotFlushedError(Exception):
    """Something limited would be used up, and that would not be on the disk before it is told."""


def store_offers(connection: sa.Connection, asked: Sequence[Offered], *, flushed: bool = True) -> list[Offered]:
    """Take what the given offers use up and store the decisions, in one transaction; what is given in the end.

    Args:
        connection: From `State.writing`.
        asked: Whose.
        flushed: Whether the transaction waits for the disk.

    Raises:
        NotFlushedError: it must, for something limited is given that this person did not get before.
    """
    known = tombstones.of(connection)
    # Counters of somebody who was erased since they asked would keep their id.
    asked = [one.of_stranger if known.holds(one._who) else one for one in asked]
    counts: dict[Counted, float] = {}
    if any(one.limited for one in asked):
        counts = used(connection, (GIVEN, REDEMPTIONS, BUDGET), user_ids={one._who for one in asked})
    before = dict(counts)
    found = [one._counted(connection, counts) for one in asked]
    if not flushed and counts != before:
        raise NotFlushedError
    add(connection, "decisions", [one.decision for one in found])
    return found


def _exhausted(offer: Offer) -> Withheld:
    return Withheld(offer.offer_id, "max_redemptions", f"all {offer.max_redemptions} are given")
