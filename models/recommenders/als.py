"""Tastes as a few hidden factors, learnt by alternating least squares; histories are folded in with numpy."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.linalg import lapack

from data.histories import Histories
from data.interactions import Interactions
from models.recommenders.base import Groups, Ranking, Recommender, at_least, top_k

HEAD_SHARE, HEAD_PER_PLACE = 1 / 32, 4
"""So many items are scored first: of all, or for each of the best that are asked for, whichever is more."""
ROUNDING = 1e-4
"""A score in float32 is greater than |x| |y| by a smaller share than this, if it is."""


class ALS(Recommender):
    """Matrix factorisation for implicit feedback (Hu, Koren, Volinsky 2008, "Collaborative filtering for ...").

    Confidence c_ui = 1 + alpha r_ui, preference p_ui = 1 where r_ui > 0. A history is folded in by equation 4,
    x_u = (Y'Y + Y'(C_u - I)Y + lambda I)^-1 Y'C_u p_u, and scored x_u' y_i. Only the item factors Y are kept:
    nobody is inside the model.

    Fitted by `implicit` (conjugate gradients, its own threads; BLAS held to one, which is about ten times
    faster). The same seed and data give the same factors. Good to millions of users and some 100,000 items;
    needs histories of a few items, so strangers are not served. The defaults were best of 18 combinations on earlier
    days of two shops, of ratings and of the simulated shop; serving costs less with fewer factors.

    Example:
        >>> import pandas as pd
        >>> from data.histories import Step
        >>> taken = Interactions.from_frame(
        ...     pd.DataFrame({"user_id": list("aabbcc"), "item_id": ["x", "y", "x", "y", "z", "w"]})
        ... )
        >>> model = ALS(factors=2).fit(taken)
        >>> asked = Histories.of_steps(model.items, [[Step("x")]])
        >>> model.items.ids(model.recommend(asked, 1).items[0])
        ['y']
    """

    name = "als"
    few_cost_less = True
    _arrays = ("factors_of_items", "gram")

    factors_of_items: np.ndarray
    """Y, float32 of shape (n_items, factors)."""
    gram: np.ndarray
    """Y'Y + lambda I, float64 of shape (factors, factors)."""

    def __init__(
        self,
        *,
        factors: int = 128,
        regularisation: float = 20.0,
        alpha: float = 3.0,
        iterations: int = 15,
        seed: int = 0,
    ) -> None:
        self.factors = factors
        self.regularisation = regularisation
        self.alpha = alpha
        self.iterations = iterations
        self.seed = seed

    def _fit(self, interactions: Interactions) -> None:
        from implicit.cpu.als import AlternatingLeastSquares  # noqa: PLC0415 - only fitting needs implicit
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        with threadpool_limits(1, "blas"):
            learner = AlternatingLeastSquares(
                factors=self.factors,
                regularization=self.regularisation,
                iterations=self.iterations,
                random_state=self.seed,
            )
            confidences = interactions.matrix.copy()
            confidences.data = self._confidence(confidences.data).astype(np.float32)
            learner.fit(confidences, show_progress=False)
        self.factors_of_items = np.ascontiguousarray(learner.item_factors, dtype=np.float32)
        self.__dict__.pop("_by_norm", None)
        Y = self.factors_of_items.astype(np.float64)
        self.gram = Y.T @ Y + self.regularisation * np.eye(Y.shape[1])

    def user_factors(self, histories: Histories) -> np.ndarray:
        """Histories folded in: x_u of equation 4, float64 of shape (n_users, factors)."""
        x = np.empty((len(histories), self.gram.shape[0]))
        for u in range(len(histories)):
            A, b, _, _ = self._normal_equations(histories, u)
            x[u] = _solved(A, b)
        return x

    def _normal_equations(self, histories: Histories, u: int) -> tuple[np.ndarray, ...]:
        """Of one history the sides A and b of equation 4, and the distinct items' factors Y and confidences c."""
        steps = slice(*histories.indptr[u : u + 2])
        items, of = np.unique(histories.item[steps], return_inverse=True)
        Y = self.factors_of_items[items].astype(np.float64)
        c = self._confidence(np.bincount(of, histories.weight[steps], len(items)))
        return self.gram + (Y.T * (c - 1)) @ Y, c @ Y, Y, c

    def _confidence(self, r: np.ndarray) -> np.ndarray:
        confidence: np.ndarray = 1 + self.alpha * r.astype(np.float64)
        return confidence

    def _score(self, histories: Histories, _groups: Groups | None) -> np.ndarray:
        return self.user_factors(histories).astype(np.float32) @ self.factors_of_items.T

    def _best(
        self, histories: Histories, _groups: Groups | None, k: int, *, allowed: np.ndarray | None, exclude_seen: bool
    ) -> Ranking:
        """Exact, though only items are scored that may be among the best: by x'y <= |x| |y|, those of the longest y.

        The kth best of the longest few is a score that the others must come to (Teflioudi et al. 2015, "LEMP: fast
        retrieval of large entries in a matrix product", section 3, without its buckets).
        """
        order, place, falling, Y = self._by_norm
        x = self.user_factors(histories).astype(np.float32)

        def scored(n_items: int) -> np.ndarray:
            score: np.ndarray = x @ Y[:n_items].T
            score[np.diff(histories.indptr) == 0] = -np.inf
            if exclude_seen:
                at = place[histories.item]
                near = at < n_items
                score[histories.row[near], at[near]] = -np.inf
            if allowed is not None:
                score[:, ~allowed[order[:n_items]]] = -np.inf
            return score

        score = scored(max(HEAD_PER_PLACE * k, int(HEAD_SHARE * len(Y))))
        least = at_least(score, k)
        with np.errstate(all="ignore"):  # x may be 0, and `least` the lowest number: then all are scored
            length = least * (1 - ROUNDING) / np.linalg.norm(x, axis=1)
        n_needed = int(np.searchsorted(falling, -length, side="right").max())
        if n_needed > score.shape[1]:
            score = scored(n_needed)
        return top_k(score, k, codes=order[: score.shape[1]])

    @cached_property
    def _by_norm(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Codes by falling |y|, the place of each code there, -|y| and Y in this order."""
        falling = -np.linalg.norm(self.factors_of_items, axis=1)
        order = np.argsort(falling, kind="stable")
        return order, np.argsort(order), falling[order], self.factors_of_items[order]

    def _similar(self, codes: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(self.factors_of_items, axis=1)
        cosine = self.factors_of_items[codes] @ self.factors_of_items.T
        with np.errstate(divide="ignore", invalid="ignore"):  # an item that nobody took has no direction
            cosine /= norms[codes, None] * norms
        return cosine

    def _drops(self, history: Histories, codes: np.ndarray) -> np.ndarray:
        """Exact, by the Sherman-Morrison formula: without item j, A loses (c_j - 1) y_j y_j' and b loses c_j y_j."""
        A, b, Y, c = self._normal_equations(history, 0)
        solved = _solved(A, np.column_stack([Y.T, b]))
        G, x = solved[:, :-1], solved[:, -1]  # g_j = A^-1 y_j and x = A^-1 b
        h = np.einsum("jf,fj->j", Y, G)
        per_item = c - (c - 1) * (Y @ x - c * h) / (1 - (c - 1) * h)
        return (self.factors_of_items[codes].astype(np.float64) @ G) * per_item


def _solved(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A^-1 b of a symmetric positive definite A: half of what `numpy.linalg.solve` takes."""
    _, x, failed = lapack.dposv(A, b)
    if failed:  # without regularisation A may be as good as singular
        x = np.linalg.solve(A, b)
    return np.asarray(x)
