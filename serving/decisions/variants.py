"""Which variants of a slot somebody may see, and which of them is shown: with a known chance, which is logged."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from models.variants import Variant, shown
from serving.decisions.arms import ArmName

NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Wording:
    """A variant, as the shop declares it; what is None limits nothing.

    Attributes:
        variant: Its words.
        segment: Named in the settings: only for who is in it.
        starts_at: Not before.
        ends_at: Not from then on.
    """

    variant: Variant
    segment: str | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    @property
    def age(self) -> tuple[datetime, str]:
        """Sorts the oldest first: by when they begin, then by id."""
        return self.starts_at or NEVER, self.variant.variant_id

    @property
    def offer_id(self) -> str | None:
        """The offer that it speaks of, by its attribute `offer_id`; what is no id is that of no offer there is."""
        found = (self.variant.told or {}).get("offer_id")
        return None if found is None else str(found)


@dataclass(frozen=True)
class Unfit:
    """A variant that is no candidate.

    Attributes:
        variant_id: Which.
        rule: That speaks against it.
        reason: In plain words.
    """

    variant_id: str
    rule: str
    reason: str


def unfit(
    wording: Wording,
    *,
    now: datetime,
    campaign_id: str | None,
    segments: Collection[str],
    only: Collection[str] | None = None,
    offer_id: str | None = None,
) -> Unfit | None:
    """The first rule that speaks against a variant; None where it may be shown.

    Args:
        wording: Which.
        now: When.
        campaign_id: Of what is being sent or shown; a variant of a campaign is for that campaign only.
        segments: That the person is in.
        only: The variants that the asker wants; None = any.
        offer_id: The offer shown beside, `none` if none is; None = nobody knows. A variant that speaks of an offer is
            for that offer only.

    Example:
        >>> summer = Wording(Variant("summer", "hero"), ends_at=datetime(2026, 9, 1, tzinfo=UTC))
        >>> unfit(summer, now=datetime(2026, 9, 2, tzinfo=UTC), campaign_id=None, segments=()).reason
        'ended on 2026-09-01'
    """
    variant = wording.variant
    starts, ends = wording.starts_at or NEVER, wording.ends_at
    against: tuple[tuple[bool, str, str], ...] = (
        (only is not None and variant.variant_id not in (only or ()), "asked", "is none of those asked for"),
        (variant.campaign_id not in {"", campaign_id}, "campaign", f"is of campaign {variant.campaign_id}"),
        (
            offer_id is not None and wording.offer_id not in {None, offer_id},
            "offer",
            f"speaks of the offer {wording.offer_id}",
        ),
        (now < starts, "starts_at", f"begins on {starts:%Y-%m-%d}"),
        (ends is not None and now >= ends, "ends_at", f"ended on {ends or NEVER:%Y-%m-%d}"),
        (wording.segment is not None and wording.segment not in segments, "segment", f"is for {wording.segment} only"),
    )
    return next((Unfit(variant.variant_id, rule, reason) for holds, rule, reason in against if holds), None)


def chances(arm: ArmName, candidates: Sequence[Wording], best: np.ndarray, *, floor: float) -> np.ndarray:
    """The chance of each candidate to be shown, float (k,), summing to one.

    In the arm `model` as `models.variants.shown` has it; in `random` even; in `usual` and `holdout` it is the slot's
    oldest.

    Args:
        arm: The person's.
        candidates: At least one.
        best: The chance of each to be the best for this person, (k,).
        floor: The least chance of each, in the arm `model`.

    Example:
        >>> two = [Wording(Variant("a", "hero")), Wording(Variant("b", "hero"))]
        >>> chances("model", two, np.array([0.0, 1.0]), floor=0.1).tolist()
        [0.1, 0.9]
        >>> chances("holdout", two, np.array([0.0, 1.0]), floor=0.1).tolist()
        [1.0, 0.0]
    """
    k = len(candidates)
    if arm == "random":
        return np.full(k, 1 / k)
    if arm == "model":
        return shown(best, floor=floor)
    oldest = min(range(k), key=lambda place: candidates[place].age)
    return np.eye(k)[oldest]


def drawn(probability: np.ndarray, draw: float) -> int:
    """The place that a number in [0, 1) falls to.

    Example:
        >>> [drawn(np.array([0.2, 0.0, 0.8]), draw) for draw in (0.1, 0.2, 0.99)]
        [0, 2, 2]
    """
    place = int(np.searchsorted(np.cumsum(probability), draw * probability.sum(), side="right"))
    return min(place, int(np.flatnonzero(probability)[-1]))
