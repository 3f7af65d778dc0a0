"""What is believed of weights: a Gaussian, moved by evidence with Laplace's approximation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.special import expit

Family = Literal["logistic", "linear"]

MAX_STEPS, ENOUGH = 60, 1e-7
"""Of Newton's method, and the step below which it stops."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What was shown and what came of it, m rows over P weights.

    Attributes:
        X: Which weights a row adds up, sparse (m, P).
        offset: Added to their sum, (m,).
        shown: How many impressions a row stands for, (m,).
        reward: What they brought together: how many yeses, or how much, (m,).
    """

    X: sparse.csr_matrix
    offset: np.ndarray
    shown: np.ndarray
    reward: np.ndarray


@dataclass(frozen=True, eq=False)
class Belief:
    """theta ~ N(mean, covariance), P weights with names.

    Attributes:
        names: Of the weights.
        mean: (P,).
        covariance: (P, P).
    """

    names: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def before(cls, names: Sequence[str], variance: np.ndarray) -> Self:
        """Independent weights around 0."""
        return cls(tuple(names), np.zeros(len(names)), np.diag(variance))

    def only(self, places: np.ndarray) -> Self:
        """The same belief about some of the weights: of a Gaussian the others are simply left out."""
        names = tuple(self.names[place] for place in places)
        return replace(self, names=names, mean=self.mean[places], covariance=self.covariance[np.ix_(places, places)])

    def beside(self, other: Belief) -> Self:
        """With further weights that are independent of these."""
        n, m = len(self.names), len(other.names)
        covariance = np.zeros((n + m, n + m))
        covariance[:n, :n], covariance[n:, n:] = self.covariance, other.covariance
        return replace(
            self, names=(*self.names, *other.names), mean=np.append(self.mean, other.mean), covariance=covariance
        )

    def faded(self, share: float, variance: np.ndarray) -> Self:
        """As if the evidence behind it counted `share` as much, towards independent weights around 0.

        Of the precision A and A mean, the evidence's part is what exceeds the prior's: A' = s A + (1 - s) diag(1 / v),
        A' mean' = s A mean (the discounted likelihood of West, Harrison 1997, section 6.3, on all of it at once).
        """
        if share == 1:
            return self
        A = _inverse(self.covariance)
        faded = share * A
        faded[np.diag_indices_from(faded)] += (1 - share) / variance
        covariance = _inverse(faded)
        return replace(self, mean=covariance @ (share * (A @ self.mean)), covariance=covariance)

    def told(self, rows: Rows, *, family: Family, noise: float = 1.0) -> Self:
        """The belief after the rows: Laplace's approximation at the mode, which Newton's method finds.

        logistic: reward ~ Binomial(shown, 1 / (1 + exp(-eta))); linear: the mean reward ~ N(eta, noise / shown);
        eta = X theta + offset.

        Args:
            rows: The evidence.
            family: How rewards come.
            noise: Variance of the reward of one impression, of `linear`.
        """
        if not rows.X.shape[0]:
            return self
        precision = _inverse(self.covariance)
        theta = self.mean
        reached = _log_joint(theta, self, precision, rows, family, noise)
        for _ in range(MAX_STEPS):
            slope, weight = _derivatives(theta, rows, family, noise)
            gradient = rows.X.T @ slope - precision @ (theta - self.mean)
            factor = cho_factor(_curvature(rows.X, weight) + precision)
            step, size = cho_solve(factor, gradient), 1.0
            while (found := _log_joint(theta + size * step, self, precision, rows, family, noise)) < reached - 1e-9:
                size /= 2
                if size < 1e-6:  # as good as it gets
                    break
            theta, gained, reached = theta + size * step, found - reached, max(found, reached)
            if np.abs(size * step).max() < ENOUGH or abs(gained) < ENOUGH:
                break
        _, weight = _derivatives(theta, rows, family, noise)
        return replace(self, mean=theta, covariance=_inverse(_curvature(rows.X, weight) + precision))

    def of_sums(self, names: Sequence[str], sums: np.ndarray) -> Self:
        """The belief about sums of the weights, as `sums` adds them up, (q, P)."""
        # A jitter far below anything that is told apart, for sums that are all but the same.
        covariance = sums @ self.covariance @ sums.T + 1e-9 * np.eye(len(sums))
        return replace(self, names=tuple(names), mean=sums @ self.mean, covariance=covariance)

    def draws(self, n: int, *, seed: int) -> np.ndarray:
        """Draws of the weights, float64 (n, P)."""
        noise = np.random.default_rng(seed).standard_normal((n, len(self.mean)))
        found: np.ndarray = self.mean + noise @ cholesky(self.covariance, lower=True).T
        return found


def _derivatives(theta: np.ndarray, rows: Rows, family: Family, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Of each row's log likelihood by eta: the first, and minus the second."""
    eta = rows.X @ theta + rows.offset
    if family == "linear":
        return (rows.reward - rows.shown * eta) / noise, rows.shown / noise
    p = expit(eta)
    return rows.reward - rows.shown * p, rows.shown * p * (1 - p)


def _log_joint(  # noqa: PLR0917 - a formula's symbols
    theta: np.ndarray, prior: Belief, precision: np.ndarray, rows: Rows, family: Family, noise: float
) -> float:
    eta, apart = rows.X @ theta + rows.offset, theta - prior.mean
    if family == "linear":
        likelihood = (rows.reward @ eta - rows.shown @ eta**2 / 2) / noise
    else:
        likelihood = rows.reward @ eta - rows.shown @ np.logaddexp(0, eta)
    return float(likelihood - apart @ precision @ apart / 2)


def _curvature(X: sparse.csr_matrix, weight: np.ndarray) -> np.ndarray:
    found: np.ndarray = (X.T @ X.multiply(weight[:, None]).tocsr()).toarray()
    return found


def _inverse(A: np.ndarray) -> np.ndarray:
    """Of a symmetric positive definite matrix."""
    root = cholesky(A, lower=True)
    half = solve_triangular(root, np.eye(len(A)), lower=True)
    found: np.ndarray = half.T @ half
    return found
