"""The ranking measures against another library's answers, frozen by benchmarks/peers/golden_ranking.py."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from evaluation.ranking import evaluate

GOLDEN = json.loads((Path(__file__).parent / "golden" / "ranking.json").read_text())
N_USERS, N_ITEMS, K = len(GOLDEN["ranked"]), GOLDEN["n_items"], GOLDEN["k"]
TAKEN = np.array([len(items) for items in GOLDEN["held_out"]])

AS_RECTOOLS = {
    "recall": np.array(GOLDEN["recall"]),
    "ndcg": np.array(GOLDEN["ndcg"]),
    # RecTools divides by k or by all held-out items; we by the smaller of the two.
    "map": np.where(TAKEN > K, GOLDEN["map_divided_by_k"], GOLDEN["map"]),
    "mrr": np.array(GOLDEN["mrr"]),
    "hit_rate": np.array(GOLDEN["hit_rate"]),
    # We smooth by one user who has everything: RecTools was given one.
    "novelty": np.array(GOLDEN["novelty_beside_a_user_of_everything"]),
    # RecTools counts users; we tell their share, and the lift over the user's own history.
    "popularity": np.array(GOLDEN["mean_owners"]) / N_USERS,
    "popularity_lift": np.log2(
        (1 + np.array(GOLDEN["mean_owners"])) / (1 + np.array(GOLDEN["mean_owners_of_history"]))
    ),
    "diversity": np.array(GOLDEN["cosine_diversity"]),
}


def rows(lists):
    matrix = sparse.lil_matrix((N_USERS, N_ITEMS))
    for user, items in enumerate(lists):
        matrix[user, items] = 1
    return matrix.tocsr()


def measured(categories):
    ranked = np.full((N_USERS, K), -1)
    for user, items in enumerate(GOLDEN["ranked"]):
        ranked[user, : len(items)] = items
    return evaluate(ranked, rows(GOLDEN["held_out"]), rows(GOLDEN["train"]), categories=sparse.csr_matrix(categories))


@pytest.mark.parametrize("metric", AS_RECTOOLS)
def test_every_user_measures_as_rectools_says(metric):
    found = measured(GOLDEN["categories"]).values(metric)
    np.testing.assert_allclose(found, AS_RECTOOLS[metric], rtol=0, atol=1e-9)


def test_the_audience_measures_as_rectools_says():
    found = measured(np.eye(max(GOLDEN["one_category"]) + 1)[GOLDEN["one_category"]])
    assert found.coverage == pytest.approx(GOLDEN["coverage"], abs=1e-9)
    # With one category per item Hamming's distance of the one-hot rows is 2 where the categories differ.
    hamming = np.array(GOLDEN["hamming_diversity_of_one_category"])
    np.testing.assert_allclose(found.diversity, hamming / 2, rtol=0, atol=1e-9)
