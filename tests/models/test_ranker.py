"""A ranker learns from what was known before, and orders candidates better than their models do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from recommender_contract import PersonalRecommenderContract, history, same
from scipy import sparse

from data.errors import ModelFileError
from data.histories import Histories, Step
from data.interactions import Attributes, Interactions
from models.recommenders import load
from models.recommenders.popularity import Popularity
from models.recommenders.ranker import DAY_SECONDS, Ranker

MEMBERS = [{"model": "popularity"}, {"model": "item_neighbours"}]
QUICK = {"rounds": 60, "patience": 10, "n_candidates": 20, "n_windows": 1}


class TestRanker(PersonalRecommenderContract):
    recall_on_movielens = (0.12, 0.3)

    def make(self):
        return Ranker(**QUICK)


def test_it_learns_what_is_due():
    """200 users take each of four items every 40 days or so, by turns: of all that they took one is due next."""
    rng = np.random.default_rng(1)
    user, place, time = (values.ravel() for values in np.indices((200, 4, 6)))
    of_user = rng.permuted(np.tile(np.arange(30), (200, 1)), axis=1)
    day = rng.uniform(0, 40, 200)[user] + 10 * place + 40 * time + rng.normal(0, 1, len(user))
    frame = pd.DataFrame({"user_id": user, "item_id": of_user[user, place], "at": (day * DAY_SECONDS).astype(int)})
    taken = Interactions.from_frame(frame.astype({"user_id": str, "item_id": str}))
    cutoff = 195 * DAY_SECONDS
    known, after = taken.before(cutoff), taken.since(cutoff).before(cutoff + 8 * DAY_SECONDS)
    came = np.unique(after.user)
    asked = Histories.from_interactions(known, users=came, now=cutoff)

    def hit_rate(model):
        best = model.recommend(asked, 1, exclude_seen=False).items[:, 0]
        return np.asarray(after.matrix[came, best] > 0).mean()

    model = Ranker(members=MEMBERS, horizon_days=8, min_rows_in_leaf=20).fit(known)
    assert max(hit_rate(part) for part in model.parts) < 0.5
    assert hit_rate(model) > 0.9


def without_leakage(learnt: Ranker, shop: Interactions, seed: int) -> None:
    """The examples' features do not change with what is taken from the newest cutoff on."""
    cutoff = int(shop.at.max()) + 1 - learnt.horizon_days * DAY_SECONDS
    later = shop.at >= cutoff
    rng = np.random.default_rng(seed)
    other = replace(
        shop,
        item=np.where(later, rng.integers(0, len(shop.items), len(shop)), shop.item).astype(np.int32),
        weight=np.where(later, rng.gamma(2, 2, len(shop)) + 0.1, shop.weight).astype(np.float32),
    )
    one, two = learnt.examples(shop), learnt.examples(other)
    assert_array_equal(one.user, two.user)
    assert_array_equal(one.item, two.item)
    assert_array_equal(one.features, two.features)
    assert not np.array_equal(one.taken, two.taken)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), horizon_days=st.integers(3, 20), n_windows=st.integers(1, 2))
def test_what_happens_from_the_cutoff_on_never_reaches_the_features(random_shop, seed, horizon_days, n_windows):
    without_leakage(Ranker(n_candidates=10, horizon_days=horizon_days, n_windows=n_windows), random_shop, seed)


class MembersOfEverything(Ranker):
    """Lets the members learn from the labels: the mistake that the test above is there for."""

    def _windows(self, interactions):
        self.everything = interactions
        return super()._windows(interactions)

    def _know(self, _before):
        super()._know(self.everything)


class HistoriesOfEverything(Ranker):
    """Lets the histories hold the labels."""

    def _windows(self, interactions):
        for _, after, now in super()._windows(interactions):
            yield interactions, after, now


@pytest.mark.parametrize("leaky", [MembersOfEverything, HistoriesOfEverything])
def test_a_leak_would_be_found(random_shop, leaky):
    with pytest.raises(AssertionError):
        without_leakage(leaky(n_candidates=10, horizon_days=20, n_windows=1), random_shop, seed=0)


def test_labels_are_what_those_with_a_history_took_in_the_horizon(random_shop):
    model = Ranker(n_candidates=60, horizon_days=20, n_windows=1)
    examples = model.examples(random_shop)
    after = random_shop.since(int(random_shop.at.max()) + 1 - 20 * DAY_SECONDS)
    assert set(examples.user) == set(after.user) & set(random_shop.before(int(after.at.min())).user)
    assert_array_equal(examples.taken, np.asarray(after.matrix[examples.user, examples.item]).ravel() > 0)
    assert examples.taken.sum() == after.matrix.nnz
    assert examples.features.shape[1] == len(model.features)


def test_windows_are_one_horizon_apart(random_shop):
    model = Ranker(n_windows=3, horizon_days=7)
    model.items = random_shop.items
    end = int(random_shop.at.max()) + 1
    for n, (before, after, cutoff) in enumerate(model._windows(random_shop)):
        assert cutoff == end - (n + 1) * 7 * DAY_SECONDS
        assert before.at.max() < cutoff <= after.at.min()
        assert after.at.max() < cutoff + 7 * DAY_SECONDS


def test_a_filter_that_leaves_no_candidate_still_leaves_a_list(random_shop):
    model = Ranker(**{**QUICK, "n_candidates": 2}).fit(random_shop)
    asked = Histories.from_interactions(random_shop)[:1]
    candidates = model.candidates(asked, None)
    allowed = ~np.isin(np.arange(60), candidates.item)
    assert (model.recommend(asked, 5, allowed=allowed, exclude_seen=False).items >= 0).all()
    everything = model.recommend(asked, 60, exclude_seen=False).items[0]
    assert set(everything[: len(candidates.item)]) == set(candidates.item)


def test_strangers_get_the_sum_of_what_the_members_say(random_shop):
    model = Ranker(**QUICK).fit(random_shop)
    stranger = sparse.csr_matrix((1, 60))
    assert model.trees_sha256
    assert_array_equal(model.recommend(stranger, 60).items, Popularity().fit(random_shop).recommend(stranger, 60).items)


def test_too_few_users_to_learn_of_leave_the_sum_of_the_members(random_shop, tmp_path):
    few = random_shop.where(random_shop.user < 20)
    model = Ranker().fit(few)
    assert model.trees_sha256 == ""
    row = history(60, {3: 1.0, 5: 2.0})
    assert (model.recommend(row, 5).items >= 0).all()
    model.save(tmp_path / "model")
    same(load(tmp_path / "model").recommend(row, 5), model.recommend(row, 5))


def test_the_share_of_a_category_is_known_where_items_have_one(random_shop):
    category = np.arange(60) // 20
    names = ("brand=x", "category=a", "category=a > b", "category=c")
    cells = np.zeros((60, 4), np.float32)
    cells[:, 0] = 1
    cells[category == 0, 1] = 1
    cells[category == 0, 2] = 1
    cells[category == 1, 3] = 1
    shop = replace(random_shop, attributes=Attributes(names, sparse.csr_matrix(cells)))
    model = Ranker(n_candidates=60).fit(shop)
    asked = Histories.from_matrix(history(60, {1: 1.0, 2: 1.0, 30: 1.0, 50: 5.0}))
    found = model.candidates(asked, None)
    share = found.features[:, model.features.index("category_share")]
    assert_array_equal(share[category[found.item] == 0], 0.5)
    assert_array_equal(share[category[found.item] == 1], 0.25)
    assert np.isnan(share[category[found.item] == 2]).all()


def test_features_of_a_history_are_what_they_say(random_shop):
    model = Ranker(members=MEMBERS, n_candidates=60).fit(random_shop)
    day, now = DAY_SECONDS, 200 * DAY_SECONDS
    steps = [Step("i03", 1.0, now - 30 * day), Step("i03", 1.0, now - 10 * day), Step("i07", 2.0, now - 4 * day)]
    found = model.candidates(Histories.of_steps(model.items, [steps, []], now=now), None)
    known = pd.DataFrame(found.features, columns=model.features)
    known.insert(0, "row", found.row)
    of = {item: known[(found.row == 0) & (found.item == item)].iloc[0] for item in (3, 7, 8)}
    assert [of[item].n_taken for item in (3, 7, 8)] == [2, 1, 0]
    assert [of[item].weight_share for item in (3, 7, 8)] == [0.5, 0.5, 0]
    assert_array_equal([of[item].days_since_taken for item in (3, 7, 8)], [10, 4, np.nan])
    assert_array_equal([of[item].rhythm_of_user for item in (3, 7, 8)], [0.5, np.nan, np.nan])
    assert (of[8][["n_steps", "n_items", "days_since_last", "mean_gap_days"]] == [3, 2, 4, 13]).all()
    assert of[8].repeat_share == pytest.approx(1 / 3)
    stranger = known[known.row == 1]
    assert (stranger.n_steps == 0).all()
    assert stranger[["days_since_last", "mean_gap_days", "repeat_share", "days_since_taken"]].isna().all().all()
    for place in ("0_popularity_place", "1_item_neighbours_place"):
        assert sorted(known[place][known.row == 0]) == list(range((known.row == 0).sum()))


def test_changed_trees_are_caught(random_shop, tmp_path):
    Ranker(**QUICK).fit(random_shop).save(tmp_path / "model")
    file = tmp_path / "model" / "trees.txt"
    file.write_text(file.read_text().replace("leaf_value=0", "leaf_value=1", 1) + " ")
    with pytest.raises(ModelFileError, match=r"trees.txt is cut short or changed"):
        load(tmp_path / "model")
