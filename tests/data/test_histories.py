"""Histories keep the order of time, and every way of making and cutting them agrees."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from data.histories import Histories, Step
from data.interactions import Interactions


@pytest.fixture
def known() -> Interactions:
    frame = pd.DataFrame(
        {
            "user_id": ["a", "a", "a", "c"],
            "item_id": ["y", "x", "y", "z"],
            "weight": [1.0, 2.0, 3.0, 4.0],
            "at": [30, 10, 20, 5],
            "kind": ["view", "view", "order", "order"],
        }
    )
    return Interactions.from_frame(frame)


def test_rows_are_in_the_order_of_time_with_their_kinds(known):
    found = Histories.from_interactions(known)
    assert found.item[:3].tolist() == [0, 1, 1]
    assert found.at.tolist() == [10, 20, 30, 5]
    assert [found.kinds[code] for code in found.kind] == ["view", "order", "view", "order"]
    assert found.now.tolist() == [30, 5]
    assert_array_equal(found.matrix.toarray(), known.matrix.toarray())


def test_chosen_users_come_in_the_order_asked_and_a_stranger_has_nothing(known):
    found = Histories.from_interactions(known, users=np.array([1, -1, 0]), now=99)
    assert found.indptr.tolist() == [0, 1, 1, 4]
    assert found.now.tolist() == [99, 99, 99]
    assert_array_equal(found.matrix.toarray(), [[0, 0, 4], [0, 0, 0], [2, 4, 0]])


def test_steps_by_id_equal_interactions(known):
    steps = [Step("y", 1, 30, "view"), Step("x", 2, 10, "view"), Step("hat", 9, 1), Step("y", 3, 20, "order")]
    found, expected = Histories.of_steps(known.items, [steps], now=30), Histories.from_interactions(known)[:1]
    for name in ("item", "weight", "at", "now", "indptr"):
        assert_array_equal(getattr(found, name), getattr(expected, name))
    assert [found.kinds[code] for code in found.kind] == [expected.kinds[code] for code in expected.kind]


def test_some_rows_some_steps_and_another_catalogue(known):
    whole = Histories.from_interactions(known)
    assert_array_equal(whole[np.array([1, 0, 1])].matrix.toarray(), known.matrix.toarray()[[1, 0, 1]])
    assert_array_equal(whole.where(whole.weight > 1).matrix.toarray(), [[2, 3, 0], [0, 0, 4]])
    other = whole.recoded(np.array([4, -1, 0]), 5)
    assert_array_equal(other.matrix.toarray(), [[0, 0, 0, 0, 2], [4, 0, 0, 0, 0]])


def test_each_distinct_item_is_left_out_once(known):
    without = Histories.from_interactions(known)[:1].without_each()
    assert_array_equal(without.matrix.toarray(), [[0, 4, 0], [2, 0, 0]])


def test_a_matrix_is_histories_without_times(known):
    found = Histories.from_matrix(known.matrix)
    assert_array_equal(found.matrix.toarray(), known.matrix.toarray())
    assert not found.at.any()
