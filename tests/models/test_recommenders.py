"""What holds for every recommender, and what each one promises of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from data.errors import DataError, ModelFileError, NotFittedError
from data.interactions import Interactions
from data.vocabulary import Vocabulary
from models.recommenders import MODELS, load
from models.recommenders.als import ALS
from models.recommenders.base import top_k
from models.recommenders.item_neighbours import ItemNeighbours
from models.recommenders.popularity import Popularity
from models.recommenders.repeat_purchase import RepeatPurchase


def history(n_items: int, weights: dict[int, float]) -> sparse.csr_matrix:
    """One user's row."""
    codes = list(weights)
    return sparse.csr_matrix((list(weights.values()), ([0] * len(codes), codes)), shape=(1, n_items), dtype=np.float32)


def same(one, other) -> None:
    assert_array_equal(one.items, other.items)
    assert_array_equal(one.scores, other.scores)


class RecommenderContract:
    """Every recommender passes these; a subclass says how to make one and how good it must be."""

    recall_on_movielens: tuple[float, float]

    def make(self):
        raise NotImplementedError

    @pytest.fixture
    def fitted(self, random_shop):
        return self.make().fit(random_shop)

    def test_ranks_best_first_without_repeats_and_pads_at_the_end(self, fitted, random_shop):
        ranking = fitted.recommend(random_shop.matrix, 10)
        assert ranking.items.dtype == np.int32
        assert ranking.scores.dtype == np.float32
        for items, scores in zip(ranking.items, ranking.scores, strict=True):
            found = items[items >= 0]
            assert len(set(found)) == len(found)
            assert (items[len(found) :] == -1).all()
            assert np.isnan(scores[len(found) :]).all()
            assert (np.diff(scores[: len(found)]) <= 0).all()

    def test_a_second_fit_forgets_the_first(self, fitted, checkerboard):
        refitted = fitted.fit(checkerboard)
        same(
            refitted.recommend(checkerboard.matrix, 5), self.make().fit(checkerboard).recommend(checkerboard.matrix, 5)
        )

    def test_saving_and_loading_change_nothing(self, fitted, random_shop, tmp_path):
        fitted.save(tmp_path / "model")
        again = load(tmp_path / "model")
        assert type(again) is type(fitted)
        assert again.params == fitted.params
        assert again.items == fitted.items
        same(again.recommend(random_shop.matrix, 10), fitted.recommend(random_shop.matrix, 10))
        same(again.similar([0, 5, -1], 10), fitted.similar([0, 5, -1], 10))
        again.save(tmp_path / "model")
        same(load(tmp_path / "model").recommend(random_shop.matrix, 3), fitted.recommend(random_shop.matrix, 3))

    def test_the_same_data_gives_the_same_model(self, fitted, random_shop):
        same(self.make().fit(random_shop).recommend(random_shop.matrix, 10), fitted.recommend(random_shop.matrix, 10))

    def test_a_user_is_ranked_alike_alone_and_in_a_crowd(self, fitted, random_shop, monkeypatch):
        together = fitted.recommend(random_shop.matrix, 5)
        monkeypatch.setattr("models.recommenders.base.BLOCK_CELLS", 100)
        apart = fitted.recommend(random_shop.matrix, 5)
        assert_allclose(apart.scores, together.scores, rtol=1e-5)

    def test_a_stranger_is_served_or_declared_not(self, fitted):
        ranking = fitted.recommend(sparse.csr_matrix((1, len(fitted.items))), 5)
        assert (ranking.items >= 0).all() == fitted.serves_cold_users
        assert (ranking.items >= 0).any() == fitted.serves_cold_users

    def test_seen_items_are_left_out_only_when_asked(self, fitted, random_shop):
        seen = random_shop.matrix.toarray() > 0
        ranking = fitted.recommend(random_shop.matrix, 60)
        users, ranks = np.nonzero(ranking.items >= 0)
        assert not seen[users, ranking.items[users, ranks]].any()
        ranking = fitted.recommend(random_shop.matrix, 60, exclude_seen=False)
        users, ranks = np.nonzero(ranking.items >= 0)
        assert seen[users, ranking.items[users, ranks]].any()

    def test_only_allowed_items_and_no_excluded_ones(self, fitted, random_shop):
        n_items = len(fitted.items)
        allowed = np.arange(n_items) % 2 == 0
        excluded = sparse.csr_matrix(np.tile(np.arange(n_items) % 4 == 0, (random_shop.matrix.shape[0], 1)))
        found = fitted.recommend(random_shop.matrix, n_items, allowed=allowed, excluded=excluded).items
        assert set(found[found >= 0] % 4) == {2}
        assert (fitted.recommend(random_shop.matrix, 3, allowed=np.zeros(n_items, bool)).items == -1).all()

    def test_more_than_the_catalogue_can_be_asked_for(self, fitted, random_shop):
        ranking = fitted.recommend(random_shop.matrix[:2], 1_000)
        assert ranking.items.shape == (2, 1_000)
        assert (ranking.items[:, len(fitted.items) :] == -1).all()

    def test_one_user_and_one_item(self):
        taken = Interactions.from_frame(pd.DataFrame({"user_id": ["u"], "item_id": ["i"]}))
        model = self.make().fit(taken)
        assert (model.recommend(taken.matrix, 3).items == -1).all()
        assert set(model.recommend(taken.matrix, 3, exclude_seen=False).items.ravel()) <= {0, -1}
        assert (model.similar([0], 3).items == -1).all()

    def test_weights_all_alike(self, random_shop):
        alike = Interactions(**{**vars(random_shop), "weight": np.full(len(random_shop), 2, np.float32)})
        found = self.make().fit(alike).recommend(alike.matrix, 5)
        assert np.isfinite(found.scores[found.items >= 0]).all()

    def test_weights_that_say_nothing_count_as_absent(self, fitted):
        n_items = len(fitted.items)
        useless = history(n_items, {1: np.nan, 2: 0.0, 3: -4.0, 4: np.inf})
        same(fitted.recommend(useless, 5), fitted.recommend(sparse.csr_matrix((1, n_items)), 5))

    def test_a_history_of_ten_thousand_items(self):
        rng = np.random.default_rng(0)
        frame = pd.DataFrame(
            {
                "user_id": rng.integers(0, 400, 60_000).astype(str),
                "item_id": [f"{code:05d}" for code in np.arange(60_000) % 12_000],
            }
        )
        taken = Interactions.from_frame(frame)
        model = self.make().fit(taken)
        long = sparse.csr_matrix(np.r_[np.ones(10_000), np.zeros(2_000)][None].astype(np.float32))
        ranking = model.recommend(long, 10)
        assert (ranking.items[ranking.items >= 0] >= 10_000).all()
        assert (ranking.items >= 0).any()

    def test_reasons_are_true(self, fitted, random_shop):
        for user in range(8):
            mine = random_shop.matrix[user]
            found = fitted.recommend(mine, 3, exclude_seen=False).items[0]
            reasons = fitted.reasons(mine, found)
            for item, reason in zip(found, reasons, strict=True):
                falls = {}
                for code in mine.indices:
                    without = mine.copy()
                    without.data[without.indices == code] = 0
                    falls[code] = self.score(fitted, mine, item) - self.score(fitted, without, item)
                if reason == -1:
                    assert max(falls.values()) <= 1e-5
                else:
                    assert falls[reason] > 0
                    assert falls[reason] >= max(falls.values()) - 1e-4

    @staticmethod
    def score(model, row, item) -> float:
        every = model.recommend(row, len(model.items), exclude_seen=False)
        found = every.scores[0][every.items[0] == item]
        return float(found[0]) if len(found) else 0.0

    def test_similar_items_leave_out_the_item_and_the_unknown(self, fitted):
        ranking = fitted.similar([3, -1, 3], 100)
        assert 3 not in ranking.items[0]
        assert (ranking.items[1] == -1).all()
        assert_array_equal(ranking.items[0], ranking.items[2])

    def test_asking_before_learning_is_refused(self):
        model = self.make()
        with pytest.raises(NotFittedError, match="fit"):
            model.recommend(sparse.csr_matrix((1, 3)), 1)
        with pytest.raises(NotFittedError, match="fit"):
            model.similar([0], 1)

    def test_nothing_to_learn_from_is_refused(self, random_shop):
        with pytest.raises(DataError, match="no interactions"):
            self.make().fit(random_shop.before(-1))

    def test_wrong_shapes_are_refused_with_the_right_ones(self, fitted):
        n_items = len(fitted.items)
        row = sparse.csr_matrix((1, n_items))
        with pytest.raises(DataError, match="knows 60 items"):
            fitted.recommend(sparse.csr_matrix((1, n_items + 1)), 3)
        with pytest.raises(DataError, match="at least one"):
            fitted.recommend(row, 0)
        with pytest.raises(DataError, match="allowed"):
            fitted.recommend(row, 3, allowed=np.ones(3, bool))
        with pytest.raises(DataError, match="excluded"):
            fitted.recommend(row, 3, excluded=sparse.csr_matrix((2, n_items)))
        with pytest.raises(DataError, match="groups"):
            fitted.recommend(row, 3, groups=["a", "b"])
        with pytest.raises(DataError, match="codes"):
            fitted.similar([n_items], 3)
        with pytest.raises(DataError, match="one user"):
            fitted.reasons(sparse.csr_matrix((2, n_items)), [0])

    def test_other_item_ids_are_caught(self, fitted, tmp_path):
        fitted.save(tmp_path / "model")
        Vocabulary([f"other{code}" for code in range(len(fitted.items))]).save(tmp_path / "model", "items")
        with pytest.raises(ModelFileError, match="item ids"):
            load(tmp_path / "model")

    def test_every_missing_or_truncated_file_is_caught(self, fitted, tmp_path):
        fitted.save(tmp_path / "whole")
        for name in sorted(file.name for file in (tmp_path / "whole").iterdir()):
            for damage in ("missing", "truncated", "emptied"):
                fitted.save(tmp_path / "model")
                file = tmp_path / "model" / name
                if damage == "missing":
                    file.unlink()
                else:
                    whole = file.read_bytes()
                    file.write_bytes(whole[: len(whole) - 9] if damage == "truncated" else b"")
                with pytest.raises(ModelFileError):
                    load(tmp_path / "model")

    def test_quality_on_a_time_split_of_movielens(self, movielens):
        train, later = movielens
        model = self.make().fit(train)
        seen, liked = train.matrix, later.matrix
        new = liked - liked.multiply(seen > 0)
        new.eliminate_zeros()
        users = np.flatnonzero((np.diff(new.indptr) > 0) & (np.diff(seen.indptr) > 0))
        found = model.recommend(seen[users], 20).items
        hits = np.array([np.isin(found[n], new[user].indices).sum() / new[user].nnz for n, user in enumerate(users)])
        low, high = self.recall_on_movielens
        assert low <= hits.mean() <= high


class PersonalRecommenderContract(RecommenderContract):
    """What holds for those that know a person's taste."""

    def make_small(self):
        """As `make`, for a matrix of rank two."""
        return self.make()

    def test_the_checkerboard_is_completed(self, checkerboard):
        model = self.make_small().fit(checkerboard)
        best = model.recommend(checkerboard.matrix, 1).items[:, 0]
        assert_array_equal(best, np.arange(50))


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

    def test_groups_of_users_and_of_items_have_their_own_favourites(self):
        frame = pd.DataFrame(
            {"user_id": [*"abcdef"] * 200, "item_id": ["tea", "tea", "tea", "tea", "hat", "cap"] * 200}
        )
        taken = Interactions.from_frame(frame)
        kind = {"tea": "kitchen", "hat": "clothes", "cap": "clothes"}
        model = Popularity().fit(
            taken,
            user_groups=[{"e": "loyal"}.get(user) for user in taken.users.all_ids],
            item_groups=[kind[item] for item in taken.items.all_ids],
        )
        nobody = sparse.csr_matrix((4, 3))
        first = model.recommend(nobody, 1, groups=[None, "loyal", "clothes", "unheard of"]).items[:, 0]
        assert model.items.ids(first) == ["tea", "hat", "cap", "tea"]

    def test_a_name_for_a_segment_and_a_category_is_refused(self, random_shop):
        with pytest.raises(DataError, match="'new' is a segment and a category"):
            Popularity().fit(random_shop, user_groups=["new"] * 300, item_groups=["new"] * 60)
        with pytest.raises(DataError, match="5 group names for 60 codes"):
            Popularity().fit(random_shop, item_groups=["x"] * 5)


class TestRepeatPurchase(RecommenderContract):
    recall_on_movielens = (0.15, 0.25)

    def make(self):
        return RepeatPurchase()

    def test_own_items_come_back_by_weight_and_then_the_popular(self, random_shop):
        model = RepeatPurchase().fit(random_shop)
        found = model.recommend(history(60, {7: 1.0, 3: 5.0, 9: 2.0}), 5, exclude_seen=False).items[0]
        popular = Popularity().fit(random_shop).recommend(history(60, {7: 1.0, 3: 5.0, 9: 2.0}), 2).items[0]
        assert_array_equal(found, [3, 9, 7, *popular])


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
        assert_allclose(model.user_factors(random_shop.matrix), expected, atol=1e-4, rtol=1e-4)

    def test_another_seed_gives_other_factors(self, random_shop):
        one, other = ALS(factors=8).fit(random_shop), ALS(factors=8, seed=1).fit(random_shop)
        assert not np.array_equal(one.factors_of_items, other.factors_of_items)


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


def test_loading_and_scoring_need_neither_implicit_nor_torch(random_shop, tmp_path):
    for name, model in MODELS.items():
        model().fit(random_shop).save(tmp_path / name)
    code = (
        "import sys; from pathlib import Path; from scipy import sparse; from models.recommenders import load\n"
        f"for folder in sorted(Path({str(tmp_path)!r}).iterdir()):\n"
        "    model = load(folder); row = sparse.csr_matrix(([1.0], ([0], [0])), shape=(1, 60))\n"
        "    model.recommend(row, 3); model.similar([0], 3); model.reasons(row, [1])\n"
        "heavy = {'implicit', 'torch', 'lightgbm', 'sklearn', 'threadpoolctl', 'mlflow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
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
