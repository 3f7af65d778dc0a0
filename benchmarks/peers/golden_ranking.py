"""Ranking measures as RecTools computes them on random cases, frozen for `tests/evaluation/test_golden.py`.

Made once by `.venv-peers/bin/python benchmarks/peers/golden_ranking.py > tests/evaluation/golden/ranking.json`.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
from rectools import Columns, __version__
from rectools.metrics import (
    MAP,
    MRR,
    NDCG,
    AvgRecPopularity,
    CatalogCoverage,
    HitRate,
    IntraListDiversity,
    MeanInvUserFreq,
    PairwiseHammingDistanceCalculator,
    Recall,
)
from rectools.metrics.distances import PairwiseDistanceCalculator

N_USERS, N_ITEMS, N_CATEGORIES, K = 60, 40, 6, 10


class CosineDistance(PairwiseDistanceCalculator):
    """1 - cosine of two rows of a matrix; RecTools brings the Hamming distance alone."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _get_distances_for_item_pairs(self, items_0: np.ndarray, items_1: np.ndarray) -> np.ndarray:
        first, second = (self.vectors[np.asarray(items, dtype=int)] for items in (items_0, items_1))
        return 1 - (first * second).sum(axis=1)


def main() -> None:
    """Print the cases and RecTools' answer for each user as JSON."""
    rng = np.random.default_rng(7)
    ranked = _random_lists(rng, 2, K)
    held_out = _random_lists(rng, 1, 2 * K)  # some users have more than K
    train = _random_lists(rng, 1, 15)
    one_category = rng.integers(0, N_CATEGORIES, N_ITEMS)
    categories = (rng.random((N_ITEMS, N_CATEGORIES)) < 0.3) | np.eye(N_CATEGORIES, dtype=bool)[one_category]
    shown, taken, had = _frame(ranked), _frame(held_out), _frame(train)
    shown[Columns.Rank] = shown.groupby(Columns.User).cumcount() + 1
    one_hot = pd.DataFrame(np.eye(N_CATEGORIES)[one_category])
    everything = pd.DataFrame({Columns.User: N_USERS, Columns.Item: range(N_ITEMS)})
    per_user = {
        "recall": Recall(K).calc_per_user(shown, taken),
        "ndcg": NDCG(K, divide_by_achievable=True).calc_per_user(shown, taken),
        "map": MAP(K).calc_per_user(shown, taken),
        "map_divided_by_k": MAP(K, divide_by_k=True).calc_per_user(shown, taken),
        "mrr": MRR(K).calc_per_user(shown, taken),
        "hit_rate": HitRate(K).calc_per_user(shown, taken),
        "novelty_beside_a_user_of_everything": MeanInvUserFreq(K).calc_per_user(shown, pd.concat([had, everything])),
        "mean_owners": AvgRecPopularity(K).calc_per_user(shown, had),
        "mean_owners_of_history": AvgRecPopularity(N_ITEMS).calc_per_user(had.assign(**{Columns.Rank: 1}), had),
        "hamming_diversity_of_one_category": IntraListDiversity(
            K, distance_calculator=PairwiseHammingDistanceCalculator(one_hot)
        ).calc_per_user(shown),
        "cosine_diversity": IntraListDiversity(
            K, distance_calculator=CosineDistance(categories.astype(float))
        ).calc_per_user(shown),
    }
    cases = {"n_items": N_ITEMS, "k": K, "ranked": ranked, "held_out": held_out, "train": train}
    cases |= {"one_category": one_category.tolist(), "categories": categories.astype(int).tolist()}
    answers = {name: values.sort_index().tolist() for name, values in per_user.items()}
    answers["coverage"] = CatalogCoverage(K, normalize=True).calc(shown, range(N_ITEMS))
    json.dump({"made_by": f"rectools {__version__}"} | cases | answers, sys.stdout)


def _random_lists(rng: np.random.Generator, shortest: int, longest: int) -> list[list[int]]:
    return [rng.permutation(N_ITEMS)[: rng.integers(shortest, longest + 1)].tolist() for _ in range(N_USERS)]


def _frame(items_of_users: list[list[int]]) -> pd.DataFrame:
    return pd.DataFrame(
        [(user, item) for user, items in enumerate(items_of_users) for item in items],
        columns=[Columns.User, Columns.Item],
    )


if __name__ == "__main__":
    main()
