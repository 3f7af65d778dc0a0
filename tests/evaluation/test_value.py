"""Measures of foreseen money: against scikit-learn, by hand, and where there is nothing to measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import d2_tweedie_score

from evaluation.intervals import bootstrap
from evaluation.plots import value_by_decile_chart, value_calibration
from evaluation.value import (
    MEASURES,
    came_per_expected,
    coverage,
    mae,
    rmse,
    top_tenth_share,
    tweedie_d2,
    value_by_decile,
)


@pytest.fixture
def foreseen() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    expected = rng.gamma(1, 50, 400) + 5
    return expected * rng.exponential(size=400) * (rng.random(400) < 0.6), expected


def one(statistic) -> float:
    return bootstrap(statistic, 400, resamples=100).estimate


def test_the_share_of_the_deviance_is_that_of_scikit_learn_and_weights_count_rows(foreseen) -> None:
    came, expected = foreseen
    assert one(tweedie_d2(came, expected)) == pytest.approx(d2_tweedie_score(came, expected, power=1.5))
    weights = np.random.default_rng(1).integers(0, 3, 400)
    drawn = np.repeat(np.arange(400), weights)
    found = tweedie_d2(came, expected)(weights[None].astype(float))[0]
    assert found == pytest.approx(d2_tweedie_score(came[drawn], expected[drawn], power=1.5))


def test_the_mean_of_what_came_explains_nothing_and_a_forecast_of_nothing_less(foreseen) -> None:
    came, _ = foreseen
    assert one(tweedie_d2(came, np.full(400, came.mean()))) == pytest.approx(0, abs=1e-9)
    assert -20 < one(tweedie_d2(came, np.zeros(400))) < -1


def test_errors_sums_and_coverage_are_those_counted_by_hand(foreseen) -> None:
    came, expected = foreseen
    assert one(mae(came, expected)) == pytest.approx(np.abs(came - expected).mean())
    assert one(rmse(came, expected)) == pytest.approx(np.sqrt(((came - expected) ** 2).mean()))
    assert one(came_per_expected(came, expected)) == pytest.approx(came.sum() / expected.sum())
    assert one(coverage(came, came, came)) == 1
    assert one(coverage(came, came + 1, came + 2)) == 0


def test_the_best_tenth_is_told_by_the_forecast_and_of_equals_is_a_tenth(foreseen) -> None:
    came, expected = foreseen
    best = np.sort(came)[::-1][:40].sum() / came.sum()
    assert one(top_tenth_share(came, came)) == pytest.approx(best)
    assert one(top_tenth_share(came, expected)) < best
    assert one(top_tenth_share(np.ones(400), expected)) == pytest.approx(0.1)


def test_where_nothing_came_there_is_nothing_to_measure_in_shares() -> None:
    nothing = np.zeros(400)
    for name in ("tweedie_d2", "top_tenth_share"):
        assert np.isnan(one(MEASURES[name](nothing, nothing + 1)))
    assert one(came_per_expected(nothing, nothing + 1)) == 0
    assert np.isnan(one(came_per_expected(nothing, nothing)))


def test_deciles_hold_everybody_once_and_all_the_money(foreseen) -> None:
    came, expected = foreseen
    tenths = value_by_decile(came, expected, resamples=100)
    assert sum(tenth.n for tenth in tenths) == 400
    assert sum(tenth.share for tenth in tenths) == pytest.approx(1)
    assert [tenth.expected for tenth in tenths] == sorted((tenth.expected for tenth in tenths), reverse=True)
    assert all(tenth.came.low <= tenth.came.estimate <= tenth.came.high for tenth in tenths)
    assert len(value_by_decile(came[:3], expected[:3], resamples=100)) == 3


def test_deciles_are_drawn_where_much_came_and_where_nothing_did(foreseen, tmp_path: Path) -> None:
    came, expected = foreseen
    for name, brought in (("much", came), ("nothing", np.zeros(400))):
        tenths = value_by_decile(brought, expected, resamples=100)
        for draw in (value_by_decile_chart, value_calibration):
            path = tmp_path / f"{draw.__name__}-{name}.png"
            draw(path, tenths, what="USD within 90 days")
            assert path.read_bytes().startswith(b"\x89PNG")
