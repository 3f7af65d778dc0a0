"""Customers who may leave at any moment: Pareto/NBD."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import ClassVar

import numpy as np
from scipy.special import digamma, expit, exprel, gammaln

from models.lifetime.summary import Summary

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
STEP = 0.05
NEGLIGIBLE = 25.0
"""The integrand is left alone where it has fallen by e^-25."""


@dataclass(frozen=True)
class ParetoNbd:
    """Pareto/NBD (Schmittlein, Morrison and Colombo 1987, Management Science 33(1)).

    While active a customer buys at a rate of their own, spread as Gamma(r, alpha), and stays active for a time of
    their own, exponential with a rate spread as Gamma(s, beta).

    The likelihood is that of Fader and Hardie (2005), "A note on deriving the Pareto/NBD model". They write the
    integral over the moment of leaving as a difference of two 2F1, which loses all digits where t_x is close to T
    and overflows for frequent buyers; here the integral itself is taken, in logs, by Gauss and Legendre: twelve
    digits everywhere, and its derivatives for little more.

    Attributes:
        r: Shape of the purchase rates: the smaller, the more customers differ.
        alpha: Of the same, in weeks: r / alpha is the mean number of purchases a week.
        s: Shape of the rates of leaving.
        beta: Of the same, in weeks.

    Example:
        >>> x, t_x, age = np.array([2.0, 0]), np.array([30.43, 0]), np.full(2, 38.86)
        >>> told = Summary(np.arange(2), x, t_x, age, np.zeros(2), np.zeros(2))
        >>> model = ParetoNbd(r=0.553, alpha=10.58, s=0.606, beta=11.67)
        >>> model.purchases(told, 39).round(3), model.alive(told).round(3)
        (array([1.455, 0.107]), array([0.869, 0.295]))
    """

    r: float
    alpha: float
    s: float
    beta: float

    name: ClassVar[str] = "pareto_nbd"

    @staticmethod
    def data(summary: Summary) -> np.ndarray:
        """x, t_x and T of everybody."""
        return summary.habits

    @staticmethod
    def starts(data: np.ndarray) -> list[tuple[float, ...]]:
        """Customers who are alike and customers who differ, who stay and who leave."""
        age = max(float(data[:, 2].mean()), 1.0)
        return [(0.5, age / 4, 0.5, age / 4), (1.0, age / 2, 0.3, age), (3.0, age, 2.0, age)]

    @classmethod
    def log_likelihood(cls, parameters: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Equation 18 of Fader and Hardie (2005), before their A_0 is written with 2F1."""
        r, s = parameters[[0, 2]]
        x, _, age = data.T[:3]
        alpha, beta = cls._scales(parameters, data)
        ways = _Ways.of(r, alpha, s, beta, data)
        rows = gammaln(r + x) - gammaln(r) + r * np.log(alpha) + s * np.log(beta) + np.logaddexp(ways.stayed, ways.left)
        alive = expit(ways.stayed - ways.left)
        gone = 1 - alive
        log_a, per_a, log_b, per_b = ways.means
        gradient = [
            digamma(r + x) - digamma(r) + np.log(alpha) - alive * np.log(alpha + age) - gone * log_a,
            r / alpha - (r + x) * (alive / (alpha + age) + gone * per_a),
            np.log(beta) - alive * np.log(beta + age) + gone * (1 / s - log_b),
            s / beta - alive * s / (beta + age) - gone * (s + 1) * per_b,
        ]
        return rows, np.array(gradient)

    @classmethod
    def _scales(cls, parameters: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Alpha and beta of each row."""
        return np.full(len(data), parameters[1]), np.full(len(data), parameters[3])

    def _of(self, summary: Summary) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The data, and alpha and beta of each customer."""
        data = self.data(summary)
        return data, *self._scales(np.array(astuple(self)), data)

    def alive(self, summary: Summary) -> np.ndarray:
        """Each customer's probability of being still active, shape (n,)."""
        data, alpha, beta = self._of(summary)
        ways = _Ways.of(self.r, alpha, self.s, beta, data)
        probability: np.ndarray = expit(ways.stayed - ways.left)
        return probability

    def purchases(self, summary: Summary, horizon_weeks: float) -> np.ndarray:
        """Expected number of purchases in the horizon after the cutoff, shape (n,).

        Equation 22 of Schmittlein et al. (1987).
        """
        data, alpha, beta = self._of(summary)
        x, age = data[:, 0], data[:, 2]
        rate = (self.r + x) / (alpha + age)
        logs = np.log1p(horizon_weeks / (beta + age))
        active_weeks = (beta + age) * logs * exprel((1 - self.s) * logs)
        expected: np.ndarray = rate * active_weeks * self.alive(summary)
        return expected

    def draws(self, summary: Summary, horizon_weeks: float, rng: np.random.Generator, *, n_draws: int) -> np.ndarray:
        """Numbers of purchases in the horizon as they may come, float64 of shape (n_draws, n)."""
        data, alpha, beta = self._of(summary)
        x, age = data[:, 0], data[:, 2]
        shape = (n_draws, len(x))
        rate = rng.gamma(self.r + x, 1 / (alpha + age), shape)
        leaving = rng.gamma(self.s, 1 / (beta + age), shape)
        weeks = np.minimum(rng.exponential(size=shape) / np.maximum(leaving, 1e-300), horizon_weeks)
        drawn: np.ndarray = rng.poisson(rate * weeks) * (rng.random(shape) < self.alive(summary))
        return drawn.astype(np.float64)


@dataclass(frozen=True)
class ParetoNbdFirst(ParetoNbd):
    """Pareto/NBD that knows what the first purchase cost: who begins big may buy more often, and leave sooner or later.

    Both scales are divided by a power of what the first purchase cost, z = log(1 + first_spend): alpha by faster^z,
    beta by leaving^z. Fader and Hardie (2007), "Incorporating time-invariant covariates into the Pareto/NBD and
    BG/NBD models".

    Attributes:
        faster: How many times as often somebody buys whose first purchase cost e times as much; 1 = no more often.
        leaving: How many times as soon they leave.

    Example:
        >>> x, t_x, first = np.array([0.0, 0]), np.zeros(2), np.array([10.0, 100.0])
        >>> told = Summary(np.arange(2), x, t_x, np.full(2, 38.86), np.full(2, np.nan), first)
        >>> model = ParetoNbdFirst(r=0.6, alpha=50.0, s=0.6, beta=12.0, faster=1.6, leaving=1.0)
        >>> model.purchases(told, 39).round(3)
        array([0.112, 0.116])
    """

    faster: float
    leaving: float

    name: ClassVar[str] = "pareto_nbd_first"

    @staticmethod
    def data(summary: Summary) -> np.ndarray:
        """The x, t_x, T and z of everybody; z to a twentieth, so that rows fall together."""
        z = np.round(np.log1p(np.nan_to_num(summary.first_spend)) / STEP) * STEP
        return np.column_stack([ParetoNbd.data(summary), z])

    @staticmethod
    def starts(data: np.ndarray) -> list[tuple[float, ...]]:
        """As Pareto/NBD, and no difference."""
        return [(*start, 1.0, 1.0) for start in ParetoNbd.starts(data)[:1]]

    @classmethod
    def log_likelihood(cls, parameters: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """That of Pareto/NBD, each customer with scales of their own."""
        rows, (by_r, by_alpha, by_s, by_beta) = super().log_likelihood(parameters, data)
        own = cls._scales(parameters, data)
        slopes = [by_r, by_alpha * own[0] / parameters[1], by_s, by_beta * own[1] / parameters[3]]
        z = data[:, 3]
        slopes += [-z / parameters[4] * own[0] * by_alpha, -z / parameters[5] * own[1] * by_beta]
        return rows, np.array(slopes)

    @classmethod
    def _scales(cls, parameters: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, alpha, _, beta, faster, leaving = parameters
        return alpha * faster ** -data[:, 3], beta * leaving ** -data[:, 3]


@dataclass(frozen=True, eq=False)
class _Ways:
    """The two ways to a history, in logs and without what they share, and where those who left may have left.

    Attributes:
        stayed: Still active at T, shape (n,).
        left: At any moment between t_x and T.
        means: Over the moment tau of leaving, of log(alpha + tau), 1 / (alpha + tau), and the same with beta,
            shape (4, n).
    """

    stayed: np.ndarray
    left: np.ndarray
    means: np.ndarray

    @classmethod
    def of(cls, r: float, alpha: np.ndarray, s: float, beta: np.ndarray, data: np.ndarray) -> _Ways:
        x, t_x, age = data.T[:3]
        stayed = -(r + x) * np.log(alpha + age) - s * np.log(beta + age)
        # The integrand s (alpha + tau)^-(r+x) (beta + tau)^-(s+1) is smooth in u = log(shorter + tau).
        shorter = np.minimum(alpha, beta)
        until = np.minimum(age, (alpha + t_x) * np.exp(np.minimum(NEGLIGIBLE / (r + x), 600.0)) - alpha)
        low, high = np.log(shorter + t_x), np.log(shorter + until)
        half = (high - low) / 2
        u = (low + half)[:, None] + half[:, None] * NODES
        from_zero = np.exp(u) - shorter[:, None]
        a, b = alpha[:, None] + from_zero, beta[:, None] + from_zero
        log_a, log_b = np.log(a), np.log(b)
        logs = u - (r + x)[:, None] * log_a - (s + 1) * log_b
        highest = logs.max(axis=1)
        share = np.exp(logs - highest[:, None]) * WEIGHTS
        total = share.sum(axis=1)
        with np.errstate(divide="ignore"):  # somebody who bought on the last day had no time to leave
            left = np.log(s) + highest + np.log(half * total)
        share /= total[:, None]
        means = np.array([np.einsum("ij,ij->i", share, of) for of in (log_a, 1 / a, log_b, 1 / b)])
        return cls(stayed, left, means)
