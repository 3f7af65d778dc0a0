"""Content: items are ranked by what is known of them, on their first day too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from recommender_contract import RecommenderContract
from scipy import sparse

from data.errors import DataError
from data.histories import Histories, Step
from data.interactions import Attributes, Interactions
from data.vocabulary import Vocabulary
from models.recommenders.blend import CAUTION, Blend
from models.recommenders.composite import standardised
from models.recommenders.content import Content

MOVIELENS = Path(__file__).resolve().parents[3] / "shared" / "data" / "ml100k"


def described(taken: Interactions) -> Interactions:
    """With the kind of each item (of 20) and one more attribute, unless its items are described already."""
    if taken.attributes is not None:
        return taken
    code = np.arange(len(taken.items))
    cells = np.concatenate([code // 20, 1 + code.max() // 20 + code % 7])
    matrix = sparse.csr_matrix((np.ones(2 * len(code), np.float32), (np.tile(code, 2), cells)))
    return replace(taken, attributes=Attributes(tuple(map(str, range(matrix.shape[1]))), matrix))


class TestContent(RecommenderContract):
    recall_on_movielens = (0.02, 0.2)

    def make(self):
        model = Content()
        learn = model.fit
        model.fit = lambda taken: learn(described(taken))
        return model

    @pytest.fixture
    def movielens(self, films):
        moment = int(np.quantile(films.at, 0.9))
        return films.before(moment), films.since(moment)


@pytest.fixture(scope="module")
def films() -> Interactions:
    """Films liked, with the words of their genres and titles, and their year."""
    if not MOVIELENS.exists():
        pytest.skip(f"{MOVIELENS} is not there; it is only for tests")
    ratings = pd.read_parquet(MOVIELENS / "ratings.parquet")
    ratings = ratings.rename(columns={"user": "user_id", "item": "item_id", "timestamp": "at"})
    liked = Interactions.from_frame(ratings[ratings["rating"] >= 4])
    told = pd.read_parquet(MOVIELENS / "items.parquet").astype(str).set_index("item_id")
    told = told.reindex(liked.items.all_ids)
    words = (told["class"] + " " + told["release_year"] + " " + told["movie_title"].str.lower()).str.split()
    cells = words.reset_index(drop=True).explode().dropna()
    column, names = pd.factorize(cells, sort=True)
    ones = np.ones(len(cells), np.float32)
    matrix = sparse.csr_matrix((ones, (cells.index, column)), shape=(len(liked.items), len(names)))
    matrix.data[:] = 1
    return replace(liked, attributes=Attributes(tuple(names), matrix))


@pytest.fixture
def new_item(random_shop) -> Interactions:
    """The shop with one more item, of the first kind, that nobody took."""
    items = Vocabulary([*random_shop.items.all_ids, "new"])
    kinds = sparse.csr_matrix(np.eye(3, dtype=np.float32)[[*np.arange(60) // 20, 0]])
    return replace(random_shop, items=items, attributes=Attributes(("a", "b", "c"), kinds))


def recall_of_cold_items(model, films: Interactions, cold: np.ndarray, k: int = 20) -> np.ndarray:
    """Share of a user's cold items among the k that are ranked first of all cold ones."""
    known, hidden = films.where(~cold[films.item]), films.where(cold[films.item])
    users = np.intersect1d(hidden.user, known.user)
    ranked = model.fit(known).recommend(Histories.from_interactions(known, users=users), k, allowed=cold).items
    liked = hidden.matrix[users].toarray() > 0
    return np.take_along_axis(liked, ranked, axis=1).sum(axis=1) / liked.sum(axis=1)


def test_items_that_nobody_took_are_found_among_themselves(films):
    cold = np.random.default_rng(0).random(len(films.items)) < 0.1
    found = recall_of_cold_items(Content(), films, cold)
    assert 0.3 <= found.mean() <= 0.6
    assert found.mean() > 2 * 20 / cold.sum()


def test_a_score_is_the_ridge_regression_of_what_is_taken_together(new_item):
    model = Content(regularisation=2).fit(new_item)
    X = (new_item.matrix.toarray() > 0).astype(float)
    n_user, n_item = X.sum(axis=1, keepdims=True), X.sum(axis=0)
    with np.errstate(invalid="ignore"):
        X = np.nan_to_num(X / np.sqrt(n_user * n_item))
    F = new_item.attributes.matrix.toarray()
    C = X.T @ X
    told = np.linalg.solve(F[:60].T @ F[:60] + 2 * np.eye(3), F[:60].T @ C[:60]).T @ F.T
    asked = Histories.from_interactions(new_item)[:20]
    expected = (asked.matrix.toarray() > 0) @ told
    assert_allclose(model._score(asked, None), expected, rtol=1e-4)


def test_a_new_item_is_like_its_kind_and_leads_to_it(new_item):
    model = Content().fit(new_item)
    assert set(model.similar([60], 20).items[0]) == set(range(20))
    asked = Histories.of_steps(model.items, [[Step("new")]])
    assert set(model.recommend(asked, 20).items[0]) == set(range(20))


def test_in_a_blend_a_new_item_is_recommended_on_its_first_day(new_item):
    asked = Histories.of_steps(new_item.items, [[Step("i00"), Step("i01")], [Step("i40"), Step("i41")]])
    members = [{"model": "als", "params": {"factors": 8, "regularisation": 1}}, {"model": "content"}]
    model = Blend(members=members, weights=[1, 0.5]).fit(new_item)
    ranked = model.recommend(asked, 61, exclude_seen=False).items
    assert 60 in ranked[0, :20]  # before others of its kind, behind all of which als alone would leave it
    assert 60 not in ranked[1, :20]
    assert {"i00", "i01"} >= set(model.items.ids(model.reasons(asked[:1], [60])))
    new = standardised(model.parts[1]._score(asked, None))[:, 60]
    assert_allclose(model._score(asked, None)[:, 60], CAUTION * 1.5 * new, rtol=1e-5)


def test_in_a_blend_new_items_do_not_wait_for_those_who_cannot_tell_of_them(new_item):
    stranger = Histories.of_steps(new_item.items, [[]])
    model = Blend(members=[{"model": "popularity"}, {"model": "content"}], weights=[1, 1]).fit(new_item)
    assert model.recommend(stranger, 61).items[0, -1] == 60


def test_an_item_of_which_nothing_is_known_is_not_ranked_and_leads_nowhere(new_item):
    matrix = new_item.attributes.matrix.copy()
    matrix.data[60] = 0
    matrix.eliminate_zeros()
    model = Content().fit(replace(new_item, attributes=replace(new_item.attributes, matrix=matrix)))
    asked = Histories.of_steps(model.items, [[Step("i00")], [Step("new")]])
    ranked = model.recommend(asked, 61, exclude_seen=False).items
    assert 60 not in ranked[0]
    assert_array_equal(ranked[1], -1)


def test_without_attributes_it_says_what_to_bring(random_shop, monkeypatch):
    with pytest.raises(DataError, match=r"content: nothing is known of the items\. Bring items with a category"):
        Content().fit(random_shop)
    monkeypatch.setattr("models.recommenders.content.MOST_GB", 1e-6)
    with pytest.raises(DataError, match=r"60 items of 10 attributes .* Set recommender.max_attributes to 4, or"):
        Content().fit(described(random_shop))
