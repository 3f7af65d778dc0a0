"""Which arm somebody is in: by a stable hash, for a period, the same on every channel and in every process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from data.chance import stable_uniform
from data.settings import Arms

ArmName = Literal["model", "random", "usual", "holdout"]
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Arm:
    """How it is decided for somebody.

    Attributes:
        name: `model` decides, chance does (`random`), the shop's rule from before does (`usual`), or nothing personal
            is done (`holdout`).
        share: Of the people, how many are in this arm: the chance with which it was drawn.
    """

    name: ArmName
    share: float


STRANGER = Arm("model", 1.0)
"""The arm of a request without any id: it was not drawn, so it is no evidence about arms."""


def arm_of(user_id: str, arms: Arms, *, salt: str, now: datetime) -> Arm:
    """The arm of one person, drawn anew with each period.

    Periods are counted from 1970 in UTC. Shares that change move only those whose draw lies between the old border and
    the new one; a holdout that grows keeps whom it had.

    Args:
        user_id: A user's id, or an anonymous one.
        arms: The shares and the period.
        salt: The workspace's: another salt, other people.
        now: When it is decided.

    Example:
        >>> from datetime import UTC
        >>> day = datetime(2026, 1, 31, tzinfo=UTC)
        >>> [arm_of(user, Arms(), salt="attune", now=day).name for user in ("u0", "u9", "u49", "u8")]
        ['model', 'random', 'usual', 'holdout']
    """
    period = int(now.timestamp()) // (arms.period_days * DAY_SECONDS)
    drawn = stable_uniform([user_id], salt=f"{salt} arm {period}")[0]
    border = 0.0
    shares: tuple[tuple[ArmName, float], ...] = (
        ("holdout", arms.holdout),
        ("random", arms.random),
        ("usual", arms.usual),
    )
    for name, share in shares:
        border += share
        if drawn < border:
            return Arm(name, share)
    return Arm("model", arms.model)
