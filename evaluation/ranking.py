"""How good ranked items are: one value per user, so that two models are compared on the same people.

The whole catalogue is ranked, never a sample of it (Krichene and Rendle 2020). For a user with held-out items T and
a ranking r_1 ... r_k, with hit_i = [r_i in T]:

- `recall`: sum_i hit_i / |T|, divided by all held-out items, also where |T| > k;
- `hit_rate`: [sum_i hit_i > 0];
- `ndcg`: sum_i hit_i / log2(i + 1), divided by its best value, sum_{i <= min(k, |T|)} 1 / log2(i + 1);
- `map`: sum_i hit_i precision@i / min(k, |T|);
- `mrr`: 1 / rank of the first hit, 0 without one;
- `novelty`: mean over the ranked items of -log2((users who had it + 1) / (users + 1)), in bits
  (Zhou et al. 2010, self-information, smoothed for items that nobody had);
- `coverage`: the share of the catalogue that somebody is shown.

A padded place (-1) is a miss. Users without held-out items have NaN and are left out of every mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import sparse

from data.errors import DataError
from evaluation.intervals import Interval, mean, paired_difference

Metric = Literal["recall", "ndcg", "map", "mrr", "hit_rate", "novelty", "recall_of_cold_items"]
METRICS: tuple[Metric, ...] = get_args(Metric)
Who = Literal["all", "warm", "cold"]


@dataclass(frozen=True, eq=False)
class RankingQuality:
    """What `evaluate` measured. Arrays are of shape (n_users,), NaN for users without the thing measured.

    Attributes:
        k: Length of the rankings.
        recall: See the module, as for all that follow.
        ndcg: In [0, 1].
        map: In [0, 1].
        mrr: In [0, 1].
        hit_rate: 0 or 1.
        novelty: In bits; NaN for users who were shown nothing.
        recall_of_cold_items: Recall of the held-out items that nobody had before.
        cold_user: bool; the user had no item before.
        coverage: One number.
    """

    k: int
    recall: np.ndarray
    ndcg: np.ndarray
    map: np.ndarray
    mrr: np.ndarray
    hit_rate: np.ndarray
    novelty: np.ndarray
    recall_of_cold_items: np.ndarray
    cold_user: np.ndarray
    coverage: float

    def values(self, metric: Metric, who: Who = "all") -> np.ndarray:
        """The metric of every user, NaN for those who are not asked about.

        Raises:
            DataError: no such metric.
        """
        if metric not in METRICS:
            raise DataError(f"{metric!r} is not measured per user; choose from {', '.join(METRICS)}.")
        values: np.ndarray = getattr(self, metric)
        asked = {"all": np.full_like(self.cold_user, True), "warm": ~self.cold_user, "cold": self.cold_user}[who]
        return np.where(asked, values, np.nan)

    def interval(
        self, metric: Metric, who: Who = "all", *, level: float = 0.95, resamples: int = 1000, seed: int = 0
    ) -> Interval:
        """Mean over users with its bootstrap interval."""
        return mean(self.values(metric, who), level=level, resamples=resamples, seed=seed)


def evaluate(ranked: np.ndarray, held_out: sparse.csr_matrix, train: sparse.csr_matrix) -> RankingQuality:
    """Measure rankings against what the users took afterwards.

    Args:
        ranked: Item codes, best first, int (n_users, k); -1 where there was nothing more to rank.
        held_out: What each user took afterwards, positive where taken, shape (n_users, n_items).
        train: What each user had before, the same shape.

    Raises:
        DataError: the shapes do not fit, or an item is ranked twice for a user.

    Example:
        >>> held_out = sparse.csr_matrix([[0, 1, 0, 1]])
        >>> found = evaluate(np.array([[3, 0]]), held_out, sparse.csr_matrix([[0, 0, 1, 0]]))
        >>> found.recall[0], found.mrr[0], found.coverage
        (np.float64(0.5), np.float64(1.0), 0.5)
    """
    n_users, n_items = held_out.shape
    if train.shape != held_out.shape or ranked.ndim != 2 or ranked.shape[0] != n_users:
        raise DataError(
            f"ranked {ranked.shape}, held_out {held_out.shape} and train {train.shape} are not of the same users."
        )
    k = ranked.shape[1]
    shown = ranked >= 0
    in_order = np.sort(np.where(shown, ranked, -1 - np.arange(k)), axis=1)
    if (in_order[:, 1:] == in_order[:, :-1]).any() or (ranked >= n_items).any():
        raise DataError(f"a ranking holds an item twice or a code beyond {n_items - 1}.")

    hits = _contains(held_out, ranked)
    taken = np.bincount(held_out.tocoo().row[held_out.data > 0], minlength=n_users)
    asked = np.where(taken > 0, 1.0, np.nan)
    discount = 1 / np.log2(np.arange(2, k + 2))
    best = np.minimum(k, np.maximum(taken, 1))
    precision = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    first = hits.argmax(axis=1)

    owners = np.bincount(train.indices[train.data > 0], minlength=n_items)
    bits = -np.log2((owners + 1) / (n_users + 1))
    n_shown = shown.sum(axis=1)
    with np.errstate(invalid="ignore"):
        novelty = (bits[ranked] * shown).sum(axis=1) / n_shown

    cold_items = sparse.csr_matrix(held_out > 0).multiply(owners == 0).tocsr()
    cold_items.eliminate_zeros()
    n_cold = np.diff(cold_items.indptr)
    with np.errstate(invalid="ignore"):
        recall_of_cold_items = _contains(cold_items, ranked).sum(axis=1) / n_cold

    return RankingQuality(
        k=k,
        recall=asked * hits.sum(axis=1) / np.maximum(taken, 1),
        ndcg=asked * (hits @ discount) / np.cumsum(discount)[best - 1],
        map=asked * (hits * precision).sum(axis=1) / best,
        mrr=asked * hits.any(axis=1) / (first + 1),
        hit_rate=asked * hits.any(axis=1),
        novelty=novelty,
        recall_of_cold_items=recall_of_cold_items,
        cold_user=np.bincount(train.tocoo().row[train.data > 0], minlength=n_users) == 0,
        coverage=len(np.unique(ranked[shown])) / n_items,
    )


def compare(
    first: RankingQuality,
    second: RankingQuality,
    metric: Metric,
    who: Who = "all",
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Mean of `first - second` on the same users, paired.

    Raises:
        DataError: the two were not measured on the same users.
    """
    return paired_difference(
        first.values(metric, who), second.values(metric, who), level=level, resamples=resamples, seed=seed
    )


def _contains(matrix: sparse.csr_matrix, ranked: np.ndarray) -> np.ndarray:
    """Whether each ranked item is (positive) in its user's row, bool of the shape of `ranked`."""
    n_users, n_items = matrix.shape
    cells = matrix.tocoo()
    taken = cells.row[cells.data > 0].astype(np.int64) * n_items + cells.col[cells.data > 0]
    asked = np.arange(n_users, dtype=np.int64)[:, None] * n_items + ranked
    return np.isin(asked, taken) & (ranked >= 0)
