"""What each of the first recommenders promises of its own, beside the contract; and what holds for all together."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from recommender_contract import PersonalRecommenderContract, RecommenderContract, history
from scipy import sparse

from data.errors import DataError, ModelFileError
from data.histories import Histories
from data.interactions import Attributes, Interactions
from data.vocabulary import Vocabulary
from models.recommenders import MODELS, load
from models.recommenders.als import ALS
from models.recommenders.base import top_k
from models.recommenders.item_neighbours import ItemNeighbours
from models.recommenders.popularity import Popularity


class TestPopularity(RecommenderContract):
    recall_on_movielens = (0.15, 0.25)

    def make(self):
        return Popularity()

    def test_old_success_fades_and_leaves_the_window(self):
        day = 86_400
        taken = Interactions.from_frame(
            pd.DataFrame(
                {
                    "user_id": ["a", "b", "c", "d", "e"],
                    "item_id": ["old", "old", "old", "new", "fading"],
                    "at": [0, 0, 0, 100 * day, 90 * day],
                }
            )
        )
        model = Popularity(window_days=30, half_life_days=10).fit(taken)
        best = model.recommend(sparse.csr_matrix((1, 3)), 3)
        assert model.items.ids(best.items[0]) == ["new", "fading", "old"]
        assert best.scores[0, 0] == pytest.approx(2 * best.scores[0, 1], rel=0.01)

    def test_it_is_what_many_took_and_not_what_one_took_often(self):
        taken = pd.DataFrame(
            {
                "user_id": ["bot"] * 9 + ["a", "b"],
                "item_id": ["x"] * 8 + ["y"] * 3,
                "weight": [1.0] * 7 + [5.0] + [5.0] * 3,
                "at": range(11),
            }
        )
        model = Popularity().fit(Interactions.from_frame(taken))
        best = model.recommend(sparse.csr_matrix((1, 2)), 2)
        assert model.items.ids(best.items[0]) == ["y", "x"]
        assert best.scores[0, 0] == pytest.approx(3 * best.scores[0, 1], rel=0.01)

    def test_groups_of_users_and_of_items_have_their_own_favourites(self):
        frame = pd.DataFrame(
            {
                "user_id": [f"{user}{n}" for n in range(200) for user in "abcdef"],
                "item_id": ["tea", "tea", "tea", "tea", "hat", "cap"] * 200,
            }
        )
        taken = Interactions.from_frame(frame)
        kinds = sparse.csr_matrix(np.float32([[0, 1, 0], [0, 1, 0], [1, 0, 1]]))  # cap, hat, tea
        described = replace(taken, attributes=Attributes(("brand=x", "category=clothes", "category=kitchen"), kinds))
        model = Popularity().fit(described, user_groups=[{"e": "loyal"}.get(id_[0]) for id_ in taken.users.all_ids])
        assert model.groups == ["loyal", "category=clothes", "category=kitchen"]
        named = Popularity().fit(taken, item_groups=["category=clothes", "category=clothes", "category=kitchen"])
        assert named.groups == model.groups[1:]
        nobody = sparse.csr_matrix((4, 3))
        first = model.recommend(nobody, 1, groups=[None, "loyal", "category=clothes", "unheard of"]).items[:, 0]
        assert model.items.ids(first) == ["tea", "hat", "cap", "tea"]

    def test_several_segments_are_pooled_by_their_geometric_mean_and_a_category_multiplies(self, random_shop):
        segments = [("even",) * (code % 2 == 0) + ("third",) * (code % 3 == 0) for code in range(300)]
        categories = [f"category={code % 4}" for code in range(60)]
        model = Popularity().fit(random_shop, user_groups=segments, item_groups=categories)
        nobody = sparse.csr_matrix((1, 60))

        def shares(*names):
            return model._score(Histories.from_matrix(nobody), [names or None])[0].astype(float)

        everybody, even, third, kind = shares(), shares("even"), shares("third"), shares("category=1")
        for names, expected in (
            (("even", "third"), np.sqrt(even * third)),
            (("even", "unheard of", "even"), even),
            (("third", "category=1"), third * kind / everybody),
        ):
            assert_allclose(shares(*names), expected / expected.sum(), rtol=1e-5)
        alone = Popularity().fit(random_shop, user_groups=["even" if code % 2 == 0 else None for code in range(300)])
        assert_allclose(shares("even"), alone._score(Histories.from_matrix(nobody), ["even"])[0], rtol=1e-6)

    def test_a_name_for_a_segment_and_a_category_is_refused(self, random_shop):
        with pytest.raises(DataError, match="'new' is a segment and a category"):
            Popularity().fit(random_shop, user_groups=["new"] * 300, item_groups=["new"] * 60)
        with pytest.raises(DataError, match="5 group names for 60 codes"):
            Popularity().fit(random_shop, item_groups=["x"] * 5)


class TestItemNeighbours(PersonalRecommenderContract):
    recall_on_movielens = (0.08, 0.3)

    def make(self):
        return ItemNeighbours()

    @pytest.mark.parametrize("similarity", ["cosine", "tfidf", "bm25"])
    def test_every_similarity_finds_the_kind_one_likes(self, random_shop, similarity):
        model = ItemNeighbours(similarity=similarity).fit(random_shop)
        found = model.recommend(history(60, {0: 1, 1: 1, 2: 1}), 10).items[0]
        assert (found < 20).mean() > 0.8

    def test_cosine_equals_its_formula(self, random_shop):
        model = ItemNeighbours(similarity="cosine", k=100).fit(random_shop)
        X = random_shop.matrix.toarray().astype(float)
        norms = np.linalg.norm(X, axis=0)
        expected = (X.T @ X / np.outer(norms, norms))[4]
        expected[4] = -np.inf
        similar = model.similar([4], 10)
        assert_array_equal(similar.items[0], np.argsort(-expected)[:10])
        assert_allclose(similar.scores[0], np.sort(expected)[::-1][:10], rtol=1e-4)


class TestALS(PersonalRecommenderContract):
    recall_on_movielens = (0.08, 0.3)

    def make(self):
        return ALS(factors=16)

    def make_small(self):
        return ALS(factors=3)

    def test_folding_in_equals_implicits_own(self, random_shop):
        from implicit.cpu.als import AlternatingLeastSquares

        model = ALS(factors=16, alpha=5).fit(random_shop)
        theirs = AlternatingLeastSquares(factors=16, regularization=model.regularisation, alpha=1.0, num_threads=1)
        theirs.item_factors = np.array(model.factors_of_items)
        confidences = random_shop.matrix.copy()
        confidences.data = 1 + 5 * confidences.data
        users = np.arange(confidences.shape[0])
        expected = theirs.recalculate_user(users, confidences)
        assert_allclose(model.user_factors(Histories.from_interactions(random_shop)), expected, atol=1e-4, rtol=1e-4)

    def test_another_seed_gives_other_factors(self, random_shop):
        one, other = ALS(factors=8).fit(random_shop), ALS(factors=8, seed=1).fit(random_shop)
        assert not np.array_equal(one.factors_of_items, other.factors_of_items)

    @pytest.mark.parametrize("k", [1, 10, 300])
    def test_scoring_only_the_longest_is_as_scoring_all(self, k):
        rng = np.random.default_rng(k)
        n_items, n_users = 2_000, 40
        taken = Interactions.from_frame(
            pd.DataFrame(
                {
                    "user_id": np.repeat(np.arange(500).astype(str), 12),
                    "item_id": np.minimum(rng.exponential(200, 6_000).astype(int), n_items - 1).astype(str),
                }
            ),
            items=Vocabulary(map(str, range(n_items))),
        )
        model = ALS(factors=8, iterations=2).fit(taken)
        model.factors_of_items[100:110] = model.factors_of_items[90:100]  # equal scores
        model.factors_of_items[1_500:] = 0
        asked = Histories.from_interactions(taken, users=np.append(np.arange(n_users - 1), -1))
        for share in (1.0, 0.9, 0.004, 0.0):
            allowed = rng.random(n_items) < share
            for seen in (True, False):
                found = model.recommend(asked, k, exclude_seen=seen, allowed=allowed)
                for row in range(n_users):
                    one = asked[np.array([row])]
                    scores = model.scores(one)[0]
                    scores[~allowed] = -np.inf
                    scores[one.item if seen else []] = -np.inf
                    best = np.argsort(-scores, kind="stable")[:k]
                    best = best[scores[best] > -np.inf]
                    alone = model.recommend(one, k, exclude_seen=seen, allowed=allowed)
                    for items, told in ((found.items[row], found.scores[row]), (alone.items[0], alone.scores[0])):
                        shown = items[: len(best)]
                        assert (items[len(best) :] == -1).all()
                        assert len(set(shown.tolist())) == len(best)
                        for said in (told[: len(best)], scores[shown]):  # equal ones may change places by rounding
                            assert_allclose(said, scores[best], rtol=1e-5, atol=1e-7)


@settings(max_examples=50, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 12)),
        elements=st.sampled_from([-np.inf, np.nan, -2.0, -0.0, 0.0, 1.0, 1.5, 3e38]),
    ),
    st.integers(1, 15),
)
def test_top_k_is_a_stable_sort(scores, k):
    found = top_k(scores, k)
    for n, row in enumerate(scores):
        expected = sorted((-score, code) for code, score in enumerate(row) if score > -np.inf)[:k]
        assert found.items[n].tolist() == [code for _, code in expected] + [-1] * (k - len(expected))
        assert_array_equal(found.scores[n][: len(expected)], np.float32([-score for score, _ in expected]))


@pytest.mark.parametrize("k", [1, 7, 150, 3_000])
def test_top_k_of_many_columns_is_a_stable_sort_by_their_codes(k):
    rng = np.random.default_rng(k)
    scores = rng.integers(-9, 9, (3, 2_003)).astype(np.float32)
    scores[:, rng.random(2_003) < 0.2] = np.nan
    scores[1, 5:] = -np.inf
    codes = rng.permutation(2_003)
    for found, named in ((top_k(scores, k), np.arange(2_003)), (top_k(scores, k, codes=codes), codes)):
        for row, score in enumerate(scores):
            best = np.lexsort((named, -score))[:k]
            best = best[score[best] > -np.inf]
            assert found.items[row].tolist() == named[best].tolist() + [-1] * (k - len(best))
            assert_array_equal(found.scores[row, : len(best)], score[best])


def test_loading_and_scoring_need_neither_implicit_nor_torch_and_only_the_ranker_lightgbm(random_shop, tmp_path):
    kinds = sparse.csr_matrix(np.eye(3, dtype=np.float32)[np.arange(60) // 20])
    described = replace(random_shop, attributes=Attributes(("a", "b", "c"), kinds))
    for name, model in MODELS.items():
        model().fit(described).save(tmp_path / name)
    code = (
        "import sys; from pathlib import Path; from scipy import sparse; from models.recommenders import load\n"
        f"for folder in sorted(Path({str(tmp_path)!r}).iterdir(), key=lambda folder: folder.name == 'ranker'):\n"
        "    model = load(folder); row = sparse.csr_matrix(([1.0], ([0], [0])), shape=(1, 60))\n"
        "    model.recommend(row, 3); model.similar([0], 3); model.reasons(row, [1])\n"
        "    heavy = {'implicit', 'torch', 'mlflow', 'lightgbm', 'sklearn', 'threadpoolctl'} & set(sys.modules)\n"
        "    if folder.name == 'ranker':\n"
        "        heavy -= {'lightgbm', 'sklearn', 'threadpoolctl'}  # LightGBM takes scikit-learn along where it is\n"
        "    assert not heavy, (folder.name, heavy)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_model_is_named_with_the_known_ones(random_shop, tmp_path):
    Popularity().fit(random_shop).save(tmp_path / "model")
    about = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps({**about, "name": "oracle"}))
    with pytest.raises(ModelFileError, match="'oracle'; known are popularity"):
        load(tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"holds the model 'oracle', not 'als'"):
        ALS.load(tmp_path / "model")
