"""Which offers somebody may get, in what order, and which of them they get; no offer is always a candidate."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from data.chance import stable_uniform
from models.offers import BEST, LIKELY, NOTHING, WIDTH
from serving.decisions.arms import ArmName
from serving.decisions.variants import drawn

DAY_SECONDS = 86_400
EVEN = 0.2
"""Of what is explored."""


@dataclass(frozen=True)
class Offer:
    """One offer, as the shop declares it; what is None limits nothing.

    Attributes:
        offer_id: Which.
        name: As people read it.
        cost: What one redemption costs the shop.
        min_spend: The order from which on it can be redeemed.
        category: That it is for.
        channels: On which it may be told of.
        segment: Named in the settings: only for who is in it.
        starts_at: Not before.
        ends_at: Not from then on.
        max_redemptions: To so many people.
    """

    offer_id: str
    name: str | None = None
    cost: float = 0.0
    min_spend: float | None = None
    category: str | None = None
    channels: frozenset[str] | None = None
    segment: str | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    max_redemptions: int | None = None


@dataclass(frozen=True)
class Profit:
    """What an offer is expected to bring of somebody more than none, after all costs, with its interval.

    Attributes:
        expected: So much.
        low: Lower end of the interval.
        high: Upper end.
        best: The chance that it is the best for this person, as far as is known.
    """

    expected: float
    low: float
    high: float
    best: float = 0.0


@dataclass(frozen=True)
class Withheld:
    """An offer that is no candidate.

    Attributes:
        offer_id: Which.
        rule: That speaks against it.
        reason: In plain words.
    """

    offer_id: str
    rule: str
    reason: str


@dataclass(frozen=True)
class Given:
    """What somebody gets.

    Attributes:
        chosen: Ids, the best first; `none` alone where it is no offer.
        probability: Of each, given the arm and the places before.
    """

    chosen: tuple[str, ...]
    probability: tuple[float, ...]


def withheld(
    offer: Offer,
    *,
    now: datetime,
    channel: str,
    segments: Collection[str],
    cart_value: float | None = None,
) -> Withheld | None:
    """The first rule of the offer itself that speaks against it; None where it may be given.

    Args:
        offer: Which.
        now: When.
        channel: On which it would be told of.
        segments: That the person is in.
        cart_value: Of the order under way, where the asker tells it.

    Example:
        >>> from datetime import UTC
        >>> summer = Offer("summer", ends_at=datetime(2026, 9, 1, tzinfo=UTC))
        >>> withheld(summer, now=datetime(2026, 9, 2, tzinfo=UTC), channel="web", segments=()).reason
        'ended on 2026-09-01'
    """
    found = _against(offer, now=now, channel=channel, segments=segments, cart_value=cart_value)
    return None if found is None else Withheld(offer.offer_id, *found)


def _against(
    offer: Offer, *, now: datetime, channel: str, segments: Collection[str], cart_value: float | None
) -> tuple[str, str] | None:
    """The rule and the reason. Words are made only where they are told: every offer is asked in every request."""
    if offer.starts_at is not None and now < offer.starts_at:
        return "starts_at", f"begins on {offer.starts_at:%Y-%m-%d}"
    if offer.ends_at is not None and now >= offer.ends_at:
        return "ends_at", f"ended on {offer.ends_at:%Y-%m-%d}"
    if offer.channels is not None and channel not in offer.channels:
        return "channels", f"is not for {channel}"
    if offer.segment is not None and offer.segment not in segments:
        return "segment", f"is for {offer.segment} only"
    if cart_value is not None and offer.min_spend is not None and cart_value < offer.min_spend:
        return "min_spend", f"needs an order of {offer.min_spend}"
    return None


def ranked(
    profits: Mapping[str, Profit], candidates: Sequence[str], *, policy: str, usual: str | None = None
) -> list[str]:
    """Candidates and no offer by expected profit, the best first; of equals no offer, then the first candidate.

    What nothing is known of stands last. A policy that is an arm for all puts that arm first and no offer next.

    Args:
        profits: By offer.
        candidates: Ids of the offers that may be given.
        policy: Of the model, `models.offers.BEST` or an arm.
        usual: What the shop's rule gives, if it has one: it stands first unless the best is likely better, as in
            `models.offers.unless_usual`.

    Example:
        >>> found = {"ten": Profit(-0.1, -0.3, 0.1), "gift": Profit(0.2, 0.1, 0.3)}
        >>> ranked(found, ["ten", "gift", "new"], policy=BEST)
        ['gift', 'none', 'ten', 'new']
        >>> ranked(found, ["ten", "gift"], policy="none")
        ['none', 'gift', 'ten']
    """
    expected = {NOTHING: 0.0, **{offer: profits[offer].expected for offer in candidates if offer in profits}}
    order = sorted(expected, key=lambda offer: -expected[offer])  # stable: of equals the first
    order += [offer for offer in candidates if offer not in expected]
    if policy == BEST and usual in expected and not _likely_better(profits, order[0], usual):
        order.remove(usual)
        order.insert(0, usual)
    if policy != BEST:
        first = dict.fromkeys([policy if policy in candidates else NOTHING, NOTHING])
        order = [*first, *(offer for offer in order if offer not in first)]
    return order


def _likely_better(profits: Mapping[str, Profit], one: str, other: str) -> bool:
    sure = Profit(0.0, 0.0, 0.0)
    found, held = profits.get(one, sure), profits.get(other, sure)
    width = math.hypot(found.high - found.low, held.high - held.low)
    return found.expected - held.expected >= LIKELY * width / WIDTH


def explored(order: Sequence[str], profits: Mapping[str, Profit], *, share: float) -> tuple[float, ...]:
    """The chance of each of `order` in the arm `model`, exactly as it is drawn and logged; empty = nothing is drawn.

    1 - share for the first. The share is for whatever may well be better, the interval reaching above what the first is
    expected to bring: by how likely each is the best (Thompson 1933), with `EVEN` of it spread evenly. Where no model
    tells what is best, nothing is drawn.

    Args:
        order: All candidates and no offer, the best first.
        profits: By offer; that of no offer tells its chance to be the best.
        share: Of the decisions that are drawn.

    Example:
        >>> found = {"ten": Profit(2, 1, 3, 0.75), "gift": Profit(1, -1, 3, 0.25), "none": Profit(0, 0, 0, 0)}
        >>> [round(chance, 3) for chance in explored(["ten", "gift", "none"], found, share=0.2)]
        [0.94, 0.06, 0.0]
    """
    if not share or order[0] not in profits:
        return ()
    first = profits[order[0]].expected  # plain numbers: of a few offers arrays cost four times as much
    promising = [place == 0 or (offer in profits and profits[offer].high > first) for place, offer in enumerate(order)]
    best = [profits[offer].best if may else 0.0 for offer, may in zip(order, promising, strict=True)]
    total, n = max(sum(best), 1e-9), sum(promising)
    chances = [
        share * ((1 - EVEN) * likely / total + EVEN * may / n) for likely, may in zip(best, promising, strict=True)
    ]
    chances[0] += 1 - sum(chances)
    return tuple(chances)


def give(
    arm: ArmName,
    order: Sequence[str],
    *,
    usual: str,
    user_id: str,
    salt: str,
    horizon_days: int,
    now: datetime,
    k: int = 1,
    chances: Sequence[float] = (),
) -> Given:
    """What somebody gets, by their arm, and with which chance.

    `model` gives the best, up to no offer, or draws one by `chances`; `random` draws evenly among all candidates and no
    offer, without putting back, up to no offer; `usual` gives what the shop's rule says, if it is a candidate;
    `holdout` nothing. A draw is the same for a horizon: who asks again gets the same, and a candidate that goes leaves
    the others as they were.

    Args:
        arm: Theirs.
        order: All candidates and no offer, the best first.
        usual: What the shop's rule says.
        user_id: Whom the draw is for.
        salt: The workspace's.
        horizon_days: Of the settings.
        now: When.
        k: How many at the most; where more than one, the arm `model` draws nothing.
        chances: In the arm `model`, that of each of `order`, see `explored`; empty = the first is certain.

    Example:
        >>> from datetime import UTC
        >>> about = dict(usual="none", user_id="ann", salt="a", horizon_days=14, now=datetime(2026, 1, 31, tzinfo=UTC))
        >>> give("model", ["gift", "ten", "none"], **about)
        Given(chosen=('gift',), probability=(1.0,))
        >>> give("random", ["gift", "ten", "none"], **about).probability[0]
        0.3333333333333333
    """
    certain = {"model": order, "usual": [usual if usual in order else NOTHING], "holdout": [NOTHING]}
    period = int(now.timestamp()) // (horizon_days * DAY_SECONDS)
    if arm == "model" and k == 1 and chances:
        [number_drawn] = stable_uniform([user_id], salt=f"{salt} explore {period}")
        place = drawn(np.asarray(chances), float(number_drawn))
        return Given((order[place],), (chances[place],))
    if arm in certain:
        chosen = _up_to_none(certain[arm], k)
        return Given(chosen, (1.0,) * len(chosen))
    number = dict(zip(order, stable_uniform(order, salt=f"{salt} offer {period} {user_id}"), strict=True))
    chosen = _up_to_none(sorted(order, key=number.__getitem__), k)
    return Given(chosen, tuple(1 / (len(order) - place) for place in range(len(chosen))))


def _up_to_none(order: Sequence[str], k: int) -> tuple[str, ...]:
    """The first k before no offer; no offer where it is the first."""
    end = order.index(NOTHING) if NOTHING in order else len(order)
    return tuple(order[: min(k, end)]) or (NOTHING,)
