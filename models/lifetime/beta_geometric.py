"""Customers who may leave after a purchase: BG/NBD and MBG/NBD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import betaincinv, betaln, digamma, expit, gammaln, hyp2f1

from models.lifetime.summary import Summary

N_QUANTILES = 1000


@dataclass(frozen=True)
class BetaGeometric:
    """While active a customer buys at a rate of their own, and after a purchase leaves with a chance of their own.

    Rates are spread over customers as Gamma(r, alpha), chances as Beta(a, b); both stay as they are.

    Attributes:
        r: Shape of the rates: the smaller, the more customers differ.
        alpha: Of the rates, in weeks: r / alpha is the mean number of purchases a week.
        a: Of the chances of leaving: a / (a + b) is their mean.
        b: Of the same.
    """

    r: float
    alpha: float
    a: float
    b: float

    name: ClassVar[str]
    leaves_at_first: ClassVar[bool]
    """Whether a customer may leave after the very first purchase too."""

    @staticmethod
    def data(summary: Summary) -> np.ndarray:
        """x, t_x and T of everybody."""
        return summary.habits

    @staticmethod
    def starts(data: np.ndarray) -> list[tuple[float, ...]]:
        """Customers who are alike and customers who differ, who stay and who leave."""
        age = max(float(data[:, 2].mean()), 1.0)
        return [(0.3, age / 10, 1.0, 2.0), (1.0, age / 2, 0.5, 5.0), (3.0, age, 2.0, 2.0)]

    @classmethod
    def log_likelihood(cls, parameters: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Equation 6 of Fader, Hardie and Lee (2005); 9 of Batislam et al. (2007): they differ in the chances alone."""
        r, alpha, a, b = parameters
        x, t_x, age = data.T
        chances = x + cls.leaves_at_first
        stayed, left = cls._log_ways(parameters, data)
        alive = expit(stayed - left)
        rows = gammaln(r + x) - gammaln(r) + r * np.log(alpha) + np.logaddexp(stayed, left)
        gone = 1 - alive
        spread = digamma(a + b) - digamma(a + b + chances)
        gradient = [
            digamma(r + x) - digamma(r) + np.log(alpha) - alive * np.log(alpha + age) - gone * np.log(alpha + t_x),
            r / alpha - (r + x) * (alive / (alpha + age) + gone / (alpha + t_x)),
            spread + gone / a,
            spread + digamma(b + chances) - digamma(b) - gone / np.where(chances > 0, b + chances - 1, 1.0),
        ]
        return rows, np.array(gradient)

    def alive(self, summary: Summary) -> np.ndarray:
        """Each customer's probability of being still active, shape (n,)."""
        stayed, left = self._log_ways(np.array([self.r, self.alpha, self.a, self.b]), self.data(summary))
        probability: np.ndarray = expit(stayed - left)
        return probability

    def purchases(self, summary: Summary, horizon_weeks: float) -> np.ndarray:
        """Expected number of purchases in the horizon after the cutoff, shape (n,).

        Equation 10 of Fader, Hardie and Lee (2005). Their 2F1 overflows for frequent buyers, and what Euler's
        transformation makes of it where customers leave alike (a is large): each row takes the one with less power.
        Where both fail, as for customers who buy alike (r is large), the chances of leaving are averaged over.
        """
        x, _, age = self.data(summary).T
        a = self.a + 1e-6 * (abs(self.a - 1) < 1e-6)  # the equation has a gap at 1, its value none
        chances = x + self.leaves_at_first
        z = horizon_weeks / (self.alpha + age + horizon_weeks)
        c = a + self.b + chances - 1
        theirs = self.r + x < a - 1
        power = np.where(theirs, self.r + x, a - 1)
        first, second = np.where(theirs, self.r + x, c - self.r - x), np.where(theirs, self.b + chances, a - 1)
        scaled = (1 - z) ** power * hyp2f1(first, second, c, z)
        if_active = c / (a - 1) * (1 - scaled)
        gaps = ~np.isfinite(if_active)
        if_active[gaps] = self._averaged(x[gaps], age[gaps], horizon_weeks)
        expected: np.ndarray = if_active * self.alive(summary)
        return np.maximum(expected, 0.0)

    def draws(self, summary: Summary, horizon_weeks: float, rng: np.random.Generator, *, n_draws: int) -> np.ndarray:
        """Numbers of purchases in the horizon as they may come, float64 of shape (n_draws, n)."""
        x, _, age = self.data(summary).T
        shape = (n_draws, len(x))
        rate = rng.gamma(self.r + x, 1 / (self.alpha + age), shape)
        leaving = rng.beta(self.a, self.b + x + self.leaves_at_first, shape)
        until_left = rng.geometric(np.maximum(leaving, 1e-12))  # numpy wants a chance above 0
        bought = np.minimum(rng.poisson(rate * horizon_weeks), until_left)
        drawn: np.ndarray = bought * (rng.random(shape) < self.alive(summary))
        return drawn.astype(np.float64)

    def _averaged(self, x: np.ndarray, age: np.ndarray, horizon_weeks: float) -> np.ndarray:
        """Purchases in the horizon if active, (1 - (1 + p t / (alpha + T))^-(r+x)) / p over quantiles of p."""
        quantiles = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
        left = betaincinv(self.a, (self.b + x + self.leaves_at_first)[:, None], quantiles)
        p = np.maximum(left, 1e-12)  # none leave: the same as leaving hardly ever
        bought = -np.expm1(-(self.r + x)[:, None] * np.log1p(p * horizon_weeks / (self.alpha + age)[:, None])) / p
        averaged: np.ndarray = bought.mean(axis=1)
        return averaged

    @classmethod
    def _log_ways(cls, parameters: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two ways to this history, in logs and without what they share: stayed, or left at the last purchase."""
        r, alpha, a, b = parameters
        x, t_x, age = data.T
        chances = x + cls.leaves_at_first
        stayed = betaln(a, b + chances) - betaln(a, b) - (r + x) * np.log(alpha + age)
        could = chances > 0
        left = betaln(a + 1, np.where(could, b + chances - 1, 1.0)) - betaln(a, b) - (r + x) * np.log(alpha + t_x)
        return stayed, np.where(could, left, -np.inf)


class BgNbd(BetaGeometric):
    """BG/NBD: nobody leaves before they have bought again (Fader, Hardie and Lee 2005, Marketing Science 24(2)).

    Who bought once is thus surely active; MBG/NBD takes that back.

    Example:
        >>> x, t_x, age = np.array([2.0, 0]), np.array([30.43, 0]), np.full(2, 38.86)
        >>> told = Summary(np.arange(2), x, t_x, age, np.zeros(2), np.zeros(2))
        >>> model = BgNbd(r=0.243, alpha=4.414, a=0.793, b=2.426)
        >>> model.purchases(told, 39).round(3), model.alive(told).round(3)
        (array([1.226, 0.195]), array([0.727, 1.   ]))
    """

    name = "bg_nbd"
    leaves_at_first = False


class MbgNbd(BetaGeometric):
    """MBG/NBD: one may leave after the first purchase already (Batislam, Denizel and Filiztekin 2007, IJRM 24(3)).

    Example:
        >>> told = Summary(np.arange(1), np.zeros(1), np.zeros(1), np.array([38.86]), np.zeros(1), np.zeros(1))
        >>> bool(MbgNbd(r=0.525, alpha=6.183, a=0.891, b=1.614).alive(told)[0] < 1)
        True
    """

    name = "mbg_nbd"
    leaves_at_first = True
