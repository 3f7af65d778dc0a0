"""What each customer is expected to buy and spend in a horizon, and between which values that will lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.errors import DataError
from models.lifetime.beta_geometric import BgNbd, MbgNbd
from models.lifetime.gamma_gamma import GammaGamma
from models.lifetime.pareto_nbd import ParetoNbd
from models.lifetime.summary import Summary

Frequency = BgNbd | MbgNbd | ParetoNbd
"""A model of how often."""
BLOCK_CELLS = 2**21
"""Draws x customers held at once: bounds memory."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """A row per customer, float64 of shape (n,) each.

    Attributes:
        purchases: Expected number.
        value: Expected spend in the shop's currency.
        low: Lower end of what they may spend.
        high: Upper end.
        level: How many of the customers are to end between `low` and `high`, ends included: 0.8 for 80 %.
    """

    purchases: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float


def forecast(
    frequency: Frequency,
    spend: GammaGamma,
    summary: Summary,
    *,
    horizon_weeks: float,
    level: float = 0.8,
    n_draws: int = 500,
    seed: int = 0,
) -> Forecast:
    """Expected purchases times expected spend per purchase, and an interval of what a customer may spend.

    The interval is of draws from what the models hold possible of a customer after what was seen (the posterior
    predictive): their rate, when they leave, how often they buy until then and what each purchase costs. That the
    parameters are estimates is left out: with thousands of customers they are far surer than any one customer.
    Many will spend nothing, so an interval that begins at 0 covers more than its level.

    Raises:
        DataError: a horizon or level that is none, or spend whose mean does not exist.

    Example:
        >>> x, t_x, spent = np.array([9.0, 0]), np.array([35.0, 0]), np.array([20, np.nan])
        >>> told = Summary(np.arange(2), x, t_x, np.full(2, 38.0), spent, np.zeros(2))
        >>> often, much = ParetoNbd(r=0.55, alpha=10.6, s=0.61, beta=11.7), GammaGamma(p=6.25, q=3.74, gamma=15.44)
        >>> found = forecast(often, much, told, horizon_weeks=39)
        >>> found.value.round(), found.high.round(-2)
        (array([125.,   4.]), array([300.,   0.]))
    """
    if not (0 < horizon_weeks < np.inf and 0 < level < 1):
        raise DataError(f"horizon_weeks is {horizon_weeks}, level {level}; give a horizon above 0, a level in (0, 1).")
    mean_spend = check_mean(spend).mean_spend(summary)
    purchases, rng, ends = frequency.purchases(summary, horizon_weeks), np.random.default_rng(seed), []
    for rows in np.array_split(np.arange(len(summary)), max(1, len(summary) * n_draws // BLOCK_CELLS)):
        some = summary.take(rows)
        spent = spend.draws(some, frequency.draws(some, horizon_weeks, rng, n_draws=n_draws), rng)
        ends.append(np.quantile(spent, [(1 - level) / 2, (1 + level) / 2], axis=0))
    low, high = np.concatenate(ends, axis=1)
    return Forecast(purchases, purchases * mean_spend, low, high, level)


def check_mean(spend: GammaGamma) -> GammaGamma:
    """The model, if customers whom it knows nothing of have a mean spend.

    Raises:
        DataError: they have none.
    """
    if spend.q <= 1:
        raise DataError(
            f"gamma_gamma has q = {spend.q:.3g}; at 1 or less the mean spend of a new customer is infinite. "
            "Look for a few huge orders (wholesale) and leave them out, or bring more customers who bought again."
        )
    return spend
