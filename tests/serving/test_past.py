"""The past: items that the same people touched."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.settings import Recommender
from data.tables import Tables
from serving.past import Past


@pytest.fixture
def past():
    touched = {"ann": "tea cup", "bob": "tea cup", "eve": "tea pan", "dan": "hat"}
    rows = [(user, item) for user, items in touched.items() for item in items.split()]
    return Past.of(
        Tables.from_frames(
            orders=pd.DataFrame(
                {
                    "order_id": [f"{user}-{item}" for user, item in rows],
                    "line_id": "1",
                    "user_id": [user for user, _ in rows],
                    "item_id": [item for _, item in rows],
                    "quantity": 1.0,
                    "occurred_at": pd.Timestamp("2026-01-01", tz="UTC"),
                }
            )
        ),
        Recommender(),
    )


def test_items_that_the_same_people_touched_are_alike_by_their_cosine(past):
    everything = np.ones(len(past.items), bool)
    alike = dict(past.alike("tea", everything))
    assert alike["cup"] == pytest.approx(2 / np.sqrt(3 * 2))
    assert alike["pan"] == pytest.approx(1 / np.sqrt(3))
    assert "hat" not in alike


def test_only_allowed_items_are_alike_and_an_unknown_item_has_none(past):
    allowed = np.array([item != "cup" for item in past.items.all_ids])
    assert "cup" not in dict(past.alike("tea", allowed))
    assert past.alike("unknown", allowed) == []
