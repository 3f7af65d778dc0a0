"""A plain table is learnt from as it comes, and what cannot be learnt is refused by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from evaluation.classification import evaluate
from training import tabular
from training.tabular import fit_table, label_of


def customers(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Mixed columns, and who churned: by tenure, plan and spend."""
    rng = np.random.default_rng(seed)
    tenure, spend = rng.integers(0, 72, n), rng.gamma(2, 30, n)
    plan = rng.choice(["month", "year"], n)
    log_odds = 1 - tenure / 24 + (plan == "month") + 0.01 * spend
    label = (rng.random(n) < 1 / (1 + np.exp(-log_odds))).astype(int)
    table = pd.DataFrame(
        {
            "id": [f"c{i}" for i in range(n)],
            "tenure": tenure,
            "spend": np.where(rng.random(n) < 0.1, " ", spend.round(2).astype(str)),
            "plan": plan,
            "since": pd.Timestamp("2024-01-01") - pd.to_timedelta(tenure * 30, unit="D"),
            "city": rng.choice([f"city {i}" for i in range(200)], n),
            "shop": "one",
        }
    )
    return table, label


def test_it_foresees_from_mixed_columns_and_means_what_it_says():
    table, label = customers(3_000)
    model = fit_table(table[:2_000], label[:2_000], trials=2)
    found = evaluate(label[2_000:], model.predict(table[2_000:]), resamples=100)
    assert found.roc_auc.low > 0.7
    assert 0.8 < found.calibration_slope.estimate < 1.25
    assert set(model.columns.left_out) == {"id", "shop"}
    assert model.trials <= 2


def test_many_rare_words_are_read_by_how_often_each_was_positive():
    rng = np.random.default_rng(3)
    shop, x = rng.integers(0, 400, 3_000), rng.normal(size=3_000)
    log_odds = rng.normal(0, 1.5, 400)[shop] + 0.5 * x
    label = (rng.random(3_000) < 1 / (1 + np.exp(-log_odds))).astype(int)
    table = pd.DataFrame({"shop": [f"shop {s}" for s in shop], "x": x})
    model = fit_table(table[:2_000], label[:2_000], trials=1)
    found = evaluate(label[2_000:], model.predict(table[2_000:]), resamples=100)
    assert found.roc_auc.low > 0.68  # .61 from x alone
    assert 0.8 < found.calibration_slope.estimate < 1.25
    never_seen = table[2_000:].assign(shop="another")
    assert np.isfinite(model.predict(never_seen)).all()


def test_the_same_rows_and_seed_give_the_same_model():
    table, label = customers(600)
    first, second = (fit_table(table, label, trials=1, seed=3).predict(table) for _ in range(2))
    assert (first == second).all()


def test_noise_is_given_nearly_the_rate():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"a": rng.normal(size=500), "b": rng.choice(["u", "v"], 500)})
    label = (rng.random(500) < 0.3).astype(int)
    assert np.ptp(fit_table(table, label, trials=1).predict(table)) < 0.4


def test_no_time_still_gives_a_model():
    table, label = customers(400)
    assert fit_table(table, label, minutes=0).trials == 1


def test_more_rows_than_are_chosen_on_are_learnt_from(monkeypatch):
    monkeypatch.setattr(tabular, "SEARCH_ROWS", 300)
    table, label = customers(1_000)
    model = fit_table(table, label, trials=1)
    assert evaluate(label, model.predict(table), resamples=50).roc_auc.low > 0.7


def test_too_few_of_a_class_and_empty_columns_are_refused():
    table, label = customers(100)
    with pytest.raises(DataError, match="at least 10 are needed"):
        fit_table(table, np.repeat([1, 0], [3, 97]))
    with pytest.raises(DataError, match="never changes"):
        fit_table(table[["shop"]], label)


@pytest.mark.parametrize(
    ("values", "positive", "y"),
    [
        (["Yes", "No", "No"], "Yes", [1, 0, 0]),
        ([0, 1, 1], "1", [0, 1, 1]),
        ([True, False, True], "True", [1, 0, 1]),
        ([1.0, None, 0.0], "1.0", [1, 0]),
        (["<=50K", ">50K", "<=50K"], ">50K", [0, 1, 0]),
        (["no", " yes ", ""], "yes", [0, 1]),
        (["no", "?", "yes", "N/A"], "yes", [0, 1]),
    ],
)
def test_two_values_become_a_label(values, positive, y):
    found = label_of(pd.Series(values, name="churn"))
    assert (found.positive, found.y.tolist()) == (positive, y)
    assert found.known.sum() == len(y)


def test_a_target_of_other_than_two_values_is_refused():
    with pytest.raises(DataError, match=r"rating: 3 values \('1', '2', '3'\)"):
        label_of(pd.Series([1, 2, 3], name="rating"))
    with pytest.raises(DataError, match="1 values"):
        label_of(pd.Series(["No"] * 5, name="churn"))
