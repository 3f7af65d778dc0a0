"""Items liked by the same people as what you took: the k nearest neighbours of each item."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import sparse

from data.histories import Histories
from data.interactions import Interactions
from models.recommenders.base import Groups, Recommender


class ItemNeighbours(Recommender):
    """Item-based collaborative filtering (Sarwar et al. 2001, "Item-based collaborative filtering ...", eq. 1).

    A user's score for item i is sum_j w_j S_ji over the history j, where S keeps each item's `k` nearest
    neighbours and the item itself (so that with `exclude_seen=False` own items can come back). Similarities are
    those of `implicit`: cosine, cosine of TF-IDF weights, or product of BM25 weights.

    Exact about its reasons: a score is the sum of what the history items add. Items that share no neighbour with
    the history are not ranked, and strangers are not served. Memory grows with k, not with the square of the
    catalogue; good to a few hundred thousand items.

    Example:
        >>> import pandas as pd
        >>> taken = Interactions.from_frame(
        ...     pd.DataFrame({"user_id": list("aabbcd"), "item_id": ["x", "y", "x", "y", "z", "w"]})
        ... )
        >>> model = ItemNeighbours(similarity="cosine").fit(taken)
        >>> history = sparse.csr_matrix(([1.0], ([0], [model.items.code("x")])), shape=(1, 4))
        >>> [model.items.all_ids[code] for code in model.recommend(history, 2).items[0] if code >= 0]
        ['y']
    """

    name = "item_neighbours"
    _arrays = ("indptr", "indices", "data")

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray

    def __init__(self, *, k: int = 50, similarity: Literal["cosine", "tfidf", "bm25"] = "bm25") -> None:
        self.k = k
        self.similarity = similarity

    def _fit(self, interactions: Interactions) -> None:
        from implicit.nearest_neighbours import (  # noqa: PLC0415 - only fitting needs implicit
            BM25Recommender,
            CosineRecommender,
            TFIDFRecommender,
        )

        kinds = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}
        learner = kinds[self.similarity](K=min(self.k + 1, len(self.items)))
        with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
            # An item whose every weight is 0 has no direction; implicit converts its own weighted matrix.
            warnings.simplefilter("ignore")
            learner.fit(interactions.matrix.astype(np.float64), show_progress=False)
        nearest = learner.similarity.tocsr()
        nearest.data[~(nearest.data > 0)] = 0
        nearest.eliminate_zeros()
        nearest.sort_indices()
        self.indptr, self.indices = nearest.indptr.astype(np.int64), nearest.indices.astype(np.int32)
        self.data = nearest.data.astype(np.float32)
        self.__dict__.pop("_nearest", None)

    @cached_property
    def _nearest(self) -> sparse.csr_matrix:
        n_items = len(self.items)
        return sparse.csr_matrix((self.data, self.indices, self.indptr), shape=(n_items, n_items), copy=False)

    def _score(self, histories: Histories, _groups: Groups | None) -> np.ndarray:
        return _ranked_where_positive((histories.matrix @ self._nearest).toarray())

    def _similar(self, codes: np.ndarray) -> np.ndarray:
        return _ranked_where_positive(self._nearest[codes].toarray())

    def _drops(self, history: Histories, codes: np.ndarray) -> np.ndarray:
        own = history.matrix
        return (self._nearest[own.indices][:, codes].multiply(own.data[:, None])).toarray().T


def _ranked_where_positive(scores: np.ndarray) -> np.ndarray:
    return np.where(scores > 0, scores, -np.inf).astype(np.float32)
