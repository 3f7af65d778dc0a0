"""Ranking measures as RecTools computes them on random cases, frozen for `tests/evaluation/test_golden.py`.

Made once by `.venv-peers/bin/python benchmarks/peers/golden_ranking.py > tests/evaluation/golden/ranking.json`.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
from rectools import Columns, __version__
from rectools.metrics import MAP, MRR, NDCG, HitRate, Recall

N_USERS, N_ITEMS, K = 60, 40, 10


def main() -> None:
    """Print the cases and RecTools' answer for each user as JSON."""
    rng = np.random.default_rng(7)
    ranked = [rng.permutation(N_ITEMS)[: rng.integers(1, K + 1)].tolist() for _ in range(N_USERS)]
    held_out = [sorted(rng.choice(N_ITEMS, size=rng.integers(1, K + 1), replace=False).tolist()) for _ in ranked]
    shown = _frame(ranked)
    shown[Columns.Rank] = shown.groupby(Columns.User).cumcount() + 1
    taken = _frame(held_out)
    metrics = {
        "recall": Recall(K),
        "ndcg": NDCG(K, divide_by_achievable=True),
        "map": MAP(K),
        "mrr": MRR(K),
        "hit_rate": HitRate(K),
    }
    answers = {name: metric.calc_per_user(shown, taken).sort_index().tolist() for name, metric in metrics.items()}
    json.dump(
        {"made_by": f"rectools {__version__}", "n_items": N_ITEMS, "k": K, "ranked": ranked, "held_out": held_out}
        | answers,
        sys.stdout,
    )


def _frame(items_of_users: list[list[int]]) -> pd.DataFrame:
    return pd.DataFrame(
        [(user, item) for user, items in enumerate(items_of_users) for item in items],
        columns=[Columns.User, Columns.Item],
    )


if __name__ == "__main__":
    main()
