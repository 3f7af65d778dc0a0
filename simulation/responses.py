"""How people respond: the true hazards and probabilities, as pure functions of traits, time and what is done to them.

Everything broadcasts: traits of shape (n,) or (n, 1) against times of shape (n,) or (d,). Days count from the first
simulated midnight UTC.
"""

from __future__ import annotations

import numpy as np


def logistic(x: np.ndarray) -> np.ndarray:
    """Probability of log-odds `x`."""
    return np.asarray(1 / (1 + np.exp(-x)))


def presence(
    day: np.ndarray,
    *,
    arrives: np.ndarray,
    leaves: np.ndarray,
    fade_days: np.ndarray,
    returns: np.ndarray,
    floor: float,
) -> np.ndarray:
    """How present people are at `day`, from 0 (not there) to 1.

    They fade linearly from 1 to `floor` over `fade_days` before they leave, and come back in full at `returns`.

    Example:
        >>> presence(np.array([0, 45, 59, 61, 99.0]), arrives=np.array(0.0), leaves=np.array(60.0),
        ...          fade_days=np.array(30.0), returns=np.array(90.0), floor=0.1).round(2).tolist()
        [1.0, 0.55, 0.13, 0.0, 1.0]
    """
    left = np.clip((leaves - day) / fade_days, 0, 1)
    first_life = np.where((day >= arrives) & (day < leaves), floor + (1 - floor) * left, 0)
    return np.where(day >= returns, 1, first_life)


def need(day: np.ndarray, *, rhythm_days: np.ndarray, phase_days: np.ndarray, sharpness: float) -> np.ndarray:
    """How much people need something at `day`, from near 0 to 1: a bump every `rhythm_days`.

    Example:
        >>> need(np.array([5, 20, 35.0]), rhythm_days=np.array(30.0), phase_days=np.array(5.0), sharpness=2.0
        ...     ).round(2).tolist()
        [1.0, 0.02, 1.0]
    """
    return np.asarray(np.exp(sharpness * (np.cos((2 * np.pi) * (day - phase_days) / rhythm_days) - 1)))


def purchase_probability(
    buy_logit: np.ndarray, *, need: np.ndarray, presence: np.ndarray, extra_views: np.ndarray, world: object
) -> np.ndarray:
    """Chance that a visit ends in an order; `extra_views` are those above the mean visit."""
    orders = world.orders  # type: ignore[attr-defined]
    return logistic(
        buy_logit + orders.need_logit * need + orders.views_logit * extra_views + np.log(np.maximum(presence, 1e-3))
    )
