"""Interactions: codes, weights and times in one order, whatever the order of the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.interactions import Interactions
from data.vocabulary import Vocabulary

ROW = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from([0.5, 1.0, 4.0]), st.integers(0, 9))


def frame(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "weight", "at"])


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=15), data=st.data())
def test_the_order_of_rows_does_not_matter(rows: list[tuple], data: st.DataObject) -> None:
    one, other = (Interactions.from_frame(frame(r)) for r in (rows, data.draw(st.permutations(rows))))
    assert one.users == other.users
    assert one.items == other.items
    for name in ("user", "item", "at"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert (one.matrix != other.matrix).nnz == 0


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=15), moment=st.integers(-1, 10))
def test_a_moment_parts_them_in_two_that_share_their_ids(rows: list[tuple], moment: int) -> None:
    whole = Interactions.from_frame(frame(rows))
    before, since = whole.before(moment), whole.since(moment)
    assert len(before) + len(since) == len(whole) == len(rows)
    assert (before.at < moment).all()
    assert (since.at >= moment).all()
    assert before.matrix.shape == since.matrix.shape == whole.matrix.shape


def test_weights_of_one_user_and_item_add_up() -> None:
    found = Interactions.from_frame(frame([("a", "x", 1.0, 1), ("a", "x", 0.5, 2), ("b", "y", 2.0, 1)]))
    assert found.matrix.toarray().tolist() == [[1.5, 0.0], [0.0, 2.0]]


def test_without_weights_each_counts_one() -> None:
    assert Interactions.from_frame(pd.DataFrame({"user_id": ["a"], "item_id": ["x"]})).weight.tolist() == [1.0]


def test_given_ids_fix_the_codes_and_leave_others_out() -> None:
    items = Vocabulary(["y", "x"])
    found = Interactions.from_frame(frame([("a", "x", 1.0, 1), ("a", "z", 1.0, 2)]), items=items)
    assert found.item.tolist() == [1]
    assert found.items is items
    assert len(Interactions.from_frame(frame([("a", "x", 1.0, 1)]), items=Vocabulary([]))) == 0


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_is_no_positive_number_is_refused(weight: float) -> None:
    with pytest.raises(DataError, match="1 of 2 interactions have no positive finite weight"):
        Interactions.from_frame(frame([("a", "x", weight, 1), ("a", "x", 1.0, 1)]))


@pytest.mark.parametrize("missing", [None, np.nan])
def test_a_guest_is_nobody_and_not_a_user_called_none(missing: object) -> None:
    with pytest.raises(DataError, match="user_id: 1 interactions have none"):
        Interactions.from_frame(frame([(missing, "x", 1.0, 1), ("a", "x", 1.0, 1)]))
