"""Expectation and interval hold together, who never ordered has neither, and nothing is lost on the way to disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError, ModelFileError, NotFittedError
from models.baselines import CellMeans
from models.lifetime import BgNbd, GammaGamma, Habits
from models.value import Value
from models.worth import Band, CustomerValue

HABITS = Habits(BgNbd(r=0.5, alpha=6.0, a=0.8, b=2.4), GammaGamma(p=6.0, q=4.0, gamma=15.0))


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """Customers of a year and one visitor; `visits` is not known of everybody, `member` is a yes or a no."""
    rng = np.random.default_rng(0)
    n = 1200
    age = rng.integers(30, 365, n).astype(float)
    frame = pd.DataFrame({
        "orders_life": rng.poisson(2, n) + 1, "days_since_order": age * rng.random(n), "days_since_first_order": age,
        "order_value_mean": rng.gamma(9, 4, n), "visits": np.where(rng.random(n) < 0.1, np.nan, rng.poisson(4, n)),
    })  # fmt: skip
    frame["return_share"] = np.where(rng.random(n) < 0.2, 0.5, 0.0)
    frame["order_value_first"] = frame["order_value_mean"]
    frame["member"] = rng.random(n) < 0.3
    frame.loc[n - 1, list(frame)[:4]] = [0, np.nan, np.nan, np.nan]
    return frame


@pytest.fixture(scope="module")
def model(people: pd.DataFrame) -> CustomerValue:
    customers = people[people.orders_life > 0].reset_index(drop=True)
    rows = CustomerValue(HABITS, horizon_days=90).rows(customers, list(people))
    expected = rows["expected_money"].to_numpy()
    more = np.where(customers.visits > 4, 1.6, 0.7)
    rng = np.random.default_rng(1)
    trees = (
        Value(kind="spend", min_rows_in_leaf=50).fit(rows, expected * more * rng.exponential(size=len(rows)), expected),
        Value(kind="purchases", min_rows_in_leaf=50).fit(
            rows, rng.poisson(rows["expected_orders"] * more).astype(float), rows["expected_orders"].to_numpy()
        ),
    )
    found = CustomerValue(HABITS, horizon_days=90, trees=trees, order_value_level=1.1)
    found.band = Band.fit(found.expect(customers)[0], expected * more)
    return found


def test_every_expectation_lies_in_its_interval_and_who_never_ordered_has_none(people, model) -> None:
    worth = model.predict(people)
    assert np.isnan([worth.value[-1], worth.low[-1], worth.high[-1], worth.orders[-1]]).all()
    known = slice(0, -1)
    assert (worth.low[known] <= worth.value[known]).all()
    assert (worth.value[known] <= worth.high[known]).all()
    assert (worth.orders[known] >= 0).all()


def test_trees_tell_apart_whom_the_habits_hold_alike(people, model) -> None:
    plain = CustomerValue(HABITS, horizon_days=90)
    customers = people[people.orders_life > 0]
    more = model.expect(customers)[0] / plain.expect(customers)[0]
    assert more[customers.visits > 4].mean() > 1.2 * more[customers.visits <= 4].mean()
    assert model.importance().index[0] == "visits"
    assert "visits" in model.features
    assert not set(model.features) & {"expected_money", "expected_orders"}


def test_it_comes_back_as_it_was_stored_with_columns_in_any_order(people, model, tmp_path: Path) -> None:
    model.save(tmp_path / "value")
    loaded = CustomerValue.load(tmp_path / "value")
    expected, found = model.predict(people), loaded.predict(people[sorted(people)].astype(object))
    for name in ("value", "low", "high", "orders"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert {file.suffix for file in (tmp_path / "value").rglob("*") if file.is_file()} == {".json", ".txt"}


def test_a_damaged_folder_and_an_unfinished_model_say_what_to_do(people, model, tmp_path: Path) -> None:
    model.save(tmp_path / "value")
    (tmp_path / "value" / "money" / "trees.txt").write_text("tree")
    with pytest.raises(ModelFileError, match="cut short or changed"):
        CustomerValue.load(tmp_path / "value")
    plain = CustomerValue(HABITS, horizon_days=90)
    with pytest.raises(NotFittedError, match="no interval yet"):
        plain.predict(people)
    with pytest.raises(NotFittedError, match="no interval yet"):
        plain.save(tmp_path / "other")
    with pytest.raises(DataError, match="'orders_life' is not there"):
        model.predict(people.drop(columns="orders_life"))


def test_nobody_at_all_is_an_empty_answer(people, model) -> None:
    assert len(model.predict(people.iloc[:0]).value) == 0
    assert np.isnan(model.predict(people.iloc[-1:]).value).all()


def test_a_band_holds_its_share_of_later_customers_of_each_group() -> None:
    rng = np.random.default_rng(0)
    expected = rng.gamma(1, 50, 8000)
    came = expected * rng.exponential(size=8000) * (rng.random(8000) < 0.9) / 0.9
    band = Band.fit(expected[:4000], came[:4000], level=0.8)
    low, high = band.ends(expected[4000:])
    inside = (low <= came[4000:]) & (came[4000:] <= high)
    for part in np.array_split(np.argsort(expected[4000:]), 4):
        assert 0.74 < inside[part].mean() < 0.90  # those who spend nothing lie on the lower end


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=120), st.floats(0, 1e7))
def test_a_band_of_whatever_data_holds_the_expectation(pairs: list[tuple[float, float]], asked: float) -> None:
    expected, came = np.array(pairs).T
    low, high = Band.fit(expected, came).ends(np.array([asked]))
    assert 0 <= low[0] <= asked <= high[0] < np.inf


def test_means_of_customers_alike_stand_in_for_the_models_and_are_stored(people: pd.DataFrame, tmp_path: Path) -> None:
    customers = people[people.orders_life > 0]
    money = customers.orders_life.to_numpy(np.float64) * 10
    model = CustomerValue(HABITS, horizon_days=90, means=CellMeans.fit(customers[["orders_life"]], money, money / 20))
    model.band = Band.fit(model.expect(customers)[0], money)
    model.save(tmp_path / "model")
    found = CustomerValue.load(tmp_path / "model")
    assert found.features == ["orders_life"]
    worth = found.predict(people[["orders_life"]])
    np.testing.assert_array_equal(worth.value, model.predict(people).value)
    assert np.isnan(worth.value[-1])
    np.testing.assert_allclose(worth.value[:-1] / 20, worth.orders[:-1])
