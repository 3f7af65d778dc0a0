"""Recommenders are judged on what came after, against what everybody did, and nothing after the cutoff is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.settings import Settings
from data.tables import Tables
from evaluation.ranking import METRICS
from models.recommenders.item_neighbours import ItemNeighbours
from models.recommenders.popularity import Popularity
from training.judging import Contestant, JudgedRows, compared
from training.recipes import Recipe

CUTOFF = pd.Timestamp("2026-02-01", tz="UTC")
SETTINGS = Settings(recommender={"horizon_days": 7}, training={"bootstrap": 100})  # type: ignore[arg-type]


def shop(*later: tuple[str, str, int]) -> Tables:
    """Before the cutoff four people took tea and one a cup; further rows are a user, an item and the day after it."""
    before = [(user, "tea", -3) for user in "abcd"] + [("e", "cup", -2)]
    rows = pd.DataFrame([*before, ("a", "cup", 1), ("e", "hat", 2), *later], columns=["user_id", "item_id", "day"])
    rows["occurred_at"] = CUTOFF + pd.to_timedelta(rows.pop("day"), unit="D")
    rows["event"], rows["event_id"] = "product_added", [str(n) for n in range(len(rows))]
    items = pd.DataFrame(
        {
            "item_id": ["cup", "pot", "tea", "rice", "hat"],
            "category": ["ware", "ware", "food", "food", "food"],
            "updated_at": CUTOFF + pd.to_timedelta([-9, -9, -9, -9, 1], unit="D"),
        }
    )
    return Tables.from_frames(events=rows, items=items)


def test_popularity_novelty_and_categories_are_those_of_everybody() -> None:
    rows = JudgedRows.at(shop(), SETTINGS, CUTOFF, seed=0)
    assert rows.known.users.ids(rows.users) == ["a", "e"]
    assert sorted(rows.items.all_ids) == ["cup", "hat", "pot", "rice", "tea"]
    shown = np.array([[rows.items.code("tea")], [rows.items.code("pot")]])
    found = rows.measured(shown, rows.items)
    assert found.popularity.tolist() == [0.8, 0.0]
    assert found.novelty == pytest.approx(-np.log2([5 / 6, 1 / 6]))
    assert found.miscalibration == pytest.approx([0, 0], abs=1e-12)  # both are shown what they are used to
    assert found.coverage == 2 / 5
    assert np.isnan(found.recall_of_cold_items[0])
    assert found.recall_of_cold_items[1] == 0  # nobody had the hat


def test_nothing_that_happens_after_the_cutoff_is_known_before_it() -> None:
    one = JudgedRows.at(shop(), SETTINGS, CUTOFF, seed=0)
    more = JudgedRows.at(shop(("a", "new", 0), ("b", "tea", 3), ("new", "cup", 5)), SETTINGS, CUTOFF, seed=0)
    for name in ("user", "item", "weight", "at", "kind"):
        assert np.array_equal(getattr(one.known, name), getattr(more.known, name)), name
    assert one.known.items == more.known.items
    assert one.known.users == more.known.users
    assert one.known.attributes is not None
    assert more.known.attributes is not None
    assert one.known.attributes.names == more.known.attributes.names
    assert (one.known.attributes.matrix != more.known.attributes.matrix).nnz == 0
    assert (more.histories.at < CUTOFF.timestamp()).all()
    assert len(more.users) > len(one.users)


def test_every_measure_reaches_the_comparison() -> None:
    rows = JudgedRows.at(shop(), SETTINGS, CUTOFF, seed=0)
    recipes = [Recipe("popularity", exclude_seen=True), Recipe("popularity")]
    model = Popularity().fit(rows.known)
    found = compared(rows, [Contestant(str(recipe), recipe, model) for recipe in recipes], SETTINGS)
    metrics = found.rows[0].metrics
    assert next(iter(metrics)) == found.metric == "ndcg_at_10"
    assert {f"{metric}_at_10" for metric in METRICS} < set(metrics)
    assert {"coverage_at_10", "exposure_gini_at_10", "recall_at_10_of_strangers"} < set(metrics)
    assert metrics["coverage_at_10"].estimate == 4 / 5  # the hat came later
    assert metrics["diversity_at_10"].estimate > 0


def test_strangers_are_judged_on_what_serving_shows_them_where_a_model_has_nothing_for_them() -> None:
    rows = JudgedRows.at(shop(("new", "tea", 1), ("b", "tea", 1)), SETTINGS, CUTOFF, seed=0)
    model, popular = ItemNeighbours().fit(rows.known), Popularity().fit(rows.known)
    stranger = rows.users < 0
    shown = rows.served(model, exclude_seen=True, k=2)
    assert rows.items.ids(shown[stranger][0]) == ["tea", "cup"]
    own = model.recommend(rows.histories, 2).items
    assert (own[stranger] == -1).all()
    np.testing.assert_array_equal(shown[~stranger], own[~stranger])
    recall = rows.judge(model, exclude_seen=True).interval("recall", "cold").estimate
    assert recall == rows.judge(popular, exclude_seen=True).interval("recall", "cold").estimate == 1
