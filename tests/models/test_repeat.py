"""Repeat: own items come back when they are due, by what was learnt of who took what again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from recommender_contract import RecommenderContract, history

from data.histories import Histories, Step
from data.interactions import Interactions
from models.recommenders import load
from models.recommenders.popularity import Popularity
from models.recommenders.repeat_purchase import RepeatPurchase, _days

DAY = 86_400
START = 1_700_000_000 // DAY * DAY


@pytest.fixture(scope="module")
def rhythms() -> Interactions:
    """200 people who take bread every 5 days and coffee every 40, each at days of their own, and once something else.

    Everything weighs alike, so that only the rhythm tells what comes next.
    """
    rng = np.random.default_rng(0)
    rows = []
    for user in range(200):
        for item, gap in (("bread", 5), ("coffee", 40)):
            days = np.cumsum(rng.normal(gap, gap / 10, 400 // gap)) - rng.integers(0, gap)
            rows += [(f"u{user}", item, day) for day in days if 0 <= day < 300]
        rows += [(f"u{user}", f"gift{rng.integers(50):02d}", rng.uniform(0, 300)) for _ in range(5)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "at"])
    return Interactions.from_frame(frame.assign(at=(START + frame["at"] * DAY).astype(int)))


class TestRepeatPurchase(RecommenderContract):
    recall_on_movielens = (0.15, 0.25)

    def make(self):
        return RepeatPurchase()

    def test_own_items_come_back_by_weight_and_then_the_popular(self, random_shop):
        model = RepeatPurchase().fit(random_shop)
        found = model.recommend(history(60, {7: 1.0, 3: 5.0, 9: 2.0}), 5, exclude_seen=False).items[0]
        popular = Popularity().fit(random_shop).recommend(history(60, {7: 1.0, 3: 5.0, 9: 2.0}), 2).items[0]
        assert_array_equal(found, [3, 9, 7, *popular])


def test_reasons_are_what_really_moves_the_score(rhythms):
    model = RepeatPurchase().fit(rhythms)
    asked = Histories.from_interactions(rhythms, users=np.array([3]), now=START + 300 * DAY)
    codes = np.arange(len(model.items))
    falls = model._score(asked, None) - model._score(asked.without_each(), None)
    assert_allclose(model._drops(asked, codes), falls.T, atol=1e-5)


def test_coefficients_are_learnt_where_things_come_back(rhythms, tmp_path):
    model = RepeatPurchase().fit(rhythms)
    assert len(model.b) == 7
    assert model.gap_days[model.items.code("bread")] == pytest.approx(5, rel=0.1)
    assert model.gap_days[model.items.code("coffee")] == pytest.approx(40, rel=0.1)
    model.save(tmp_path / "model")
    asked = Histories.from_interactions(rhythms, now=START + 300 * DAY)
    again = load(tmp_path / "model").recommend(asked, 3, exclude_seen=False)
    assert_array_equal(again.scores, model.recommend(asked, 3, exclude_seen=False).scores)


def test_what_is_due_comes_before_what_was_just_taken(rhythms):
    model = RepeatPurchase(horizon_days=5).fit(rhythms)
    now = START + 300 * DAY

    def steps(item, *days_ago):
        return [Step(item, at=now - days * DAY) for days in days_ago]

    due = steps("coffee", 160, 120, 80, 41)
    just_bought = steps("coffee", 160, 120, 80, 2)
    gift = steps("gift00", 60)
    rows = [due + gift, just_bought + gift]
    asked = Histories.of_steps(model.items, rows, now=now)
    coffee = model._score(asked, None)[:, model.items.code("coffee")]
    assert coffee[0] - 1 > 2 * (coffee[1] - 1)


def test_days_are_counted_once_and_gaps_are_whole():
    steps = [
        [("y", 0), ("x", 1), ("x", 1.2), ("x", 4.5)],
        [],
        [("x", 3)],
    ]
    rows = [[Step(item, at=START + int(day * DAY)) for item, day in row] for row in steps]
    asked = Histories.of_steps(RepeatPurchase().fit(_two_items()).items, rows, now=START + 10 * DAY)
    days, span, since = _days(asked)
    assert days.tolist() == [2, 1, 1]
    assert span.tolist() == pytest.approx([3.5, 0, 0])
    assert since.tolist() == pytest.approx([5.5, 10, 7])


def test_without_times_or_repeats_weights_order(rhythms):
    model = RepeatPurchase().fit(rhythms)
    asked = Histories.from_matrix(rhythms.matrix)
    best = model.recommend(asked, 1, exclude_seen=False).items[:, 0]
    assert_array_equal(best, asked.matrix.toarray().argmax(axis=1))
    assert not len(RepeatPurchase().fit(_two_items()).b)


def _two_items() -> Interactions:
    return Interactions.from_frame(pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"]}))
