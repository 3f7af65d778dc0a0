"""Columns of numbers and categories as a regression wants them: views that are comparable, and hold no surprises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

KNOTS = 11
"""Deciles and both ends."""
FARTHEST = 5.0
"""Standard deviations beyond which a value says no more: what was never seen is not extrapolated."""


class Views:
    """Three views of each number, and one of each category.

    Of a number: log(1 + |x|) with its sign, its rank among the training rows (straight lines between deciles), and
    whether it is missing. A missing one counts as the median. Of a category: whether it is each of the known values.
    Each column has mean 0 and standard deviation 1 and is held within 5.

    Args:
        matrix: Numbers, or places in a list of categories; NaN = missing; shape (n, n_features).
        categories: Column -> how many categories it has; any other column is of numbers.

    Example:
        >>> Views(np.array([[1.0], [2.0], [4.0]]))(np.array([[2.0]])).round(2).tolist()
        [[-0.09, 0.0, 0.0]]
    """

    def __init__(self, matrix: np.ndarray, categories: Mapping[int, int] | None = None) -> None:
        self.categories = dict(categories or {})
        self.medians: dict[int, float] = {}
        self.knots: dict[int, list[float]] = {}
        for j in range(matrix.shape[1]):
            known = matrix[~np.isnan(matrix[:, j]), j]
            if j not in self.categories and len(known):
                self.medians[j] = float(np.median(known))
                knots = np.unique(np.quantile(known, np.linspace(0, 1, KNOTS), method="inverted_cdf"))
                self.knots[j] = knots.tolist()
        raw = self._raw(matrix)
        self.mean, scale = raw.mean(axis=0), raw.std(axis=0)
        self.scale = np.where(scale > 1e-9, scale, np.inf)  # what never changes says nothing

    def __call__(self, matrix: np.ndarray) -> np.ndarray:
        """The views of other rows, float64 (n, columns)."""
        return np.clip((self._raw(matrix) - self.mean) / self.scale, -FARTHEST, FARTHEST)

    def owners(self) -> tuple[list[int], list[int]]:
        """Of each column: the feature it is a view of, and 1 where it rises with it, else 0."""
        numbers = [(j, rises) for j in self.medians for rises in (1, 1, 0)]
        owners = numbers + [(j, 0) for j, size in self.categories.items() for _ in range(size)]
        return [j for j, _ in owners], [rises for _, rises in owners]

    def to_json(self) -> dict[str, Any]:
        """Plain values, read back by `from_json`."""
        return {
            "categories": self.categories,
            "medians": self.medians,
            "knots": self.knots,
            "mean": self.mean.tolist(),
            "scale": [None if np.isinf(scale) else scale for scale in self.scale.tolist()],
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is not that.
        """
        views = cls.__new__(cls)
        views.categories = {int(j): int(size) for j, size in told["categories"].items()}
        views.medians = {int(j): float(median) for j, median in told["medians"].items()}
        views.knots = {int(j): [float(knot) for knot in knots] for j, knots in told["knots"].items()}
        views.mean = np.asarray(told["mean"], float)
        views.scale = np.array([np.inf if scale is None else float(scale) for scale in told["scale"]])
        columns = len(views.owners()[0])
        if {views.mean.shape, views.scale.shape} != {(columns,)}:
            raise ValueError(f"there should be {columns} columns")
        return views

    def _raw(self, matrix: np.ndarray) -> np.ndarray:
        """The columns before they are made comparable, float64 (n, columns)."""
        views: list[np.ndarray] = []
        for j, median in self.medians.items():
            missing = np.isnan(matrix[:, j])
            x = np.where(missing, median, matrix[:, j])
            knots = self.knots[j]
            views += [np.sign(x) * np.log1p(np.abs(x)), np.interp(x, knots, np.linspace(0, 1, len(knots))), missing]
        for j, size in self.categories.items():
            views += [matrix[:, j] == code for code in range(size)]
        return np.column_stack(views).astype(np.float64) if views else np.zeros((len(matrix), 0))
