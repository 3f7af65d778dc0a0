"""Models whose score is a sum over the history: one sparse item-to-item matrix, kept as the strongest of each row."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
from scipy import sparse

from data.histories import Histories
from data.progress import track
from models.recommenders.base import Groups, Recommender

BLOCK_CELLS = 2**24
"""Of a dense item-to-item matrix, what each thread has at once while a model is fitted: some blocks of 64 MB."""


class ItemOperator(Recommender):
    """Base of the models that score a history h as h W, with W of shape (n_items, n_items).

    `_fit` gives the rows of W to `_keep`. Exact about its reasons: a score is the sum of what the history items add.
    Items to which no row of W leads are not ranked, and strangers are not served.
    """

    _arrays = ("indptr", "indices", "data")

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray

    def _keep(self, rows_of: Callable[[slice], np.ndarray], kept_per_item: int) -> None:
        """Take W as dense blocks of its rows, float32 (n, n_items), and keep the largest magnitudes of each row."""
        # SciPy's products and NumPy's sorting let other threads run.
        pool = ThreadPoolExecutor(int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count())
        try:
            tasks = [
                pool.submit(lambda block: strongest(rows_of(block), kept_per_item), block)
                for block in blocks_of(len(self.items))
            ]
            parts = [task.result() for task in track(tasks, f"rows of the {self.name} model")]
        finally:
            pool.shutdown(cancel_futures=True)
        self.indptr = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part.indptr) for part in parts]))])
        self.indices = np.concatenate([part.indices for part in parts]).astype(np.int32)
        self.data = np.concatenate([part.data for part in parts])
        for cached in ("_operator", "_unreached"):
            self.__dict__.pop(cached, None)

    @cached_property
    def _operator(self) -> sparse.csr_matrix:
        n_items = len(self.items)
        return sparse.csr_matrix((self.data, self.indices, self.indptr), shape=(n_items, n_items), copy=False)

    @cached_property
    def _unreached(self) -> np.ndarray:
        return np.bincount(self.indices, minlength=len(self.items)) == 0

    def _score(self, histories: Histories, _groups: Groups | None) -> np.ndarray:
        scores: np.ndarray = (histories.matrix @ self._operator).toarray()
        scores[:, self._unreached] = -np.inf
        return scores

    def _similar(self, codes: np.ndarray) -> np.ndarray:
        rows: np.ndarray = self._operator[codes].toarray()
        rows[rows <= 0] = -np.inf
        return rows

    def _drops(self, history: Histories, codes: np.ndarray) -> np.ndarray:
        own = history.matrix
        return self._operator[own.indices][:, codes].multiply(own.data[:, None]).toarray().T


def blocks_of(n: int) -> list[slice]:
    """The rows of a dense n x n matrix in blocks of about BLOCK_CELLS.

    Example:
        >>> blocks_of(3)
        [slice(0, 3, None)]
    """
    n_rows = max(1, BLOCK_CELLS // n)
    return [slice(start, min(start + n_rows, n)) for start in range(0, n, n_rows)]


def strongest(rows: np.ndarray, kept: int) -> sparse.csr_matrix:
    """The `kept` largest magnitudes of each row of a dense block, zeros left out.

    Example:
        >>> strongest(np.float32([[1, -3, 2], [0, 0, 1]]), 2).toarray().tolist()
        [[0.0, -3.0, 2.0], [0.0, 0.0, 1.0]]
    """
    n, n_items = rows.shape
    if kept < n_items:
        columns = np.argpartition(np.abs(rows), n_items - kept, axis=1)[:, n_items - kept :]
        columns.sort(axis=1)
    else:
        columns = np.broadcast_to(np.arange(n_items), rows.shape)
    data = np.take_along_axis(rows, columns, axis=1).ravel()
    indptr = np.arange(n + 1) * columns.shape[1]
    found = sparse.csr_matrix((data, columns.ravel(), indptr), shape=rows.shape)
    found.eliminate_zeros()
    return found


def scaled(matrix: sparse.csr_matrix, user_power: float, item_power: float) -> sparse.csr_matrix:
    """Du^-user_power X Di^-item_power, with Du and Di the sums of the rows and columns of X.

    Example:
        >>> scaled(sparse.csr_matrix([[1.0, 3.0], [0.0, 1.0]]), 0.5, 0).toarray().tolist()
        [[0.5, 1.5], [0.0, 1.0]]
    """
    of_user, of_item = degree_power(matrix.T, -user_power), degree_power(matrix, -item_power)
    return sparse.csr_matrix(sparse.diags(of_user) @ matrix @ sparse.diags(of_item), dtype=np.float32)


def degree_power(matrix: sparse.csr_matrix, exponent: float) -> np.ndarray:
    """The sums of the columns to a power, 0 where the sum is 0, float32 of shape (n_columns,)."""
    degree = np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()
    return np.where(degree > 0, np.where(degree > 0, degree, 1) ** exponent, 0).astype(np.float32)
