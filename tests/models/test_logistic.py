"""The regression half: what it learns, holds to and keeps."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit

from data.errors import NotFittedError
from models.logistic import RidgeLogistic


def rows(n=2_000, seed=0):
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.exponential(30, n), rng.normal(size=n), rng.integers(0, 3, n).astype(float), np.ones(n)])
    label = (rng.random(n) < expit(np.log1p(x[:, 0]) - 3 + (x[:, 2] == 1))).astype(float)
    x[::10, 0], x[5::10, 2] = np.nan, np.nan
    return x, label


@pytest.fixture(scope="module")
def fitted():
    x, label = rows()
    return RidgeLogistic(l2=10).fit(x, label, categories={2: 3})


def test_its_mean_is_the_rate_and_weights_count(fitted):
    x, label = rows()
    assert expit(fitted.log_odds(x)).mean() == pytest.approx(label.mean(), abs=1e-3)
    weight = np.where(label == 1, 2.0, 1.0)
    weighted = RidgeLogistic(l2=10).fit(x, label, categories={2: 3}, weight=weight)
    assert expit(weighted.log_odds(x)) @ weight / weight.sum() == pytest.approx(label @ weight / weight.sum(), abs=1e-3)


def test_contributions_add_up_and_what_never_changes_says_nothing(fitted):
    x, _ = rows(50, 1)
    parts = fitted.contributions(x)
    assert_allclose(parts.sum(axis=1) + fitted.intercept, fitted.log_odds(x))
    assert (parts[:, 3] == 0).all()
    assert np.argmax(fitted.strengths(4)) in (0, 2)


def test_a_direction_is_held_against_the_data():
    x, label = rows()
    free = RidgeLogistic(l2=10).fit(x, label, categories={2: 3})
    held = RidgeLogistic(l2=10).fit(x, label, categories={2: 3}, monotone={0: -1})
    grid = np.tile(x[1], (50, 1))
    grid[:, 0] = np.linspace(0, 200, 50)
    assert np.ptp(free.log_odds(grid)) > 0.5
    assert (np.diff(held.log_odds(grid)) <= 1e-12).all()


def test_a_strong_penalty_leaves_the_rate_alone():
    x, label = rows()
    model = RidgeLogistic(l2=1e9).fit(x, label, categories={2: 3})
    assert_allclose(expit(model.log_odds(x)), label.mean(), atol=1e-3)


def test_what_was_written_reads_back_the_same(fitted):
    x, _ = rows(100, 2)
    told = json.loads(json.dumps(fitted.to_json()))
    assert_array_equal(RidgeLogistic.from_json(told).log_odds(x), fitted.log_odds(x))
    with pytest.raises(ValueError, match="weights"):
        RidgeLogistic.from_json({**told, "weights": told["weights"][:-1]})
    with pytest.raises(NotFittedError, match="fit"):
        RidgeLogistic().log_odds(x)
