"""What goes together: items that share a basket more often than their popularity alone would have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from data.interactions import Interactions
from data.state.reads import ORDER
from data.vocabulary import Vocabulary

DAY_SECONDS = 86_400
PRIOR_BASKETS = 10.0
"""A pair's lift leans on 1 as if so many further baskets had been expected, and seen, to hold both."""
KEPT = 50
"""Complements of each item: bounds the memory."""
MAX_BASKET = 100
"""A larger basket (a wholesaler's) says little of what goes with what, and costs the square of its size."""
BLOCK_ITEMS = 512


@dataclass(frozen=True, eq=False)
class Complements:
    """How much each item speaks for each other.

    A basket is what one person, or one guest's order, bought on one day (UTC). Of N baskets n_i hold item i and n_ij
    hold i and j; e_ij = n_i n_j / N would if they had nothing to do with one another. The strength of a pair is

        s_ij = log((n_ij + m) / (e_ij + m)),   m = PRIOR_BASKETS,

    the logarithm of the posterior mean of its lift under a Gamma(m, m) prior (DuMouchel 1999, "Bayesian data mining
    in large frequency tables", with one component of mean 1): pointwise mutual information, but a pair that was
    rarely seen is near 0. The KEPT strongest above 0 are kept of each item. A cart's score of item j is the sum of s_ij
    over its distinct items i, so that each item's part in it is exact.

    Attributes:
        items: Ids of the codes.
        strength: float32 of shape (n_items, n_items), at most KEPT a row.

    Example:
        >>> import pandas as pd
        >>> baskets = [("tea", "pot")] * 9 + [("cup",)] * 9
        >>> bought = pd.DataFrame([(str(n), item) for n, basket in enumerate(baskets) for item in basket])
        >>> bought.columns = ["user_id", "item_id"]
        >>> found = Complements.of(Interactions.from_frame(bought.assign(kind="order")))
        >>> items, scores, because = found.of_cart(["tea", "cup"])
        >>> found.items.ids(items), scores.tolist(), found.items.ids(because)
        (['pot'], [0.27...], ['tea'])
    """

    items: Vocabulary
    strength: sparse.csr_matrix

    @classmethod
    def of(cls, known: Interactions) -> Self:
        """From what was bought, by whomever; the rest of what is known is left out."""
        orders = [code for code, kind in enumerate(known.kinds) if kind == ORDER]
        bought = known.where(np.isin(known.kind, orders))
        day = bought.at // DAY_SECONDS
        day -= day.min(initial=0)
        _, basket = np.unique(bought.user * (day.max(initial=0) + 1) + day, return_inverse=True)
        shape = (int(basket.max(initial=-1)) + 1, len(known.items))
        holds = sparse.csr_matrix((np.ones(len(basket), np.float32), (basket, bought.item)), shape=shape)
        holds.sum_duplicates()
        holds.data[:] = 1  # bought twice that day is bought together once
        holds = holds[np.diff(holds.indptr) <= MAX_BASKET]
        return cls(known.items, _strength(holds))

    def of_cart(self, cart: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What goes with a cart, best first, and nothing that is in it.

        Returns:
            Codes of items, int64 of shape (n,); their scores, float32, above 0; and for each the code of the cart's
            item without which its score would fall most.
        """
        codes = np.unique([code for code in map(self.items.code, cart) if code >= 0]).astype(np.int64)
        if not len(codes):
            return np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64)
        strength = self.strength[codes].tocsc()
        score = np.asarray(strength.sum(axis=0)).ravel()
        score[codes] = 0
        found = np.flatnonzero(score > 0)
        found = found[np.lexsort((found, -score[found]))]
        because = codes[strength[:, found].toarray().argmax(axis=0)]
        return found, score[found], because


def _strength(holds: sparse.csr_matrix) -> sparse.csr_matrix:
    """The strengths, block by block; `holds` is 1 where a basket (row) holds an item."""
    n_baskets, n_items = holds.shape
    by_item = holds.T.tocsr()
    n = np.diff(by_item.indptr).astype(np.float64)
    rows = [
        _strongest((by_item[start : start + BLOCK_ITEMS] @ holds).tocsr(), start, n, n_baskets)
        for start in range(0, n_items, BLOCK_ITEMS)
    ]
    return sparse.vstack(rows, format="csr") if rows else sparse.csr_matrix((0, 0), dtype=np.float32)


def _strongest(together: sparse.csr_matrix, start: int, n: np.ndarray, n_baskets: int) -> sparse.csr_matrix:
    """The strengths of some items from their n_ij, the KEPT largest of each."""
    pairs = together.tocoo()
    expected = n[start + pairs.row] * n[pairs.col] / max(1, n_baskets)
    strength = np.log((pairs.data + PRIOR_BASKETS) / (expected + PRIOR_BASKETS))
    found = np.flatnonzero((strength > 0) & (pairs.col != start + pairs.row))
    found = found[np.lexsort((pairs.col[found], -strength[found], pairs.row[found]))]
    row = pairs.row[found]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = found[place < KEPT]
    cells = (strength[kept].astype(np.float32), (pairs.row[kept], pairs.col[kept]))
    return sparse.csr_matrix(cells, shape=together.shape)
