"""Calibration mends levels, keeps the order, and never says certain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from evaluation.classification import evaluate
from models.calibration import Calibration


def overconfident(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds twice as far from 0 as the truth, and one too high."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.2, n)
    return 2 * truth + 1, (rng.random(n) < 1 / (1 + np.exp(-truth))).astype(int)


@pytest.mark.parametrize(("n", "kind"), [(1_900, "logistic"), (8_000, "isotonic")])
def test_later_rows_mend_what_was_overconfident(n, kind):
    calibration = Calibration.fit(*overconfident(n))
    assert calibration.kind == kind
    log_odds, label = overconfident(20_000, 1)
    before = evaluate(label, Calibration()(log_odds), resamples=100)
    after = evaluate(label, calibration(log_odds), resamples=100)
    assert after.calibration_error.estimate < 0.03 < before.calibration_error.estimate
    assert after.calibration_slope.estimate == pytest.approx(1, abs=0.15)
    assert after.roc_auc.estimate == pytest.approx(before.roc_auc.estimate, abs=0.002)


def test_the_logistic_map_is_that_of_scikit_learn_on_many_rows():
    log_odds, label = overconfident(1_900)
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(log_odds[:, None], label)
    found = Calibration.fit(log_odds, label)
    assert found.slope == pytest.approx(expected.coef_[0, 0], abs=0.01)
    assert found.intercept == pytest.approx(expected.intercept_[0], abs=0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 12, 300, 5_000]))
def test_it_never_turns_the_order_round_and_stays_within_zero_and_one(seed, n):
    rng = np.random.default_rng(seed)
    log_odds, label = rng.normal(size=n), rng.integers(0, 2, n)
    label[:2] = 0, 1
    calibration = Calibration.fit(log_odds, label)
    probability = calibration(np.linspace(-50, 50, 200))
    assert (np.diff(probability) >= 0).all()
    assert (probability >= 0).all()
    assert (probability <= 1).all()


def test_perfectly_ranked_rows_do_not_make_it_certain():
    log_odds = np.linspace(-3, 3, 4_000)
    calibration = Calibration.fit(log_odds, (log_odds > 0).astype(int))
    assert 0 < calibration(np.array([-99.0]))[0] < calibration(np.array([99.0]))[0] < 1


def test_json_brings_it_back():
    for n in (100, 8_000):
        calibration = Calibration.fit(*overconfident(n))
        assert Calibration(**calibration.to_json()) == calibration


@pytest.mark.parametrize("n", [1_900, 8_000])
def test_a_map_is_moved_to_another_models_level_and_keeps_its_shape(n):
    calibration = Calibration.fit(*overconfident(n))
    log_odds, _ = overconfident(3_000, 2)
    weight = np.linspace(0, 1, 3_000)
    moved = calibration.at_rate(log_odds, 0.3, weight=weight)
    assert moved.kind == calibration.kind
    assert np.average(moved(log_odds), weights=weight) == pytest.approx(0.3, abs=1e-6)
    assert (np.diff(moved(np.sort(log_odds))) >= 0).all()
    assert Calibration().at_rate(log_odds, 0.3).slope == 1
