"""Graph filters on the items: no training, one pass over the matrix of who took what."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from data.interactions import Interactions
from data.progress import timed
from models.recommenders.item_operator import ItemOperator, degree_power, scaled

RUNGE_KUTTA_ORDER = 4

Filter = Callable[[np.ndarray], np.ndarray]
"""Takes signals on the items, float32 of shape (n_items, n), to the same."""


class Graph(ItemOperator):
    """A history as a signal on the graph of items, smoothed and sharpened.

    With R = Du^-1/2 X Di^-1/2, the graph P = R'R and V its `factors` leading eigenvectors (the ideal low-pass), a
    history h is scored h W, with D = Di^item_power and V V' weighted by `ideal_weight`:

    - `gf-cf`: W = P + ideal_weight D^-1 V V' D (Shen et al. 2021, "How powerful is graph convolution for
      recommendation?", equation 9);
    - `bspm`: the same, sharpened by dh/dt = -h P for a time of `sharpening`, one step of Runge and Kutta (Choi et al.
      2023, "Blurring-sharpening process models for collaborative filtering", early merge, equations 8 to 13);
    - `chebycf`: W = D^-1 (p(P) + ideal_weight V V') D, where p falls from 1 to 0 with a plateau between: 1/2 minus half
      the signed power `flatness` of the frequency, interpolated at `order` + 1 Chebyshev nodes (Kim et al. 2025,
      "Graph spectral filtering with Chebyshev interpolation for recommendation", equations 8 to 14).

    W is worked out once, block by block, and the `kept_per_item` strongest of each row are stored. Time grows with
    items x interactions x order, memory with items x factors: 41,000 items and 810,000 interactions take minutes on
    two cores and 2 GB.

    Args:
        filter: Which of the three.
        factors: Eigenvectors of the ideal low-pass; 0 for none.
        ideal_weight: How much it counts; each paper looked between 0.1 and 0.5.
        item_power: From 0 to 1; the higher, the more the popular items gain.
        sharpening: For `bspm`, T_s: the more, the more specific to the history.
        order: For `chebycf`, K.
        flatness: For `chebycf`, phi.
        kept_per_item: How many items each item leads to; the more, the closer to the dense W.
        seed: Of the eigenvectors' iteration.

    Example:
        >>> import pandas as pd
        >>> taken = Interactions.from_frame(
        ...     pd.DataFrame({"user_id": list("aabbcd"), "item_id": ["x", "y", "x", "y", "z", "w"]})
        ... )
        >>> model = Graph(filter="gf-cf").fit(taken)
        >>> history = sparse.csr_matrix(([1.0], ([0], [model.items.code("x")])), shape=(1, 4))
        >>> model.items.ids(model.recommend(history, 1).items[0])
        ['y']
    """

    name = "graph"

    def __init__(
        self,
        *,
        filter: Literal["gf-cf", "bspm", "chebycf"] = "chebycf",  # noqa: A002 - the papers' word
        factors: int = 512,
        ideal_weight: float = 0.2,
        item_power: float = 0.4,
        sharpening: float = 2.5,
        order: int = 8,
        flatness: float = 1.5,
        kept_per_item: int = 1000,
        seed: int = 0,
    ) -> None:
        self.filter = filter
        self.factors = factors
        self.ideal_weight = ideal_weight
        self.item_power = item_power
        self.sharpening = sharpening
        self.order = order
        self.flatness = flatness
        self.kept_per_item = kept_per_item
        self.seed = seed

    def _fit(self, interactions: Interactions) -> None:
        X = interactions.matrix
        R = scaled(X, 0.5, 0.5)
        V = self._eigenvectors(R)
        before, after = degree_power(X, -self.item_power), degree_power(X, self.item_power)
        n_items = X.shape[1]
        Rt = R.T.tocsr()

        def smoothed(signals: np.ndarray) -> np.ndarray:
            """P on signals."""
            found: np.ndarray = Rt @ (R @ signals)
            return found

        def rows_of_weights(block: slice) -> np.ndarray:
            """Of W, from the filters' answer to single items, which are columns of shape (n_items, n)."""
            items = np.eye(n_items, block.stop - block.start, -block.start, dtype=np.float32)
            ideal = (self.ideal_weight * after)[:, None] * (V @ (V[block] * before[block, None]).T)
            if self.filter == "chebycf":
                filtered = (
                    after[:, None] * _interpolated(smoothed, items * before[block], self.order, self.flatness) + ideal
                )
            else:
                filtered = smoothed(items) + ideal
            if self.filter == "bspm":
                filtered = _sharpened(smoothed, filtered, self.sharpening)
            return np.ascontiguousarray(filtered.T)

        self._keep(rows_of_weights, self.kept_per_item)

    def _eigenvectors(self, R: sparse.csr_matrix) -> np.ndarray:
        """The leading right singular vectors of R, float32 of shape (n_items, factors)."""
        k = min(self.factors, min(R.shape) - 1)
        if k < 1:
            return np.zeros((R.shape[1], 0), dtype=np.float32)
        with timed(f"{k} eigenvectors of {R.shape[1]:,} items"):
            _, _, Vt = svds(R, k=k, rng=np.random.default_rng(self.seed), return_singular_vectors="vh")
        return np.ascontiguousarray(Vt.T, dtype=np.float32)


def _sharpened(smoothed: Filter, signals: np.ndarray, time: float) -> np.ndarray:
    """The solution of dy/dt = -P y after one Runge-Kutta step: the Taylor series of exp(-time P) to the fourth term."""
    sharp, term = signals.copy(), signals
    for n in range(1, RUNGE_KUTTA_ORDER + 1):
        term = smoothed(term) * np.float32(-time / n)
        sharp += term
    return sharp


def _interpolated(smoothed: Filter, signals: np.ndarray, order: int, flatness: float) -> np.ndarray:
    """p(P) on signals, by the recurrence of the Chebyshev polynomials of L~ = I - 2 P, whose spectrum is in [-1, 1]."""
    c = _plateau(order, flatness)
    last, now = signals, signals - 2 * smoothed(signals)
    filtered = c[0] * last + c[1] * now
    for k in range(2, order + 1):
        last, now = now, 2 * (now - 2 * smoothed(now)) - last
        filtered += c[k] * now
    return filtered


def _plateau(order: int, flatness: float) -> np.ndarray:
    """The Chebyshev coefficients of the plateau, float32 of shape (order + 1,).

    As in the authors' code, the plateau is read at the extrema cos(k pi / K) and taken for its values at the roots
    cos((k + 1/2) pi / (K + 1)), to three decimals.
    """
    k = np.arange(order + 1)
    x = np.cos((order - k) / order * math.pi).round(3)
    values = (0.5 - 0.5 * np.sign(x) * np.abs(x) ** flatness).round(3)
    nodes = np.cos((order + 0.5 - k) / (order + 1) * math.pi)
    c = np.polynomial.chebyshev.chebvander(nodes, order).T @ values * 2 / (order + 1)
    c[0] /= 2
    return c.astype(np.float32)
