"""What people did up to the last check: arrays built once from the checked tables, a slice per person."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from data.errors import DataError
from data.settings import Recommender
from data.state.arrow import SEQ
from data.state.reads import Watermarks
from data.tables import Tables
from data.vocabulary import Vocabulary
from features.interactions import interactions
from features.snapshots import span
from models.recommenders.popularity import Popularity


@dataclass(frozen=True, eq=False)
class Past:
    """Histories by user, and what was popular.

    Attributes:
        users: Ids of the rows.
        items: Ids of the item codes.
        indptr: Where each user's part of `item` and `weight` begins, int64 of shape (n_users + 1,).
        item: Item codes, int32 of shape (n,).
        weight: Decayed to the end of the tables, float32 of shape (n,).
        popular: Windowed popularity: answers strangers, and everybody when there is no model.
        until: Which of the state's rows are in here.
    """

    users: Vocabulary
    items: Vocabulary
    indptr: np.ndarray
    item: np.ndarray
    weight: np.ndarray
    popular: Popularity | None
    until: Watermarks

    @classmethod
    def of(cls, tables: Tables | None, settings: Recommender) -> Past:
        """The past as the checked tables tell it; none if there are no tables or nobody touched an item."""
        nothing = np.zeros(0)
        empty = cls(
            Vocabulary([]), Vocabulary([]), np.zeros(1, np.int64), nothing.astype(np.int32), nothing, None, Watermarks()
        )
        if tables is None:
            return empty
        try:
            found = interactions(tables, settings, cutoff=span(tables).end)
        except DataError:
            return empty
        return cls(
            users=found.users,
            items=found.items,
            indptr=np.searchsorted(found.user, np.arange(len(found.users) + 1)),
            item=found.item,
            weight=found.weight,
            popular=Popularity().fit(found),
            until=_watermarks(tables),
        )

    def alike(self, item_id: str, allowed: np.ndarray) -> list[tuple[str, float]]:
        """Items that the same people touched, by cosine of their weights, best first; `allowed` is bool (n_items,)."""
        code = self.items.code(item_id)
        if code < 0:
            return []
        together = (self._by_item[code] @ self._by_user).tocoo()
        norms = self._norms
        cosine = together.data / (norms[code] * norms[together.col])
        order = np.lexsort((together.col, -cosine))
        found = [(int(together.col[i]), float(cosine[i])) for i in order if allowed[together.col[i]]]
        return list(zip(self.items.ids([c for c, _ in found]), (s for _, s in found), strict=True))

    @cached_property
    def _by_user(self) -> sparse.csr_matrix:
        """Summed weights, shape (n_users, n_items)."""
        shape = (len(self.users), len(self.items))
        matrix = sparse.csr_matrix((self.weight, self.item, self.indptr), shape=shape)
        matrix.sum_duplicates()
        return matrix

    @cached_property
    def _by_item(self) -> sparse.csr_matrix:
        """The same, shape (n_items, n_users)."""
        return self._by_user.T.tocsr()

    @cached_property
    def _norms(self) -> np.ndarray:
        """Length of each item's column, shape (n_items,)."""
        return np.sqrt(np.asarray(self._by_user.multiply(self._by_user).sum(axis=0)).ravel())

    def of_user(self, user_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Item codes and weights of one user, by time; empty for one who is not known."""
        row = self.users.code(user_id)
        span_ = slice(self.indptr[row], self.indptr[row + 1]) if row >= 0 else slice(0)
        return self.item[span_], self.weight[span_]


def _watermarks(tables: Tables) -> Watermarks:
    """The largest `state_seq` of each table that has one: synced rows are in the tables up to there."""
    synced = [name for name in ("events", "orders", "identities") if tables.has(name, SEQ)]
    return Watermarks(**{name: int(tables[name][SEQ].max().fill_null(0).execute()) for name in synced})
