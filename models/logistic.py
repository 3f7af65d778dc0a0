"""The smooth half of a propensity: ridge logistic regression on columns that were made comparable first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from data.chance import some_rows
from models.fitted import Fitted
from models.views import Views

BLOCK_ROWS = 50_000
"""Asked at once: bounds memory."""
MAX_ROWS = 50_000
"""Rows that are learnt from at the most, a seeded draw: a few hundred weights need no more."""


class RidgeLogistic(Fitted):
    """Ridge logistic regression on the `Views` of each number and category.

    The weights minimise the log loss summed over the rows plus `l2` / 2 times their squares (Hoerl, Kennard 1970), by
    L-BFGS-B, which holds the signs of features that may only raise or only lower the probability.

    Args:
        l2: The penalty; a normal prior of variance 1 / `l2` on each weight.

    Example:
        >>> x = np.linspace(0, 100, 200)[:, None]
        >>> model = RidgeLogistic(l2=1.0).fit(x, (x[:, 0] > 50).astype(float))
        >>> (model.log_odds(np.array([[10.0], [90.0]])) > 0).tolist()
        [False, True]
    """

    _answers_from = "weights"

    def __init__(self, *, l2: float = 1000.0) -> None:
        self.l2 = l2

    def fit(
        self,
        matrix: np.ndarray,
        label: np.ndarray,
        *,
        categories: Mapping[int, int] | None = None,
        monotone: Mapping[int, int] | None = None,
        weight: np.ndarray | None = None,
        seed: int = 0,
    ) -> Self:
        """Learn the weights.

        Args:
            matrix: Numbers, or places in a list of categories; NaN = missing; shape (n, n_features).
            label: 0 or 1, shape (n,).
            categories: Column -> how many categories it has; any other column is of numbers.
            monotone: Column of numbers -> +1 (may only raise) or -1 (may only lower).
            weight: Of the rows, shape (n,); by default all count one.
            seed: Of the draw where there are many rows.
        """
        drawn = some_rows(len(matrix), MAX_ROWS, seed=seed)
        matrix, label, weight = matrix[drawn], label[drawn], None if weight is None else weight[drawn]
        w = np.ones(len(label)) if weight is None else weight
        self.views = Views(matrix, categories)
        D = self.views(matrix)
        owner, rising = self.views.owners()
        signs = np.array([(monotone or {}).get(j, 0) * rises for j, rises in zip(owner, rising, strict=True)])
        rate = float(np.clip(np.average(label, weights=w), 1e-6, 1 - 1e-6))
        start = np.append(np.zeros(D.shape[1]), np.log(rate / (1 - rate)))

        def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
            beta, intercept = theta[:-1], theta[-1]
            z = D @ beta + intercept
            missed = w * (expit(z) - label)
            value = w @ (np.logaddexp(0, z) - label * z) + self.l2 / 2 * beta @ beta
            return value / len(w), np.append(missed @ D + self.l2 * beta, missed.sum()) / len(w)

        bounds = [(0.0 if sign > 0 else None, 0.0 if sign < 0 else None) for sign in signs] + [(None, None)]
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300})
        self.weights, self.intercept = found.x[:-1], float(found.x[-1])
        return self

    def log_odds(self, matrix: np.ndarray) -> np.ndarray:
        """Shape (n,)."""
        self._check_fitted()
        found = np.empty(len(matrix))
        for start in range(0, len(matrix), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            found[block] = self.views(matrix[block]) @ self.weights + self.intercept
        return found

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """What each feature adds to the log-odds of the average row, shape (n, n_features)."""
        self._check_fitted()
        parts = self.views(matrix) * self.weights
        owner, _ = self.views.owners()
        found = np.zeros(matrix.shape)
        for column, j in enumerate(owner):
            found[:, j] += parts[:, column]
        return found

    def strengths(self, n_features: int) -> np.ndarray:
        """The sum of each feature's absolute weights, shape (n_features,)."""
        self._check_fitted()
        return np.bincount(self.views.owners()[0], np.abs(self.weights), n_features)

    def to_json(self) -> dict[str, Any]:
        """Plain values, read back by `from_json`."""
        self._check_fitted()
        return {
            "l2": self.l2,
            **self.views.to_json(),
            "weights": self.weights.tolist(),
            "intercept": self.intercept,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is not that.
        """
        model = cls(l2=float(told["l2"]))
        model.views = Views.from_json(told)
        model.weights, model.intercept = np.asarray(told["weights"], float), float(told["intercept"])
        if model.weights.shape != model.views.mean.shape:
            raise ValueError(f"there should be {len(model.views.mean)} weights")
        return model
