"""From a model's score to a probability that means what it says: learnt on later rows, kept as a few numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from scipy.special import expit

ISOTONIC_ROWS = 1000
"""So many rows of the rarer class before isotonic regression beats a sigmoid (Niculescu-Mizil, Caruana 2005)."""


@dataclass(frozen=True)
class Calibration:
    """A rising map from log-odds to probability.

    Attributes:
        kind: `none`; `logistic`, 1 / (1 + exp(-(slope x + intercept))) (Platt 1999); or `isotonic`, straight lines
            between `knots` and `values` (centred isotonic regression, Oron and Flournoy 2017: no plateaus, so that
            people whom the model tells apart stay apart).
        slope: Of `logistic`.
        intercept: Of `logistic`.
        knots: Log-odds, rising, of `isotonic`.
        values: Probabilities at the knots.
    """

    kind: Literal["none", "logistic", "isotonic"] = "none"
    slope: float = 1.0
    intercept: float = 0.0
    knots: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    @classmethod
    def fit(cls, log_odds: np.ndarray, label: np.ndarray) -> Self:
        """Learn from rows that the model was not fitted on; logistic where either class has under 1,000 rows.

        Args:
            log_odds: The model's raw scores, shape (n,).
            label: 0 or 1, shape (n,).

        Example:
            >>> Calibration.fit(np.array([-1.0, 0.0, 1.0, 2.0]), np.array([0, 1, 0, 1])).kind
            'logistic'
        """
        positives = int(label.sum())
        if min(positives, len(label) - positives) < ISOTONIC_ROWS:
            return cls._logistic(log_odds, label, positives)
        return cls._isotonic(log_odds, label)

    @classmethod
    def _logistic(cls, x: np.ndarray, label: np.ndarray, positives: int) -> Self:
        """Platt's sigmoid with his targets, (N+ + 1) / (N+ + 2) and 1 / (N- + 2), which hold small samples back."""
        negatives = len(label) - positives
        t = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
        a, b = 1.0, 0.0
        for _ in range(100):  # Newton's method on the cross-entropy of t
            p = 1 / (1 + np.exp(-(a * x + b)))
            g = np.array([(t - p) @ x, (t - p).sum()])
            w = p * (1 - p)
            H = np.array([[w @ x**2, w @ x], [w @ x, w.sum()]]) + 1e-9 * np.eye(2)
            step = np.clip(np.linalg.solve(H, g), -1, 1)
            a, b = a + step[0], b + step[1]
            if np.abs(step).max() < 1e-8:
                break
        if a <= 0:  # the later rows contradict the ranking: keep it, and mend the level alone
            rate = float(t.mean())
            return cls(kind="logistic", slope=1e-6, intercept=float(np.log(rate / (1 - rate))))
        return cls(kind="logistic", slope=float(a), intercept=float(b))

    @classmethod
    def _isotonic(cls, x: np.ndarray, label: np.ndarray) -> Self:
        from sklearn.isotonic import isotonic_regression  # noqa: PLC0415 - only fitting needs scikit-learn

        at, which, count = np.unique(x, return_inverse=True, return_counts=True)
        pooled = isotonic_regression(np.bincount(which, label) / count, sample_weight=count)
        _, block = np.unique(pooled, return_inverse=True)
        mass = np.bincount(block, count)
        knots = np.bincount(block, at * count) / mass
        half = 0.5 / len(x)  # nobody is certain
        values = np.clip(np.bincount(block, pooled * count) / mass, half, 1 - half)
        return cls(kind="isotonic", knots=tuple(knots.tolist()), values=tuple(values.tolist()))

    def __call__(self, log_odds: np.ndarray) -> np.ndarray:
        """Probabilities in [0, 1], shape (n,)."""
        if self.kind == "isotonic":
            return np.interp(log_odds, self.knots, self.values)
        probability: np.ndarray = expit(self.slope * log_odds + self.intercept)
        return probability

    def at_rate(self, log_odds: np.ndarray, rate: float, *, weight: np.ndarray | None = None) -> Self:
        """The same map for another model's log-odds: moved along them until its mean on these is `rate`.

        Args:
            log_odds: Of rows, shape (n,).
            rate: In (0, 1); held within what the map can reach.
            weight: Of the rows; by default all count one.
        """
        low, high = -60.0, 60.0
        for _ in range(60):  # bisection: the mean rises with the move
            middle = (low + high) / 2
            below = np.average(self._moved(middle)(log_odds), weights=weight) < rate
            low, high = (middle, high) if below else (low, middle)
        return self._moved((low + high) / 2)

    def _moved(self, by: float) -> Self:
        """The map of `log_odds + by`."""
        if self.kind == "isotonic":
            return replace(self, knots=tuple(knot - by for knot in self.knots))
        return replace(self, kind="logistic", intercept=self.intercept + self.slope * by)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `Calibration(**values)` reads them back."""
        return asdict(self)
