"""How a shop's customers buy, leave and pay: the models of how often and for how much, together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from models.lifetime.beta_geometric import BgNbd, MbgNbd
from models.lifetime.forecasts import Frequency, check_mean
from models.lifetime.gamma_gamma import GammaGamma
from models.lifetime.likelihood import Fit, fit
from models.lifetime.pareto_nbd import ParetoNbd, ParetoNbdFirst
from models.lifetime.summary import Summary

KINDS: dict[str, type[Frequency]] = {kind.name: kind for kind in (BgNbd, MbgNbd, ParetoNbd, ParetoNbdFirst)}
SAID = (EXPECTED_ORDERS, EXPECTED_MONEY, ORDER_VALUE, STILL) = (
    "expected_orders", "expected_money", "expected_order_value", "still_a_customer",
)  # fmt: skip
"""What `Habits.told` tells of each customer: of the horizon; of one order; a probability."""
MAX_CUSTOMERS = 50_000
"""Drawn to fit on: a handful of parameters is told well by so many."""


@dataclass(frozen=True)
class Habits:
    """A model of how often and one of how much, fitted to the same customers.

    Attributes:
        frequency: How often they order, and when they leave.
        spend: What an order costs.
        doubts: Why the parameters are to be read with care; empty if nothing speaks against them.
    """

    frequency: Frequency
    spend: GammaGamma
    doubts: tuple[str, ...] = ()

    @classmethod
    def fit(cls, summary: Summary, *, seed: int = 0) -> Self:
        """The model of how often that explains the customers best (AIC; Akaike 1974), and the Gamma-Gamma of spend.

        Args:
            summary: Of the customers; of many, `MAX_CUSTOMERS` are drawn.
            seed: Of the draw.

        Raises:
            DataError: as `models.lifetime.fit`, or spend whose mean does not exist.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> x = rng.poisson(rng.gamma(1, 2, 300)).astype(float)
            >>> told = Summary(np.arange(300), x, np.minimum(x, 30), np.full(300, 38.0), rng.gamma(9, 3, 300), x + 1)
            >>> habits = Habits.fit(told)
            >>> bool(habits.told(told, 10)["expected_money"].sum() > habits.orders(told, 10).sum() > 0)
            True
        """
        if len(summary) > MAX_CUSTOMERS:
            summary = summary.take(np.random.default_rng(seed).choice(len(summary), MAX_CUSTOMERS, replace=False))
        fits: list[Fit[Frequency]] = [fit(kind, summary) for kind in KINDS.values()]
        best, spend = min(fits, key=lambda one: one.aic), fit(GammaGamma, summary)
        check_mean(spend.model)
        doubts = tuple(f"{one.model.name} {one.message}" for one in (best, spend) if one.message)  # type: ignore[attr-defined]
        return cls(best.model, spend.model, doubts)

    def orders(self, summary: Summary, horizon_weeks: float) -> np.ndarray:
        """Expected orders in the horizon, shape (n,)."""
        return self.frequency.purchases(summary, horizon_weeks)

    def draws(self, summary: Summary, horizon_weeks: float, *, n_draws: int, seed: int) -> np.ndarray:
        """Money in the horizon as it may come, shape (n_draws, n)."""
        rng = np.random.default_rng(seed)
        bought = self.frequency.draws(summary, horizon_weeks, rng, n_draws=n_draws)
        return self.spend.draws(summary, bought, rng)

    def told(self, summary: Summary, horizon_weeks: float) -> pd.DataFrame:
        """What the models say of each customer, the columns `SAID`."""
        orders, order_value = self.orders(summary, horizon_weeks), self.spend.mean_spend(summary)
        said = (orders, orders * order_value, order_value, self.frequency.alive(summary))
        return pd.DataFrame(dict(zip(SAID, said, strict=True)))

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        frequency = {"model": self.frequency.name, **asdict(self.frequency)}
        return {"frequency": frequency, "spend": asdict(self.spend), "doubts": list(self.doubts)}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """What `as_json` told."""
        frequency = dict(told["frequency"])
        kind = KINDS[frequency.pop("model")]
        return cls(kind(**frequency), GammaGamma(**told["spend"]), tuple(told["doubts"]))
