"""Lifecycle stages, RFM cells and named segments."""

from __future__ import annotations

import ibis
import pandas as pd
import pytest

from data.errors import WorkspaceError
from features.segments import lifecycle_of, segment

PEOPLE = pd.DataFrame(
    [
        ("new", 0, 0, None, None, 0.0),
        ("first-time buyer", 1, 1, 20.0, None, 10.0),
        ("active", 2, 2, 20.0, 30.0, 20.0),
        ("loyal", 9, 6, 5.0, 30.0, 90.0),
        ("at risk", 3, 3, 100.0, 30.0, 30.0),
        ("lapsed", 1, 0, 400.0, None, 5.0),
        ("returned", 2, 1, 3.0, 300.0, 15.0),
    ],
    columns=["user_id", "orders_life", "orders_365d", "days_since_order", "order_gap_last_days", "spend_life"],
)


def test_each_stage_is_told_alike_over_a_table_and_a_frame():
    found = segment(ibis.memtable(PEOPLE), {}).execute()
    assert (found["lifecycle"] == found["user_id"]).all()
    assert lifecycle_of(PEOPLE).tolist() == PEOPLE["user_id"].tolist()


def test_rfm_scores_rank_buyers_only_and_equals_equally():
    found = segment(ibis.memtable(PEOPLE), {}).execute().set_index("user_id")
    assert found.loc["loyal", "rfm"] == "555"
    assert found.loc["lapsed", "rfm"] == "111"
    assert pd.isna(found.loc["new", "rfm"])
    assert found.loc["first-time buyer", "rfm_recency"] == found.loc["active", "rfm_recency"]


def test_without_money_a_cell_has_two_digits():
    found = segment(ibis.memtable(PEOPLE.drop(columns="spend_life")), {}).execute().set_index("user_id")
    assert found.loc["loyal", "rfm"] == "55"


def test_named_segments_become_columns_and_may_not_take_a_name():
    found = segment(ibis.memtable(PEOPLE), {"big": "spend_life > 18"}).execute().set_index("user_id")
    assert sorted(found.index[found["big"]]) == ["active", "at risk", "loyal"]
    with pytest.raises(WorkspaceError, match="built-in"):
        segment(ibis.memtable(PEOPLE), {"lifecycle": "True"})
