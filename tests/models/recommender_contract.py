"""What holds for every recommender: the classes that the tests of each model inherit.

from recommender_contract import RecommenderContract
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from data.errors import DataError, ModelFileError, NotFittedError
from data.histories import Histories
from data.interactions import Interactions
from data.vocabulary import Vocabulary
from models.recommenders import load


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

    def test_the_ranking_is_that_of_the_scores(self, fitted, random_shop):
        scores = fitted.scores(random_shop.matrix[:5])
        ranking = fitted.recommend(random_shop.matrix[:5], 10, exclude_seen=False)
        for row, items, ranked in zip(scores, ranking.items, ranking.scores, strict=True):
            said = items >= 0
            assert said.sum() == min(10, np.isfinite(row).sum())
            assert_allclose(row[items[said]], ranked[said], rtol=1e-5, atol=1e-6)

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

    def test_only_allowed_items(self, fitted, random_shop):
        n_items = len(fitted.items)
        allowed = np.arange(n_items) % 2 == 0
        found = fitted.recommend(random_shop.matrix, n_items, allowed=allowed).items
        assert set(found[found >= 0] % 2) == {0}
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
        alike = replace(random_shop, weight=np.full(len(random_shop), 2, np.float32))
        found = self.make().fit(alike).recommend(alike.matrix, 5)
        assert np.isfinite(found.scores[found.items >= 0]).all()

    def test_weights_that_say_nothing_count_as_absent(self, fitted):
        n_items = len(fitted.items)
        useless = history(n_items, {1: np.nan, 2: 0.0, 3: -4.0, 4: np.inf})
        same(fitted.recommend(useless, 5), fitted.recommend(sparse.csr_matrix((1, n_items)), 5))

    def test_a_history_of_ten_thousand_steps(self):
        rng = np.random.default_rng(0)
        user = np.r_[np.zeros(10_000, int), np.arange(20_000) % 200 + 1]
        item = np.r_[rng.integers(0, 800, 10_000), rng.integers(0, 1_000, 20_000)]
        taken = Interactions.from_frame(
            pd.DataFrame({"user_id": user.astype(str), "item_id": item.astype(str), "at": np.arange(30_000)})
        )
        model = self.make().fit(taken)
        long = Histories.from_interactions(taken, users=np.array([0]))
        ranking = model.recommend(long, 10)
        assert (ranking.items >= 0).any()
        assert not np.isin(ranking.items[ranking.items >= 0], long.item).any()
        assert_array_equal(model.recommend(long, 10).items, ranking.items)

    def test_items_that_nobody_took_yet(self, random_shop):
        with_new = replace(
            random_shop,
            items=Vocabulary(["a new one", *random_shop.items.all_ids, "yet another"]),
            item=random_shop.item + 1,
        )
        model = self.make().fit(with_new)
        shown = model.recommend(with_new.matrix[:20], 62)
        assert np.isfinite(shown.scores[shown.items >= 0]).all()
        only_new = model.recommend(history(62, {0: 1.0, 61: 2.0}), 5)
        assert np.isfinite(only_new.scores[only_new.items >= 0]).all()
        assert not np.isin(only_new.items, [0, 61]).any()
        model.similar([0, 61], 5)
        model.reasons(history(62, {0: 1.0, 7: 1.0}), [0, 3])

    def test_a_user_who_has_everything(self, fitted):
        everything = history(60, dict.fromkeys(range(60), 1.0))
        assert (fitted.recommend(everything, 5).items == -1).all()
        again = fitted.recommend(everything, 60, exclude_seen=False)
        assert np.isfinite(again.scores[again.items >= 0]).all()

    def test_times_that_are_all_alike(self, random_shop):
        at_once = replace(random_shop, at=np.full(len(random_shop), 1_700_000_000))
        model = self.make().fit(at_once)
        found = model.recommend(Histories.from_interactions(at_once), 5)
        assert (found.items >= 0).all()
        assert np.isfinite(found.scores).all()

    def test_histories_that_know_their_times(self, fitted, random_shop, monkeypatch):
        timed = Histories.from_interactions(random_shop, now=int(random_shop.at.max()) + 1)
        together = fitted.recommend(timed, 60)
        users, ranks = np.nonzero(together.items >= 0)
        assert not (random_shop.matrix.toarray() > 0)[users, together.items[users, ranks]].any()
        monkeypatch.setattr("models.recommenders.base.BLOCK_CELLS", 100)
        apart = fitted.recommend(timed, 60)
        assert_allclose(apart.scores, together.scores, rtol=1e-4, atol=1e-5)
        few = fitted.recommend(timed[np.array([7, 3])], 60)
        assert_allclose(few.scores, together.scores[[7, 3]], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("timed", [False, True], ids=["weights alone", "with times"])
    def test_reasons_are_true(self, fitted, random_shop, timed):
        now = int(random_shop.at.max()) + 1
        told = Histories.from_interactions(random_shop, now=now) if timed else Histories.from_matrix(random_shop.matrix)
        for user in range(8):
            mine = told[user : user + 1]
            found = fitted.recommend(mine, 3, exclude_seen=False).items[0]
            for item, reason in zip(found, fitted.reasons(mine, found), strict=True):
                whole = self.score(fitted, mine, item)
                falls = {
                    code: whole - self.score(fitted, mine.where(mine.item != code), item) for code in set(mine.item)
                }
                if reason == -1:
                    assert max(falls.values()) <= 1e-5
                else:
                    assert falls[reason] > 0
                    assert falls[reason] >= max(falls.values()) - 1e-4

    @staticmethod
    def score(model, history, item) -> float:
        every = model.recommend(history, len(model.items), exclude_seen=False)
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
        whole = tmp_path / "whole"
        for name in sorted(file.relative_to(whole) for file in whole.rglob("*") if file.is_file()):
            for damage in ("missing", "truncated", "emptied"):
                fitted.save(tmp_path / "model")
                file = tmp_path / "model" / name
                if damage == "missing":
                    file.unlink()
                else:
                    content = file.read_bytes()
                    file.write_bytes(content[: len(content) - 9] if damage == "truncated" else b"")
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
