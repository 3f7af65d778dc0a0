"""The ranking measures against another library's answers, frozen by benchmarks/peers/golden_ranking.py."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from evaluation.ranking import evaluate

GOLDEN = json.loads((Path(__file__).parent / "golden" / "ranking.json").read_text())


@pytest.mark.parametrize("metric", ["recall", "ndcg", "map", "mrr", "hit_rate"])
def test_every_user_measures_as_rectools_says(metric: str) -> None:
    # No user has more than k held-out items: there the two define MAP alike (RecTools divides by all of them).
    n_users, n_items, k = len(GOLDEN["ranked"]), GOLDEN["n_items"], GOLDEN["k"]
    ranked = np.full((n_users, k), -1)
    for user, items in enumerate(GOLDEN["ranked"]):
        ranked[user, : len(items)] = items
    held_out = sparse.lil_matrix((n_users, n_items))
    for user, items in enumerate(GOLDEN["held_out"]):
        held_out[user, items] = 1
    found = evaluate(ranked, held_out.tocsr(), sparse.csr_matrix((n_users, n_items)))
    np.testing.assert_allclose(getattr(found, metric), GOLDEN[metric], rtol=0, atol=1e-9)
