"""Tables as they come: numbers in text, dates, ids, constants, many categories, columns of one value."""

from __future__ import annotations

import decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from models.columns import Columns


def kinds(table: pd.DataFrame) -> dict[str, str]:
    return {name: column.kind for name, column in Columns.learn(table).read.items()}


def one(values, **options) -> pd.Series:
    """The only column, read."""
    table = pd.DataFrame({"x": pd.Series(values, **options)})
    return Columns.learn(table)(table)["x"]


@pytest.mark.parametrize(
    ("written", "number"),
    [("1,234.50", 1234.5), ("$12", 12.0), ("€ 3.5", 3.5), ("7 %", 7.0), (" -2 ", -2.0), ("1e3", 1000.0), ("", np.nan)],
)
def test_numbers_are_read_as_people_write_them(written, number):
    assert one(["1", "2", written] * 10).iloc[2] == pytest.approx(number, nan_ok=True)


@pytest.mark.parametrize(("written", "number"), [("1.234,50", 1234.5), ("-3,5", -3.5), ("7", 7.0), ("12,5 €", 12.5)])
def test_a_comma_before_the_decimals_is_learnt_of_the_column(written, number):
    columns = Columns.learn(pd.DataFrame({"x": ["0,12", "1,375", "2,5", written] * 10}))
    kept = Columns.from_json(columns.to_json())
    assert kept(pd.DataFrame({"x": [written, "0,125"]}))["x"].tolist() == pytest.approx([number, 0.125])


def test_a_few_words_among_numbers_are_missing():
    read = one([*map(str, range(0, 198, 2)), "unlimited"])
    assert read.dtype == np.float64
    assert read.isna().tolist() == [False] * 99 + [True]


def test_yes_and_no_and_truth_are_numbers():
    assert one(["Yes", "no"] * 5).tolist() == [1.0, 0.0] * 5
    assert one([True, False, None] * 5, dtype="object").tolist()[:2] == [1.0, 0.0]
    assert one([True, False] * 5).tolist() == [1.0, 0.0] * 5
    assert one([True, None] * 5, dtype="boolean").isna().tolist() == [False, True] * 5


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y-%m-%dT%H:%M:%S"])
def test_dates_become_days(form):
    days = pd.date_range("2024-01-01", periods=60)
    read = one(days.strftime(form).tolist())
    assert np.diff(read).tolist() == [1.0] * 59
    assert read.iloc[0] == pytest.approx(19723)


def test_times_of_every_kind_become_days():
    days = pd.date_range("1970-01-02", periods=4)
    assert one(days).tolist() == [1, 2, 3, 4]
    assert one(days.tz_localize("UTC")).tolist() == [1, 2, 3, 4]
    assert one([*days, pd.NaT]).isna().sum() == 1
    assert one(pd.to_timedelta([1, 2], unit="D")).tolist() == [1, 2]


def test_categories_keep_the_common_and_join_the_rare():
    read = one(["red"] * 50 + ["blue"] * 40 + ["teal", "pink"] + [None] * 8)
    assert read.value_counts().to_dict() == {"red": 50, "blue": 40, "(missing)": 8, "(other)": 2}


def test_what_was_never_seen_is_another_or_missing():
    table = pd.DataFrame({"plan": ["a", "b"] * 30, "spend": [1.0, 2.5] * 30})
    later = pd.DataFrame({"spend": ["much", "3"], "plan": ["c", None], "new": [1, 2]}, index=[7, 9])
    read = Columns.learn(table)(later)
    assert read["plan"].tolist() == ["(other)", "(missing)"]
    assert read["spend"].iloc[1] == 3
    assert np.isnan(read["spend"].iloc[0])
    assert read.index.tolist() == [7, 9]


def test_what_says_nothing_is_left_out_with_the_reason():
    table = pd.DataFrame(
        {
            "row": np.random.default_rng(0).permutation(200),
            "key": [f"c-{i}" for i in range(200)],
            "shop": "one",
            "empty": [None] * 200,
            "blank": [" "] * 200,
            "since": pd.Timestamp("2024-01-01"),
            "spend": np.random.default_rng(0).normal(size=200),
        }
    )
    columns = Columns.learn(table)
    assert list(columns.read) == ["spend"]
    assert dict(columns.left_out) == {
        "row": "numbers the rows",
        "key": "nearly every value is another",
        "shop": "never changes",
        "empty": "never changes",
        "blank": "never changes",
        "since": "never changes",
    }


def test_many_categories_are_bounded():
    names = [f"shop {i}" for i in range(300)]
    assert one(names * 20).nunique() == 65


def test_odd_objects_are_read_as_text():
    values = [["a"], {"b": 1}, ("c",), decimal.Decimal("1.5")] * 10
    assert one(values, dtype="object").nunique() == 4
    assert one([decimal.Decimal("1.5"), decimal.Decimal(2)] * 5, dtype="object").tolist()[:2] == [1.5, 2.0]
    assert one(pd.Categorical([1, 2] * 5)).tolist()[:2] == [1.0, 2.0]
    assert kinds(pd.DataFrame({1: [0.5, 1], "y": pd.Categorical(["u", "v"])})) == {"1": "number"}


def test_a_column_that_vanished_or_a_table_without_any_is_refused():
    columns = Columns.learn(pd.DataFrame({"spend": [1.0, 2.0]}))
    with pytest.raises(DataError, match="'spend' is not there"):
        columns(pd.DataFrame({"other": [1]}))
    with pytest.raises(DataError, match="shop: never changes"):
        Columns.learn(pd.DataFrame({"shop": ["one", "one"]}))
    with pytest.raises(DataError, match="two columns are called 'a'"):
        Columns.learn(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]))


cells = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.dates(), st.datetimes(), st.binary()
)


@settings(max_examples=50, deadline=None)
@given(st.lists(cells, min_size=1, max_size=30))
def test_any_column_is_read_or_left_out(values):
    table = pd.DataFrame({"x": pd.Series(values, dtype="object"), "spend": np.arange(len(values)) * 0.5, "z": 1.5})
    table.loc[0, "z"] = 2.5
    if len(values) > 1:
        read = Columns.learn(table)(table)
        assert len(read) == len(values)
        assert not read.select_dtypes("number").isin([np.inf, -np.inf]).any(axis=None)
        assert read.select_dtypes(exclude="number").notna().all(axis=None)
