"""Habits are read from rows of features, say what the models beneath them say, and come back as they were stored."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from models.lifetime import BgNbd, GammaGamma, Habits, from_features
from models.lifetime.habits import EXPECTED_MONEY, SAID


def people(n: int = 1500, seed: int = 0) -> pd.DataFrame:
    """Rows of a snapshot: customers of a year, who order at rates of their own and spend around means of their own."""
    rng = np.random.default_rng(seed)
    age = rng.integers(30, 365, n)
    orders = 1 + rng.poisson(rng.gamma(0.8, 1 / 60, n) * age)
    gap = np.where(orders > 1, age * rng.beta(orders, 1), 0.0).round()
    mean = rng.gamma(20, 2, n)
    first = rng.gamma(20, 2, n)
    return pd.DataFrame({
        "orders_life": orders, "days_since_order": age - gap, "days_since_first_order": age.astype(float),
        "order_value_mean": (mean * (orders - 1) + first) / orders, "order_value_first": first, "return_share": 0.0,
    })  # fmt: skip


def test_a_summary_is_read_from_features_and_missing_prices_count_as_the_persons_mean() -> None:
    frame = people(3)
    frame.loc[0, ["orders_life", "order_value_mean", "order_value_first"]] = [2, 10.0, np.nan]
    told = from_features(frame)
    assert told.first_spend[0] == 10.0
    assert told.mean_spend[0] == pytest.approx(10.0)
    assert (told.recency_weeks <= told.age_weeks).all()


def test_somebody_who_never_ordered_and_a_shop_without_prices_are_refused() -> None:
    frame = people(3)
    with pytest.raises(DataError, match=r"row 1 never ordered"):
        from_features(frame.assign(orders_life=[1, 0, 2]))
    with pytest.raises(DataError, match=r"'order_value_mean' is not there.*orders\.unit_price"):
        from_features(frame.drop(columns="order_value_mean"))


def test_who_sends_everything_back_is_expected_to_be_worth_little() -> None:
    frame = pd.concat([people(1).assign(orders_life=5, order_value_mean=1e6, order_value_first=1e6)] * 3)
    told = from_features(frame.assign(return_share=[0.0, 1.0, np.nan]))
    np.testing.assert_array_equal(told.mean_spend, [1e6, 0.0, 1e6])
    habits = Habits(BgNbd(r=0.5, alpha=6.0, a=0.8, b=2.4), GammaGamma(p=6.0, q=4.0, gamma=15.0))
    kept, sent_back, _ = habits.told(told, 10)[EXPECTED_MONEY]
    assert sent_back < 1e-4 * kept


def test_fitted_habits_come_back_as_they_were_stored() -> None:
    told = from_features(people())
    habits = Habits.fit(told)
    again = Habits.from_json(json.loads(json.dumps(habits.as_json())))
    assert again == habits
    pd.testing.assert_frame_equal(again.told(told, 13), habits.told(told, 13))
    assert list(habits.told(told, 13)) == list(SAID)


def test_nobody_who_ordered_again_is_refused() -> None:
    frame = people(30).assign(orders_life=1)
    with pytest.raises(DataError, match="none of 30 customers bought again"):
        Habits.fit(from_features(frame))
