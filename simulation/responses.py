"""How people respond: the true hazards and probabilities, as pure functions of traits, time and what is done to them.

Everything broadcasts. Days count from the first simulated midnight UTC.
"""

from __future__ import annotations

import numpy as np

from simulation.world import World


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
    buy_logit: np.ndarray, *, need: np.ndarray, presence: np.ndarray, views: np.ndarray, world: World
) -> np.ndarray:
    """Chance that a visit with so many product views ends in an order."""
    return logistic(
        buy_logit
        + world.orders.need_logit * need
        + world.orders.views_logit * (views - world.funnel.views)
        + np.log(np.maximum(presence, 1e-3))
    )


def open_probability(
    open_logit: np.ndarray,
    *,
    hour: np.ndarray,
    best_hour: np.ndarray,
    recent: np.ndarray,
    presence: np.ndarray,
    world: World,
) -> np.ndarray:
    """Chance that the person opens a message sent at a local `hour`, after `recent` others in seven days.

    Example:
        >>> from simulation.world import World
        >>> chance = open_probability(np.array(-1.0), hour=np.array([20, 8.0]), best_hour=np.array(20.0),
        ...                           recent=np.array(0), presence=np.array(1.0), world=World.load())
        >>> bool(chance[0] > 2 * chance[1])
        True
    """
    messages = world.messages
    apart = np.abs((hour - best_hour + 12) % 24 - 12)
    bump = np.exp(-0.5 * (apart / messages.hour_width) ** 2) - 1
    return logistic(
        open_logit
        + messages.hour_logit * bump
        + messages.fatigue_logit * recent
        + messages.absence_logit * (1 - presence)
    )


def click_probability(click_logit: np.ndarray, *, wording: np.ndarray | float = 0.0) -> np.ndarray:
    """Chance of a click on an opened message; `wording` is what its variant adds to this person's log-odds."""
    return logistic(click_logit + wording)


def extra_order_probability(lift: np.ndarray, *, presence: np.ndarray, absent_share: float) -> np.ndarray:
    """Chance that an offer brings an order that would not have been; those who left are moved less."""
    return np.asarray(lift * (absent_share + (1 - absent_share) * presence))


def incremental_profit(
    *,
    extra: np.ndarray,
    extra_profit: np.ndarray,
    annoyance: np.ndarray,
    base_orders: np.ndarray,
    margin: np.ndarray,
    cost: np.ndarray,
) -> np.ndarray:
    """Profit that an offer adds to leaving the person alone, in the shop's currency.

    Extra orders bring their margin less the offer's cost, `extra_profit`; of the orders that would have been anyway a
    share `annoyance` is lost, and the others redeem the offer all the same.

    Example:
        >>> round(float(incremental_profit(extra=np.array(0.1), extra_profit=np.array(17.0), annoyance=np.array(0.0),
        ...                                base_orders=np.array(0.5), margin=np.array(20.0), cost=np.array(3.0))), 2)
        0.2
    """
    return np.asarray(extra * extra_profit - base_orders * (annoyance * margin + (1 - annoyance) * cost))
