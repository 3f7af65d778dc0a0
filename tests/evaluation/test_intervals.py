"""Intervals cover what they say, are seeded, and pairing helps."""

from __future__ import annotations

import numpy as np
import pytest

from data.errors import DataError
from evaluation.intervals import bootstrap, mean, mean_of, paired_difference


def test_the_interval_of_a_mean_is_that_of_the_central_limit():
    values = np.random.default_rng(0).normal(5, 2, 4_000)
    found = mean(values, resamples=2_000)
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_coverage_is_the_level():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        found = mean(rng.exponential(1, 100), resamples=300, level=0.9, seed=trial)
        covered += found.low <= 1 <= found.high
    assert 0.83 <= covered / 200 <= 0.96


def test_the_same_seed_gives_the_same_interval_and_another_another():
    values = np.random.default_rng(2).random(100)
    assert mean(values) == mean(values)
    assert mean(values) != mean(values, seed=1)


def test_pairing_takes_out_what_two_models_share():
    rng = np.random.default_rng(3)
    person = rng.normal(0, 5, 500)
    one, other = person + 0.1 + rng.normal(0, 0.1, 500), person + rng.normal(0, 0.1, 500)
    assert paired_difference(one, other).low > 0
    assert mean(one).low < mean(other).high  # each by itself, they cannot be told apart


def test_rows_of_one_user_are_drawn_together():
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(200), 20)
    values = np.repeat(rng.normal(0, 1, 200), 20)

    def average(weights):
        return weights @ values / weights.sum(axis=1)

    naive, whole = bootstrap(average, 4_000), bootstrap(average, 4_000, groups=groups)
    assert (whole.high - whole.low) > 3 * (naive.high - naive.low)
    assert whole.high - whole.low == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.15)


def test_blocks_of_resamples_do_not_change_the_draws(monkeypatch):
    values = np.random.default_rng(6).random(50)
    whole = mean(values)
    monkeypatch.setattr("evaluation.intervals.BLOCK_CELLS", 170)
    assert mean(values).low == pytest.approx(whole.low)


def test_users_without_a_value_are_left_out_and_nobody_gives_nan():
    assert mean(np.array([1.0, np.nan, 3.0])).estimate == 2.0
    assert np.isnan(mean(np.array([])).low)
    assert np.isnan(mean(np.array([np.nan])).estimate)


def test_values_of_other_users_cannot_be_paired():
    with pytest.raises(DataError, match="same users"):
        paired_difference(np.ones(3), np.ones(4))
    with pytest.raises(DataError, match="same users"):
        paired_difference(np.array([1.0, np.nan]), np.array([np.nan, 1.0]))
    with pytest.raises(DataError, match="one per row"):
        bootstrap(lambda w: w.sum(axis=1), 3, groups=np.ones(2))


@pytest.mark.parametrize(("level", "needed"), [(0.9, 5), (0.95, 6), (0.99, 8)])
def test_so_few_people_that_chance_may_put_them_on_one_side_are_sure_of_nothing(level, needed):
    gains = np.linspace(1, 2, 12)
    assert mean(gains[:needed], level=level).low > 0
    few = mean(gains[: needed - 1], level=level)
    assert few.estimate == pytest.approx(gains[: needed - 1].mean())
    assert np.isnan([few.low, few.high]).all()
    twice = mean(np.repeat(gains[: needed - 1], 5), groups=np.repeat(np.arange(needed - 1), 5), level=level)
    assert np.isnan(twice.low)
    counted = bootstrap(mean_of(np.array([0.0, 1.0])), 2, counts=np.array([1, needed - 2]), level=level)
    assert np.isnan(counted.low)


def test_who_is_alike_under_both_does_not_make_the_few_who_are_not_sure():
    one, other = np.ones(100), np.ones(100)
    one[:5] = 2
    found = paired_difference(one, other)
    assert found.low == 0 < found.high  # five of five are on one side by chance once in sixteen
    one[5] = 2
    assert paired_difference(one, other).low > 0
    assert paired_difference(one, other, groups=np.r_[0, 0, 1, 2, 3, 4, np.arange(5, 99)]).low == 0
