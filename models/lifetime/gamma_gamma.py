"""What a purchase of a customer costs on average: the Gamma-Gamma model of spend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import digamma, gammaln

from models.lifetime.summary import Summary


@dataclass(frozen=True)
class GammaGamma:
    """Spend per purchase is Gamma(p, nu) around a mean of the customer's own; nu is spread as Gamma(q, gamma).

    Fader and Hardie (2013), "The Gamma-Gamma model of monetary value". It takes spend and frequency as independent,
    and learns from purchases after the first.

    Attributes:
        p: Shape of one customer's purchases: the larger, the more alike.
        q: Shape of the customers' own scales.
        gamma: Of the same, in the shop's currency.

    Example:
        >>> x, spent, zeros = np.array([2.0, 0]), np.array([22.35, np.nan]), np.zeros(2)
        >>> told = Summary(np.arange(2), x, zeros, zeros, spent, zeros)
        >>> GammaGamma(p=6.25, q=3.74, gamma=15.44).mean_spend(told).round(2)
        array([24.66, 35.22])
    """

    p: float
    q: float
    gamma: float

    name: ClassVar[str] = "gamma_gamma"

    @staticmethod
    def data(summary: Summary) -> np.ndarray:
        """The x and the mean spend of those who bought again, for more than nothing."""
        told = (summary.frequency > 0) & (summary.mean_spend > 0)
        return np.column_stack([summary.frequency[told], summary.mean_spend[told]])

    @staticmethod
    def starts(data: np.ndarray) -> list[tuple[float, ...]]:
        """Purchases that vary much and little."""
        mean = float(data[:, 1].mean()) if len(data) else 1.0
        return [(p, 3.0, 2 * mean / p) for p in (1.0, 5.0, 20.0)]

    @classmethod
    def log_likelihood(cls, parameters: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Equation 1a of the note."""
        p, q, gamma = parameters
        x, mean = data.T
        shape, log_sum, log_scale = p * x, np.log(mean * x), np.log(gamma + mean * x)
        rows = (
            gammaln(shape + q) - gammaln(shape) - gammaln(q) + q * np.log(gamma)
            + shape * log_sum - np.log(mean) - (shape + q) * log_scale
        )  # fmt: skip
        gradient = [
            x * (digamma(shape + q) - digamma(shape) + log_sum - log_scale),
            digamma(shape + q) - digamma(q) + np.log(gamma) - log_scale,
            q / gamma - (shape + q) / (gamma + mean * x),
        ]
        return rows, np.array(gradient)

    def mean_spend(self, summary: Summary) -> np.ndarray:
        """Expected spend per future purchase, in the shop's currency, shape (n,) (equation 5).

        Infinite for somebody who bought once where q is 1 or less: the shop's own mean is then none.
        """
        shape, scale = self._posterior(summary)
        expected: np.ndarray = np.where(shape > 1, self.p * scale / np.maximum(shape - 1, 1e-300), np.inf)
        return expected

    def draws(self, summary: Summary, purchases: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What so many purchases may cost together; both of shape (n_draws, n)."""
        shape, scale = self._posterior(summary)
        nu = rng.gamma(shape, 1 / scale, purchases.shape)
        spent: np.ndarray = rng.gamma(np.where(purchases > 0, self.p * purchases, 1.0)) / np.maximum(nu, 1e-300)
        return np.where(purchases > 0, spent, 0.0)

    def _posterior(self, summary: Summary) -> tuple[np.ndarray, np.ndarray]:
        """Shape and rate of each customer's nu."""
        x = np.where(np.isnan(summary.mean_spend), 0.0, summary.frequency)
        return self.q + self.p * x, self.gamma + x * np.nan_to_num(summary.mean_spend)
