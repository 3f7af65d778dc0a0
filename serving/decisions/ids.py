"""Ids of decisions, which sort by time, and what is drawn for one, which can be drawn again."""

from __future__ import annotations

import secrets
from datetime import datetime

import numpy as np


def new_decision_id(now: datetime) -> str:
    """A new id: the moment in nanoseconds since 1970 and 64 random bits, 16 hexadecimal digits each.

    Example:
        >>> from datetime import UTC
        >>> early, late = (new_decision_id(datetime(2026, 1, day, tzinfo=UTC)) for day in (1, 2))
        >>> early < late, len(early)
        (True, 32)
    """
    return f"{int(now.timestamp() * 1e6) * 1000:016x}{secrets.token_hex(8)}"


def rng_of(decision_id: str) -> np.random.Generator:
    """What draws for a decision: the same id, the same draws.

    Example:
        >>> bool(rng_of("0f").random() == rng_of("0f").random())
        True
    """
    return np.random.default_rng(int(decision_id, 16))
