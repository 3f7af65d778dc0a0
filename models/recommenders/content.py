"""Items like what you took in what is known of them: ranks an item on its first day, before anybody touched it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy import sparse

from data.errors import DataError
from data.histories import Histories
from data.interactions import Attributes, Interactions
from models.recommenders.base import Groups, Recommender

BLOCK_CELLS = 2**24
MOST_GB = 4.0
"""A larger model is refused: it must fit beside the others in a server."""


class Content(Recommender):
    """What people take together, told by the attributes of the items.

    With X the users' items, 0 or 1, and X~ = D_u^-1/2 X D_i^-1/2 (each divided by the roots of its row's and its
    column's sum, as in Shen et al. 2021, "How powerful is graph convolution for recommendation?"), C = X~'X~ says how
    much two items are taken together. Ridge regression over the items that somebody took tells it by the attributes F
    of the second, C ~ K F' with K = C F (F'F + lambda I)^-1, and so of items that nobody took: the mapping of
    attributes to collaborative knowledge of Gantner et al. 2010 ("Learning attribute-to-feature mappings for
    cold-start recommendations"), here to C itself instead of to its factors. A history h, 0 or 1, scores h K F'. An
    item of the history that nobody took before goes together with itself only, as much as items do on average.

    Closed form, and exact about its reasons: a score is the sum of what the history items add. Items without
    attributes are not ranked and strangers are not served: `popularity` is for them. Keeps n_items x n_attributes
    numbers; good to some 100,000 items of 2,000 attributes (`recommender.max_attributes`).

    Example:
        >>> import pandas as pd
        >>> from dataclasses import replace
        >>> from data.histories import Step
        >>> from data.vocabulary import Vocabulary
        >>> taken = Interactions.from_frame(
        ...     pd.DataFrame({"user_id": list("aabbc"), "item_id": ["pot", "tea", "pot", "tea", "hat"]}),
        ...     items=Vocabulary(["pot", "tea", "hat", "new pot", "new hat"]))
        >>> kinds = Attributes(("name=pot", "name=tea", "name=hat"),
        ...     sparse.csr_matrix(np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]])))
        >>> model = Content(regularisation=1).fit(replace(taken, attributes=kinds))
        >>> asked = Histories.of_steps(model.items, [[Step("tea")], [Step("hat")]])
        >>> [model.items.ids(row) for row in model.recommend(asked, 1).items]
        [['pot'], ['new hat']]
    """

    name = "content"
    serves_cold_items = True
    _arrays = ("K", "indptr", "indices", "data", "new_items")

    K: np.ndarray
    """float32 of shape (n_items, n_attributes)."""
    indptr: np.ndarray
    """With `indices` and `data` the sparse F, shape (n_items, n_attributes)."""
    indices: np.ndarray
    data: np.ndarray

    def __init__(self, *, regularisation: float = 10.0) -> None:
        self.regularisation = regularisation

    def _fit(self, interactions: Interactions) -> None:
        F = _known(interactions.attributes)
        X = interactions.matrix.astype(bool).astype(np.float64)
        n_user, n_item = np.diff(X.indptr), np.bincount(X.indices, minlength=X.shape[1])
        X.data = (np.repeat(n_user, n_user) * n_item[X.indices]) ** -0.5
        CF = np.zeros(F.shape)
        rows = max(1, BLOCK_CELLS // F.shape[1])
        for start in range(0, X.shape[0], rows):
            block = X[start : start + rows]
            CF += block.T @ (block @ F).toarray()
        taken = n_item > 0
        self.new_items = np.flatnonzero(~taken)
        CF[~taken] = X.power(2).sum() / taken.sum() * F[~taken].toarray()
        G = (F[taken].T @ F[taken]).toarray() + self.regularisation * np.eye(F.shape[1])
        self.K = np.ascontiguousarray(np.linalg.solve(G, CF.T).T, dtype=np.float32)
        self.indptr, self.indices, self.data = F.indptr, F.indices, F.data.astype(np.float32)
        self.__dict__.pop("_attributes", None)

    @cached_property
    def _attributes(self) -> sparse.csr_matrix:
        return sparse.csr_matrix((self.data, self.indices, self.indptr), shape=self.K.shape, copy=False)

    def _score(self, histories: Histories, _groups: Groups | None) -> np.ndarray:
        taken = histories.matrix.astype(bool).astype(np.float32)
        return self._told(taken @ np.asarray(self.K))

    def _similar(self, codes: np.ndarray) -> np.ndarray:
        return self._told(np.asarray(self.K[codes]))

    def _told(self, profiles: np.ndarray) -> np.ndarray:
        """Profiles, shape (n, n_attributes), held against the items; -inf where there is nothing known of one."""
        scores: np.ndarray = (self._attributes @ profiles.T).T
        scores[:, np.diff(self.indptr) == 0] = -np.inf
        scores[~profiles.any(axis=1)] = -np.inf
        return np.ascontiguousarray(scores, dtype=np.float32)

    def _drops(self, history: Histories, codes: np.ndarray) -> np.ndarray:
        drops: np.ndarray = self._attributes[codes] @ self.K[history.matrix.indices].T
        return drops


def _known(attributes: Attributes | None) -> sparse.csr_matrix:
    """The attributes as float64.

    Raises:
        DataError: there are none, or too many to be held.
    """
    if attributes is None or not attributes.matrix.nnz:
        raise DataError(
            "content: nothing is known of the items. Bring items with a category, brand, price or name, or name "
            "further columns in recommender.item_columns."
        )
    n_items, n_attributes = attributes.matrix.shape
    if (gigabytes := 4e-9 * n_items * n_attributes) > MOST_GB:
        raise DataError(
            f"content: {n_items:,} items of {n_attributes:,} attributes would take {gigabytes:.1f} GB, more than "
            f"{MOST_GB:g}. Set recommender.max_attributes to {int(MOST_GB / 4e-9 / n_items):,}, or leave content out."
        )
    return attributes.matrix.tocsr().astype(np.float64)
