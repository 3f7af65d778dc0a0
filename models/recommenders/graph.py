"""Graph filters on the items: no training, one pass over the matrix of who took what."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import norm, svds

from data.errors import DataError
from data.interactions import Interactions
from data.progress import timed
from models.recommenders.item_operator import ItemOperator, degree_power, scaled

Response = Literal["one-hop", "gf-cf", "bspm", "chebycf"]
FILTERS: tuple[Response, ...] = get_args(Response)
RUNGE_KUTTA_ORDER = 4

Filter = Callable[[np.ndarray], np.ndarray]
"""Takes signals on the items, float32 of shape (n_items, n), to the same."""


class Graph(ItemOperator):
    """A history as a signal on the graph of items, smoothed and sharpened.

    With R = Du^-user_power X Di^-item_power over its largest singular value, the graph P = R'R, its `factors` leading
    eigenvectors V (the ideal low-pass), D = Di^degree_power and alpha = `ideal_weight`, a history h is scored h W:

    - `one-hop`: W = D^-1 (P + alpha V V') D, the linear response under the degree normalisation of the third paper;
    - `gf-cf`: W = P + alpha D^-1 V V' D (Shen et al. 2021, "How powerful is graph convolution for recommendation?",
      equation 9);
    - `bspm`: that, sharpened by dy/dt = -P y for a time of `sharpening`, in one step of Runge and Kutta (Choi et al.
      2023, "Blurring-sharpening process models for collaborative filtering", with early merge);
    - `chebycf`: W = D^-1 (p(P) + alpha V V') D, where p falls with the frequency from 1 to 0, with a plateau at 1/2
      that is the wider the higher `flatness`, interpolated by Chebyshev polynomials up to `order` (Kim et al. 2025,
      "Graph spectral filtering with Chebyshev interpolation for recommendation").

    The papers have `user_power` and `item_power` 0.5. W is worked out once, block by block, and the `kept_per_item`
    strongest of each row are stored. At 41,000 items and 810,000 interactions each application of P to all items takes
    about half a minute on one core: `bspm` needs four, `chebycf` one less than its `order`, the others none.

    Args:
        filter: Which of the four.
        factors: Eigenvectors of the ideal low-pass.
        ideal_weight: alpha; with 0 no eigenvectors are sought.
        user_power: From 0 to 1; the higher, the less those who took much say.
        item_power: From 0 to 1; the higher, the less popular items say and gain.
        degree_power: From 0 to 1; the higher, the less popular items say and the more they gain.
        sharpening: For `bspm`, T_s: the more, the more specific to the history.
        order: For `chebycf`, K, at least 1.
        flatness: For `chebycf`, phi.
        kept_per_item: How many items each item leads to; the more, the closer to the dense W.
        seed: Of the eigenvectors' iteration.

    Raises:
        DataError: no such filter.

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
        filter: Response = "one-hop",  # noqa: A002 - the papers' word
        factors: int = 256,
        ideal_weight: float = 0.0,
        user_power: float = 0.35,
        item_power: float = 0.425,
        degree_power: float = 0.175,
        sharpening: float = 2.5,
        order: int = 8,
        flatness: float = 1.5,
        kept_per_item: int = 1000,
        seed: int = 0,
    ) -> None:
        if filter not in FILTERS:
            raise DataError(f"filter is {filter!r}; choose from {', '.join(FILTERS)}.")
        self.filter = filter
        self.factors = factors
        self.ideal_weight = ideal_weight
        self.user_power = user_power
        self.item_power = item_power
        self.degree_power = degree_power
        self.sharpening = sharpening
        self.order = order
        self.flatness = flatness
        self.kept_per_item = kept_per_item
        self.seed = seed

    def _fit(self, interactions: Interactions) -> None:
        X = interactions.matrix
        R = scaled(X, self.user_power, self.item_power)
        R /= self._svd(R, 1)[0][0]  # the spectrum of P is in [0, 1], where the filters are defined
        V = self._svd(R, self.factors)[1] if self.ideal_weight else np.zeros((X.shape[1], 0), dtype=np.float32)
        before, after = degree_power(X, -self.degree_power), degree_power(X, self.degree_power)
        Rt = R.T.tocsr()

        def smoothed(signals: np.ndarray) -> np.ndarray:
            """P on signals."""
            found: np.ndarray = Rt @ (R @ signals)
            return found

        def rows_of_weights(block: slice) -> np.ndarray:
            """Of W, from the filters' answer to single items, which are columns of shape (n_items, n)."""
            neighbours = (Rt @ Rt[block].T).toarray()
            ideal = (self.ideal_weight * after)[:, None] * (V @ (V[block] * before[block, None]).T)
            if self.filter == "gf-cf":
                found = neighbours + ideal
            elif self.filter == "bspm":
                found = _sharpened(smoothed, neighbours + ideal, self.sharpening)
            else:
                if self.filter == "chebycf":
                    items = np.eye(len(neighbours), block.stop - block.start, -block.start, dtype=np.float32)
                    neighbours = _interpolated(smoothed, items, neighbours, _plateau(self.order, self.flatness))
                found = after[:, None] * neighbours * before[block] + ideal
            return np.ascontiguousarray(found.T)

        self._keep(rows_of_weights, self.kept_per_item)

    def _svd(self, R: sparse.csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k leading singular values and right singular vectors, float32 of shape (n_items, k)."""
        k = min(k, min(R.shape) - 1)
        if k < 1:
            return np.array([norm(R)]), np.zeros((R.shape[1], 0), dtype=np.float32)
        with timed(f"{k} singular vectors of {R.shape[1]:,} items"):
            _, s, Vt = svds(R, k=k, rng=np.random.default_rng(self.seed), return_singular_vectors="vh")
        return s, np.ascontiguousarray(Vt.T, dtype=np.float32)


def _sharpened(smoothed: Filter, signals: np.ndarray, time: float) -> np.ndarray:
    """The solution of dy/dt = -P y after one Runge-Kutta step: the Taylor series of exp(-time P) to the fourth term."""
    sharp, term = signals.copy(), signals
    for n in range(1, RUNGE_KUTTA_ORDER + 1):
        term = smoothed(term) * np.float32(-time / n)
        sharp += term
    return sharp


def _interpolated(smoothed: Filter, signals: np.ndarray, once: np.ndarray, c: np.ndarray) -> np.ndarray:
    """sum_k c_k T_k(I - 2 P) on signals, `once` being P on them; the spectrum of I - 2 P is in [-1, 1]."""
    last, now = signals, signals - 2 * once
    found = c[0] * last + c[1] * now
    for c_k in c[2:]:
        last, now = now, 2 * (now - 2 * smoothed(now)) - last
        found += c_k * now
    return found


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
