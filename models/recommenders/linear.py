"""A linear model of every item from the others, in closed form."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import sparse

from data.errors import DataError
from data.interactions import Interactions
from data.progress import timed
from models.recommenders.item_operator import ItemOperator, blocks_of, degree_power, scaled

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux tells what a container may take (version 2)."""

TIMED = 2_000
"""Rows of the inverse that tells how fast this machine is."""
TRIES = 5
"""So often it is tried."""


class Linear(ItemOperator):
    """EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data", equations 5 to 8).

    B minimises |X - X B|^2 + lambda |B|^2 with a diagonal of zeros: with C = (X'X + lambda I)^-1, B_ij = -C_ij / C_jj.
    X is scaled by powers of what users and items sum to (Park et al. 2025, "Why is normalization necessary for linear
    recommenders?"), X -> Du^-user_power X Di^-item_power, and so W = Di^-item_power B Di^item_power. Powers of 0
    are EASE itself; a higher `item_power` favours what few people took less, a higher `user_power` lets those who took
    much say less.

    The inverse is dense, float32, of the smaller side: where there are fewer users than items it is that of
    X X' + lambda I (Woodbury identity), to the same result. Time grows with that side's cube, memory with its
    square (30,000: some minutes on one core and 8 GB). Only the `kept_per_item` strongest of each row of W are stored.

    Args:
        regularisation: lambda as a multiple of the mean of the diagonal of X'X, so that weights of any unit do.
        item_power: From 0 to 1.
        user_power: From 0 to 1.
        kept_per_item: How many items each item leads to; the more, the closer to the dense W.
        minutes: Learning that would surely take more than twice as long is not begun: it cannot be stopped halfway.

    Raises:
        DataError: on fitting, where memory or minutes do not suffice; or where rounding makes X'X + lambda I
            indefinite.

    Example:
        >>> import pandas as pd
        >>> taken = Interactions.from_frame(
        ...     pd.DataFrame({"user_id": list("aabbcd"), "item_id": ["x", "y", "x", "y", "z", "w"]})
        ... )
        >>> model = Linear().fit(taken)
        >>> history = sparse.csr_matrix(([1.0], ([0], [model.items.code("x")])), shape=(1, 4))
        >>> model.items.ids(model.recommend(history, 1).items[0])
        ['y']
    """

    name = "linear"

    def __init__(
        self,
        *,
        regularisation: float = 5.0,
        item_power: float = 0.0,
        user_power: float = 0.0,
        kept_per_item: int = 1000,
        minutes: float | None = None,
    ) -> None:
        self.regularisation = regularisation
        self.item_power = item_power
        self.user_power = user_power
        self.kept_per_item = kept_per_item
        self.minutes = minutes

    def _fit(self, interactions: Interactions) -> None:
        X = scaled(interactions.matrix, self.user_power, self.item_power)
        _check_memory(min(X.shape))
        if self.minutes is not None and min(X.shape) > TIMED:
            _check_time(min(X.shape), self.minutes)
        lambda_ = self.regularisation * X.power(2).sum() / X.shape[1]
        of_item = degree_power(interactions.matrix, self.item_power)
        self._keep(_rows_of_weights(X, lambda_, of_item), self.kept_per_item)


def _rows_of_weights(X: sparse.csr_matrix, lambda_: float, of_item: np.ndarray) -> Callable[[slice], np.ndarray]:
    """Gives blocks of rows of W = Di^-a B Di^a, Di^a being `of_item`."""
    rows_of_precision, C_jj = _precision(X, lambda_)
    with np.errstate(divide="ignore"):
        before = np.where(of_item > 0, 1 / of_item, 0).astype(np.float32)

    def rows_of_weights(block: slice) -> np.ndarray:
        W = before[block, None] * rows_of_precision(block) * (-of_item / C_jj)
        W[_diagonal(block)] = 0
        return np.ascontiguousarray(W, dtype=np.float32)

    return rows_of_weights


def _precision(X: sparse.csr_matrix, lambda_: float) -> tuple[Callable[[slice], np.ndarray], np.ndarray]:
    """Gives blocks of rows of C = (X'X + lambda I)^-1; and the diagonal of C."""
    n_users, n_items = X.shape
    Xt = X.T.tocsr()
    if n_users >= n_items:
        C = _regularised_inverse(Xt, lambda_)
        return C.__getitem__, C.diagonal()
    K = _regularised_inverse(X, lambda_)

    def rows_of_precision(block: slice) -> np.ndarray:  # Woodbury: C = (I - X' K X) / lambda
        XtKX = (Xt @ (Xt[block] @ K).T).T
        XtKX[_diagonal(block)] -= 1
        return XtKX / -lambda_

    XtKX_jj = np.concatenate([Xt[block].multiply(Xt[block] @ K).sum(axis=1) for block in blocks_of(n_items)])
    return rows_of_precision, (1 - np.asarray(XtKX_jj).ravel()) / lambda_


def _diagonal(block: slice) -> tuple[np.ndarray, np.ndarray]:
    """Where a block of rows meets the diagonal."""
    columns = np.arange(block.start, block.stop)
    return np.arange(len(columns)), columns


def _regularised_inverse(A: sparse.csr_matrix, lambda_: float) -> np.ndarray:
    """(A A' + lambda I)^-1, float32, row by row in memory; torch's LAPACK counts in 64 bits, SciPy's does not."""
    import torch  # noqa: PLC0415 - only fitting needs torch

    n = A.shape[0]
    gram = np.empty((n, n), dtype=np.float32)
    At = A.T.tocsr()
    for block in blocks_of(n):
        gram[block] = (A[block] @ At).toarray()
    gram[np.diag_indices(n)] += lambda_
    with timed(f"inverse of {n:,} x {n:,}"):
        factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(gram))
        del gram
        if failed:
            raise DataError("linear: in 32 bits the problem is not positive definite. Raise the regularisation.")
        # It is symmetric, and LAPACK's columns are rows for SciPy, which would else copy all of it for each product.
        return torch.cholesky_inverse(factor).T.numpy()


def _check_memory(n: int) -> None:
    needed = 2.2 * 4 * n**2  # the matrix and its inverse in 32 bits, and the blocks
    available = _available_bytes()
    if needed > available:
        raise DataError(
            f"linear: {n:,} users or items, whichever are fewer, need {needed / 1e9:.1f} GB of memory and "
            f"{available / 1e9:.1f} GB are free. Use graph or item_neighbours, or leave out rare items."
        )


def _check_time(n: int, minutes: float) -> None:
    import torch  # noqa: PLC0415 - as above

    def seconds() -> float:
        started = time.perf_counter()
        torch.cholesky_inverse(torch.linalg.cholesky_ex(torch.eye(TIMED))[0])
        return time.perf_counter() - started

    quickest = min(seconds() for _ in range(TRIES))  # the first also starts threads, and others may take the machine
    needed = quickest * (n / TIMED) ** 3 / 60
    if needed > 2 * minutes:
        raise DataError(
            f"linear: {n:,} users or items, whichever are fewer, need about {needed:.1f} minutes here, and there are "
            f"{minutes:.1f}. Give more, use graph or item_neighbours, or leave out rare items."
        )


def _available_bytes() -> float:
    """Memory that can be had without swapping, within the container's limit; endless where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = float("inf")
    return min(free, _left_in_container())


def _left_in_container() -> float:
    """Of the control group's limit what is neither used nor the files' cache; endless where there is none."""
    try:
        limit, used = (int((CONTROL_GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        told = dict(line.split() for line in (CONTROL_GROUP / "memory.stat").read_text().splitlines())
        return float(limit - used + int(told["inactive_file"]))
    except (OSError, ValueError, KeyError):  # a limit of "max" is none
        return float("inf")
