"""A blend adds up what its members say, on one scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from recommender_contract import PersonalRecommenderContract, RecommenderContract, history, same
from scipy import sparse

from data.errors import DataError, ModelFileError, NotFittedError
from data.vocabulary import Vocabulary
from models.recommenders import load
from models.recommenders.als import ALS
from models.recommenders.blend import Blend
from models.recommenders.composite import standardised
from models.recommenders.item_neighbours import ItemNeighbours
from models.recommenders.popularity import Popularity

TASTES = [{"model": "item_neighbours", "params": {"k": 30}}, {"model": "als", "params": {"factors": 8}}]


class TestBlendOfTastes(PersonalRecommenderContract):
    recall_on_movielens = (0.08, 0.3)

    def make(self):
        return Blend(members=TASTES, weights=[1.0, 0.5])

    def make_small(self):
        return Blend(members=[{"model": "als", "params": {"factors": 3}}, TASTES[0]], weights=[1.0, 0.5])


class TestBlendAsItComes(RecommenderContract):
    recall_on_movielens = (0.12, 0.3)

    def make(self):
        return Blend()


def test_a_score_is_the_weighted_sum_of_standardised_scores(random_shop):
    one, other = ItemNeighbours().fit(random_shop), Popularity().fit(random_shop)
    blend = Blend.of([one, other], [2.0, -0.5])
    rows = random_shop.matrix[:20]
    found = blend.recommend(rows, 60, exclude_seen=False)
    parts = []
    for model in (one, other):
        ranking = model.recommend(rows, 60, exclude_seen=False)
        scores = np.full((20, 61), -np.inf, np.float32)
        np.put_along_axis(scores, ranking.items, ranking.scores, axis=1)  # -1 is the column too many
        parts.append(standardised(scores[:, :60]))
    expected = 2 * parts[0] - 0.5 * parts[1]
    assert_allclose(found.scores, np.take_along_axis(expected, found.items, axis=1), atol=1e-5)


def test_alone_a_member_ranks_as_without_the_blend(random_shop):
    alone = ALS(factors=8).fit(random_shop)
    blend = Blend.of([alone], [3.0])
    assert_array_equal(blend.recommend(random_shop.matrix, 10).items, alone.recommend(random_shop.matrix, 10).items)
    assert_array_equal(blend.similar([3, 5], 10).items, alone.similar([3, 5], 10).items)


def test_a_blend_of_fitted_models_is_the_blend_that_is_fitted(random_shop, tmp_path):
    parts = [ItemNeighbours(k=30).fit(random_shop), ALS(factors=8, seed=3).fit(random_shop)]
    of_fitted = Blend.of(parts, [1.0, 0.5])
    fitted = Blend(members=TASTES, weights=[1.0, 0.5], seed=3).fit(random_shop)
    same(of_fitted.recommend(random_shop.matrix, 10), fitted.recommend(random_shop.matrix, 10))
    refitted = Blend(**of_fitted.params).fit(random_shop)
    same(refitted.recommend(random_shop.matrix, 10), fitted.recommend(random_shop.matrix, 10))
    of_fitted.save(tmp_path / "blend")
    same(load(tmp_path / "blend").similar([1], 5), fitted.similar([1], 5))


def test_the_seed_goes_to_members_that_take_one_and_were_given_none(random_shop):
    own = {"model": "als", "params": {"factors": 8, "seed": 5}}
    blend = Blend(members=[*TASTES, own], weights=[1, 1, 1], seed=7)
    assert [part.params.get("seed") for part in blend.parts] == [None, 7, 5]


def test_a_blend_of_blends(random_shop, tmp_path):
    inner = {"model": "blend", "params": {"members": TASTES, "weights": [1.0, 2.0]}}
    model = Blend(members=[inner, {"model": "popularity"}], weights=[1.0, 0.1]).fit(random_shop)
    model.save(tmp_path / "blend")
    same(load(tmp_path / "blend").recommend(random_shop.matrix, 5), model.recommend(random_shop.matrix, 5))


def test_what_no_member_knows_is_not_ranked_and_what_one_knows_is(random_shop):
    with_new = replace(random_shop, items=Vocabulary([*random_shop.items.all_ids, "new"]))
    neighbours = ItemNeighbours().fit(with_new)
    row = history(61, {3: 1.0})
    assert 60 not in Blend.of([neighbours], [1.0]).recommend(row, 61).items
    assert 60 in Blend.of([neighbours, Popularity().fit(with_new)], [1.0, 1.0]).recommend(row, 61).items


def test_only_members_that_serve_strangers_have_a_say_about_them(random_shop):
    popular = Popularity().fit(random_shop)
    blend = Blend.of([ALS(factors=8).fit(random_shop), popular], [5.0, 1.0])
    stranger = sparse.csr_matrix((1, 60))
    assert blend.serves_cold_users
    assert_array_equal(blend.recommend(stranger, 60).items, popular.recommend(stranger, 60).items)
    assert not Blend(members=TASTES, weights=[1, 1]).serves_cold_users


def test_similar_items_are_those_of_members_that_compare_items(random_shop):
    neighbours = ItemNeighbours().fit(random_shop)
    blend = Blend.of([neighbours, Popularity().fit(random_shop)], [1.0, 1.0])
    assert_array_equal(blend.similar([4], 10).items, neighbours.similar([4], 10).items)


def test_members_that_cannot_be_are_refused(random_shop):
    with pytest.raises(DataError, match="no members"):
        Blend(members=[], weights=[])
    with pytest.raises(DataError, match="give a model"):
        Blend(members=[{"model": "oracle"}], weights=[1])
    with pytest.raises(DataError, match="give a model"):
        Blend(members=[{"model": "als", "parms": {}}], weights=[1])
    with pytest.raises(DataError, match="faktors"):
        Blend(members=[{"model": "als", "params": {"faktors": 3}}], weights=[1])
    for weights in ([1.0], [1.0, np.nan], [0.0, 0.0]):
        with pytest.raises(DataError, match="finite number to each of 2"):
            Blend(members=TASTES, weights=weights)
    fitted = Popularity().fit(random_shop)
    with pytest.raises(NotFittedError):
        Blend.of([fitted, ALS()], [1, 1])
    other = replace(random_shop, items=Vocabulary([f"other{code}" for code in range(60)]))
    with pytest.raises(DataError, match="other items"):
        Blend.of([fitted, Popularity().fit(other)], [1, 1])


def test_a_member_of_another_catalogue_is_caught_in_the_folder(random_shop, tmp_path):
    Blend(members=TASTES, weights=[1, 1]).fit(random_shop).save(tmp_path / "blend")
    other = replace(random_shop, items=Vocabulary([f"other{code}" for code in range(60)]))
    ALS(factors=8).fit(other).save(tmp_path / "blend" / "member1")
    with pytest.raises(ModelFileError, match="member1 knows other items"):
        load(tmp_path / "blend")


numbers = st.one_of(st.sampled_from([-np.inf, np.nan, 0.1]), st.floats(-1e6, 1e6, width=32))


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=numbers))
def test_standardised_scores_keep_the_order_and_are_always_numbers(scores):
    before = scores.copy()
    z = standardised(scores)
    assert_array_equal(scores, before)
    assert z.dtype == np.float32
    assert np.isfinite(z).all()
    for row, found in zip(scores, z, strict=True):
        said = np.isfinite(row)
        whole = np.where(said, row, min([0, *row[said]])).astype(np.float64)
        assert (np.diff(found[np.argsort(whole, kind="stable")]) >= 0).all()
        spread = whole.std()
        if spread > 1e-4 * np.abs(whole).max():
            assert_allclose(found, (whole - whole.mean()) / spread, atol=1e-2)
        if np.ptp(whole) == 0:
            assert (found == 0).all()


def test_standardisation_forgets_the_unit_of_the_scores():
    scores = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    assert_allclose(standardised(1_000 * scores + 7), standardised(scores), atol=1e-4)
