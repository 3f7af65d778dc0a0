"""How good ranked items are: one value per user, so that two models are compared on the same people.

The whole catalogue is ranked, never a sample of it (Krichene and Rendle 2020). For a user with held-out items T and
a ranking r_1 ... r_k, with hit_i = [r_i in T]:

- `recall`: sum_i hit_i / |T|, divided by all held-out items, also where |T| > k;
- `hit_rate`: [sum_i hit_i > 0];
- `ndcg`: sum_i hit_i / log2(i + 1), divided by its best value, sum_{i <= min(k, |T|)} 1 / log2(i + 1);
- `map`: sum_i hit_i precision@i / min(k, |T|);
- `mrr`: 1 / rank of the first hit, 0 without one;
- `recall_of_cold_items`: recall of those items of T that nobody had before, divided by all of those.

Beyond accuracy, for a user whose ranking shows the items R, with n_i the users who had item i, of N users:

- `novelty`: mean over R of -log2((n_i + 1) / (N + 1)), in bits (Zhou et al. 2010, self-information, smoothed for
  items that nobody had);
- `popularity`: mean over R of n_i / N, the average recommendation popularity (Yin et al. 2012, "Challenging the long
  tail recommendation"), as a share of the users;
- `popularity_lift`: log2 of (mean n_i over R + 1) / (mean n_i over the user's own history + 1): 0 where what is shown
  is as popular as what the user takes, 1 where twice (after Abdollahpouri et al. 2020, "The connection between
  popularity bias, calibration ...", per user and in doublings, so that a few odd users do not carry the mean);
- `diversity`: mean over the pairs of R of 1 - cosine of their categories: with one category each, the share of pairs
  of different categories (intra-list similarity of Ziegler et al. 2005, as a distance);
- `miscalibration`: how far the categories shown are from those of the user's history, in nats: sum_c p(c) log(p(c) /
  q~(c)), q~ = .99 q + .01 p, with p the weighted mean over the history, q the mean over R, of each item's categories
  in equal parts (Steck 2018, "Calibrated recommendations", section 3); 0 is calibrated, 4.6 the worst.

Of the whole audience:

- `coverage`: the share of the catalogue that somebody is shown;
- `exposure_gini`: how unequally the catalogue's items share the places: 0 all alike, towards 1 a few have them all.

A padded place (-1) is a miss. Users without held-out items have NaN in what is measured against T, and users without
what a measure needs (a history, two items with categories) have NaN in it; NaN is left out of every mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import sparse

from data.errors import DataError
from evaluation.intervals import Interval, mean, paired_difference

Metric = Literal[
    "recall",
    "ndcg",
    "map",
    "mrr",
    "hit_rate",
    "recall_of_cold_items",
    "novelty",
    "popularity",
    "popularity_lift",
    "diversity",
    "miscalibration",
]
METRICS: tuple[Metric, ...] = get_args(Metric)
Who = Literal["all", "warm", "cold"]
SMOOTHING = 0.01
"""Steck's alpha: keeps the divergence finite where a category of the history is not shown at all."""


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
        recall_of_cold_items: In [0, 1].
        novelty: In bits.
        popularity: In [0, 1].
        popularity_lift: In doublings.
        diversity: In [0, 1]; all NaN where no categories were given.
        miscalibration: In nats, lower is better; all NaN where no categories were given.
        cold_user: bool; the user had no item before.
        coverage: One number, in [0, 1].
        exposure_gini: One number, in [0, 1); lower is more equal.
        users: Whom each row is of, where a user may have several; None where every row is another user's.
    """

    k: int
    recall: np.ndarray
    ndcg: np.ndarray
    map: np.ndarray
    mrr: np.ndarray
    hit_rate: np.ndarray
    recall_of_cold_items: np.ndarray
    novelty: np.ndarray
    popularity: np.ndarray
    popularity_lift: np.ndarray
    diversity: np.ndarray
    miscalibration: np.ndarray
    cold_user: np.ndarray
    coverage: float
    exposure_gini: float
    users: np.ndarray | None = None

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
        return mean(self.values(metric, who), groups=self.users, level=level, resamples=resamples, seed=seed)


def evaluate(
    ranked: np.ndarray,
    held_out: sparse.csr_matrix,
    train: sparse.csr_matrix,
    *,
    everybody: sparse.csr_matrix | None = None,
    categories: sparse.csr_matrix | None = None,
) -> RankingQuality:
    """Measure rankings against what the users took afterwards.

    Args:
        ranked: Item codes, best first, int (n_users, k); -1 where there was nothing more to rank.
        held_out: What each user took afterwards, positive where taken, shape (n_users, n_items).
        train: What each user had before, as weights, the same shape.
        everybody: What all users had before, shape (n_all_users, n_items), where the judged users are only some of
            them: it tells which items are popular, and which nobody had. By default `train`.
        categories: Positive where an item is of a category, shape (n_items, n_categories).

    Raises:
        DataError: the shapes do not fit, or an item is ranked twice for a user.

    Example:
        >>> held_out = sparse.csr_matrix([[0, 1, 0, 1]])
        >>> found = evaluate(np.array([[3, 0]]), held_out, sparse.csr_matrix([[0, 0, 1, 0]]))
        >>> found.recall[0], found.mrr[0], found.coverage
        (np.float64(0.5), np.float64(1.0), 0.5)
    """
    n_users, n_items = held_out.shape
    everybody = train if everybody is None else everybody
    _check(ranked, held_out, train, everybody, categories)
    k = ranked.shape[1]
    shown, hits = ranked >= 0, _contains(held_out, ranked)
    n_taken = _n_positive(held_out)
    asked = np.where(n_taken > 0, 1.0, np.nan)
    discount = 1 / np.log2(np.arange(2, k + 2))
    best = np.minimum(k, np.maximum(n_taken, 1))
    precision = np.cumsum(hits, axis=1) / np.arange(1, k + 1)

    owners = np.bincount(everybody.indices[everybody.data > 0], minlength=n_items)
    bits = -np.log2((owners + 1) / (everybody.shape[0] + 1))
    cold_items = sparse.csr_matrix(held_out > 0).multiply(owners == 0).tocsr()
    lists = sparse.csr_matrix((np.ones(shown.sum()), (np.nonzero(shown)[0], ranked[shown])), shape=(n_users, n_items))
    had = sparse.csr_matrix(train > 0, dtype=np.float64)
    nothing = np.full(n_users, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN: not measured
        recall_of_cold_items = _contains(cold_items, ranked).sum(axis=1) / _n_positive(cold_items)
        novelty, mean_owners = lists @ bits / shown.sum(axis=1), lists @ owners / shown.sum(axis=1)
        own_mean_owners = had @ owners / _n_positive(train)

    return RankingQuality(
        k=k,
        recall=asked * hits.sum(axis=1) / np.maximum(n_taken, 1),
        ndcg=asked * (hits @ discount) / np.cumsum(discount)[best - 1],
        map=asked * (hits * precision).sum(axis=1) / best,
        mrr=asked * hits.any(axis=1) / (hits.argmax(axis=1) + 1),
        hit_rate=asked * hits.any(axis=1),
        recall_of_cold_items=recall_of_cold_items,
        novelty=novelty,
        popularity=mean_owners / everybody.shape[0],
        popularity_lift=np.log2((mean_owners + 1) / (own_mean_owners + 1)),
        diversity=nothing if categories is None else _diversity(lists, categories),
        miscalibration=nothing if categories is None else _miscalibration(train, lists, categories),
        cold_user=_n_positive(train) == 0,
        coverage=len(np.unique(ranked[shown])) / n_items,
        exposure_gini=_gini(np.bincount(ranked[shown], minlength=n_items)),
    )


def pooled(qualities: Sequence[RankingQuality], users: Sequence[np.ndarray]) -> RankingQuality:
    """Several moments as one: a row per user and moment, the audience's coverage and exposure as their means.

    What a user likes at one moment they like at the next, so rows of one user are no independent evidence: intervals
    draw users with all their rows (the pairs cluster bootstrap of Cameron, Gelbach and Miller 2008, "Bootstrap-based
    improvements for inference with clustered errors").

    Args:
        qualities: Of the same k, one for each moment.
        users: Ids for each, of its shape (n_users,), alike at all moments.

    Raises:
        DataError: other ks, or ids of another shape.

    Example:
        >>> held_out = sparse.csr_matrix([[0, 1], [1, 0]] * 3)
        >>> one = evaluate(np.array([[1]] * 6), held_out, sparse.csr_matrix((6, 2)))
        >>> twice = pooled([one, one], [np.array(list("abcdef"))] * 2)
        >>> len(twice.recall), twice.interval("recall") == one.interval("recall")
        (12, True)
    """
    ks = {one.k for one in qualities}
    shapes = [(one.cold_user.shape, whom.shape) for one, whom in zip(qualities, users, strict=True)]
    if len(ks) != 1 or any(measured != named for measured, named in shapes):
        raise DataError(f"rankings of length {sorted(ks)} with (rows, ids) of shapes {shapes} cannot be pooled.")
    rows = {name: np.concatenate([getattr(one, name) for one in qualities]) for name in (*METRICS, "cold_user")}
    return RankingQuality(
        k=ks.pop(),
        **rows,
        coverage=float(np.mean([one.coverage for one in qualities])),
        exposure_gini=float(np.mean([one.exposure_gini for one in qualities])),
        users=np.concatenate(users),
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
    if not np.array_equal(np.asarray(first.users), np.asarray(second.users)):
        raise DataError("the two are not of the same users, row by row; measure both on the same.")
    return paired_difference(
        first.values(metric, who),
        second.values(metric, who),
        groups=first.users,
        level=level,
        resamples=resamples,
        seed=seed,
    )


def _check(
    ranked: np.ndarray,
    held_out: sparse.csr_matrix,
    train: sparse.csr_matrix,
    everybody: sparse.csr_matrix,
    categories: sparse.csr_matrix | None,
) -> None:
    n_users, n_items = held_out.shape
    if train.shape != held_out.shape or ranked.ndim != 2 or ranked.shape[0] != n_users:
        raise DataError(
            f"ranked {ranked.shape}, held_out {held_out.shape} and train {train.shape} are not of the same users."
        )
    if everybody.shape[1] != n_items or (categories is not None and categories.shape[0] != n_items):
        raise DataError(f"everybody and categories are not of the {n_items} items of held_out, in the same order.")
    in_order = np.sort(np.where(ranked >= 0, ranked, -1 - np.arange(ranked.shape[1])), axis=1)
    if (in_order[:, 1:] == in_order[:, :-1]).any() or (ranked >= n_items).any():
        raise DataError(f"a ranking holds an item twice or a code beyond {n_items - 1}.")


def _contains(matrix: sparse.csr_matrix, ranked: np.ndarray) -> np.ndarray:
    """Whether each ranked item is (positive) in its user's row, bool of the shape of `ranked`."""
    n_users, n_items = matrix.shape
    cells = matrix.tocoo()
    taken = cells.row[cells.data > 0].astype(np.int64) * n_items + cells.col[cells.data > 0]
    asked = np.arange(n_users, dtype=np.int64)[:, None] * n_items + ranked
    return np.isin(asked, taken) & (ranked >= 0)


def _n_positive(matrix: sparse.csr_matrix) -> np.ndarray:
    """How many cells of each row are positive."""
    return np.bincount(matrix.tocoo().row[matrix.data > 0], minlength=matrix.shape[0])


def _diversity(lists: sparse.csr_matrix, categories: sparse.csr_matrix) -> np.ndarray:
    """1 - mean cosine over the pairs of each list: sum_{i != j} v_i' v_j = |sum_i v_i|^2 - n for n unit vectors v."""
    member = sparse.csr_matrix(categories > 0, dtype=np.float64)
    unit = _scaled(member, np.sqrt(member.sum(axis=1)))
    n = lists @ (_n_positive(member) > 0)
    squared = (lists @ unit).power(2).sum(axis=1).A1
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = np.where(n > 1, 1 - (squared - n) / (n * (n - 1)), np.nan)
    return found


def _miscalibration(train: sparse.csr_matrix, lists: sparse.csr_matrix, categories: sparse.csr_matrix) -> np.ndarray:
    """The divergence of each list's categories from those of the user's history (Steck 2018)."""
    member = sparse.csr_matrix(categories > 0, dtype=np.float64)
    share = _scaled(member, member.sum(axis=1))
    p, q = ((rows.maximum(0) @ share).tocsr() for rows in (train, lists))
    p, q = _scaled(p, p.sum(axis=1)), _scaled(q, q.sum(axis=1))
    cells = p.tocoo()
    cells_of_q = q[cells.row, cells.col].A1 if cells.nnz else np.zeros(0)
    smoothed = (1 - SMOOTHING) * cells_of_q + SMOOTHING * cells.data
    divergence = np.bincount(cells.row, cells.data * np.log(cells.data / smoothed), minlength=len(lists.indptr) - 1)
    return np.where((_n_positive(p) > 0) & (_n_positive(q) > 0), divergence, np.nan)


def _scaled(matrix: sparse.csr_matrix, divisor: np.ndarray) -> sparse.csr_matrix:
    """Each row divided by its divisor; rows with 0 stay empty."""
    divisor = np.asarray(divisor).ravel()
    scaled: sparse.csr_matrix = (
        sparse.diags(np.divide(1, divisor, out=np.zeros(len(divisor)), where=divisor > 0)) @ matrix
    )
    return scaled


def _gini(counts: np.ndarray) -> float:
    """Gini's mean difference over twice the mean, from the sorted counts; NaN where nothing was shown."""
    n, total = len(counts), counts.sum()
    ranks = np.arange(1, n + 1)
    return float((2 * ranks - n - 1) @ np.sort(counts) / (n * total)) if total else np.nan
