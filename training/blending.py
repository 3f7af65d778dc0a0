"""Which fitted models to blend, with what weights: greedy forward selection on the rows that models are chosen on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.recommenders import Recommender
from models.recommenders.base import BLOCK_CELLS, top_k
from models.recommenders.composite import standardised
from training.judging import JudgedRows

SHARES = (0.1, 0.2, 0.3, 0.5)
"""What a further member may get of the whole: coarse, so that there is little to overfit with."""
MAX_MEMBERS = 4
MIN_POOL = 100
"""Items of each model, the best ones, among which blends are compared; the blend chosen is judged on all items."""


def blend_weights(
    rows: Sequence[JudgedRows], models: Sequence[Sequence[Recommender]], *, first: int, exclude_seen: bool, k: int
) -> np.ndarray:
    """Weights that sum to 1, float of shape (n_models,); 0 for models that add nothing to the NDCG at k.

    Greedy forward selection (Caruana et al. 2004, "Ensemble selection from libraries of models"): from the best
    model on, the member and share that gain most are mixed in, until none gains.

    Args:
        rows: To choose on.
        models: For each model, as it was fitted on the known part of each of `rows`.
        first: The best of them alone.
        exclude_seen: Whether what somebody had before is left out.
        k: Length of the rankings.
    """
    pools = [
        _pool(part, [fitted[number] for fitted in models], exclude_seen=exclude_seen, depth=max(MIN_POOL, 5 * k))
        for number, part in enumerate(rows)
    ]
    weights = np.zeros(len(models))
    weights[first] = 1
    best = _score(pools, weights, k)
    while np.count_nonzero(weights) < MAX_MEMBERS:
        tried = []
        for further in np.flatnonzero(weights == 0):
            for share in SHARES:
                mixed = weights * (1 - share)
                mixed[further] = share
                tried.append((_score(pools, mixed, k), mixed))
        if not tried or max(score for score, _ in tried) <= best:
            break
        best, weights = max(tried, key=lambda found: found[0])
    return weights.round(4)


@dataclass(frozen=True, eq=False)
class _Pool:
    """Some rows' most likely items, with what each model says of them.

    Attributes:
        rows: Whom it is about.
        items: Codes in `rows.known.items`, (n, c), -1 at the end of a row.
        scores: Standardised over the whole catalogue, (n_models, n, c).
        said: Where a model says anything, (n_models, n, c).
    """

    rows: JudgedRows
    items: np.ndarray
    scores: np.ndarray
    said: np.ndarray


def _pool(rows: JudgedRows, models: Sequence[Recommender], *, exclude_seen: bool, depth: int) -> _Pool:
    blocks = []
    for start in range(0, len(rows.histories), max(1, BLOCK_CELLS // rows.histories.n_items)):
        histories = rows.histories[start : start + max(1, BLOCK_CELLS // rows.histories.n_items)]
        scores = [model.scores(histories) for model in models]
        z = [standardised(score) for score in scores]
        said = [np.isfinite(score) for score in scores]
        if exclude_seen:
            for score in scores:
                score[histories.row, histories.item] = -np.inf
        best = np.sort(np.hstack([top_k(score, depth).items for score in scores]), axis=1)
        best[:, 1:][best[:, 1:] == best[:, :-1]] = -1
        best = np.sort(best, axis=1)[:, ::-1]
        blocks.append((best, *(np.stack([np.take_along_axis(one, best, axis=1) for one in of]) for of in (z, said))))
    items, scores_of, said_of = zip(*blocks, strict=True)
    return _Pool(rows, np.vstack(items), np.concatenate(scores_of, axis=1), np.concatenate(said_of, axis=1))


def _score(pools: Sequence[_Pool], weights: np.ndarray, k: int) -> float:
    """Mean NDCG at k over the known people of all rows."""
    return float(np.nanmean(np.concatenate([_ndcg(pool, weights, k) for pool in pools])))


def _ndcg(pool: _Pool, weights: np.ndarray, k: int) -> np.ndarray:
    members = np.flatnonzero(weights)
    total = np.tensordot(weights[members].astype(np.float32), pool.scores[members], axes=1)
    total[(pool.items < 0) | ~pool.said[members].any(axis=0)] = -np.inf
    place = top_k(total, k).items
    ranked = np.where(place >= 0, np.take_along_axis(pool.items, place, axis=1), -1)
    return pool.rows.measured(ranked, pool.rows.known.items).values("ndcg", "warm")
