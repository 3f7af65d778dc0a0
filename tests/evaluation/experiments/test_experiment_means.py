"""Differences of arms: against another library, and where they are hard."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from data.errors import DataError
from evaluation.experiments import difference_adjusted, difference_of_means, difference_of_ratios
from evaluation.experiments.means import as_numbers, cap_of, largest_share


def money(rng: np.random.Generator, n: int, *, buyers: float = 0.02) -> np.ndarray:
    return np.where(rng.random(n) < buyers, np.exp(3 + rng.standard_normal(n)), 0.0)


@pytest.fixture(scope="module")
def peer():
    """Another library's answers on its own made users, and these users."""
    tt = pytest.importorskip("tea_tasting", reason="tea-tasting is not installed: pip install -e .[dev]")
    users = tt.make_users_data(seed=42, covariates=True, n_users=4000, return_type="pandas")
    found = tt.Experiment(
        sessions=tt.Mean("sessions"),
        per_session=tt.RatioOfMeans("orders", "sessions"),
        cuped=tt.Mean("sessions", "sessions_covariate"),
    ).analyze(users)
    return found, users[users.variant == 1], users[users.variant == 0]


def same(ours, theirs, *, tolerance: float = 1e-9) -> None:
    assert ours.interval.estimate == pytest.approx(theirs.effect_size, rel=tolerance)
    assert ours.interval.low == pytest.approx(theirs.effect_size_ci_lower, rel=tolerance)
    assert ours.interval.high == pytest.approx(theirs.effect_size_ci_upper, rel=tolerance)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=tolerance)


def test_means_are_those_of_tea_tasting(peer):
    found, treated, control = peer
    same(difference_of_means(treated.sessions.to_numpy(), control.sessions.to_numpy()), found["sessions"])


def test_ratios_are_those_of_tea_tasting(peer):
    found, treated, control = peer
    parts = [part[name].to_numpy(dtype=float) for part in (treated, control) for name in ("orders", "sessions")]
    ours = difference_of_ratios(*parts)
    assert ours.interval.estimate == pytest.approx(found["per_session"].effect_size)
    # Its variance is less n - 1, and ours has what an arm misses of orders, which few have.
    same(ours, found["per_session"], tolerance=0.02)


def test_cuped_is_that_of_tea_tasting_but_for_how_theta_is_pooled(peer):
    found, treated, control = peer
    columns = [part[name].to_numpy(float) for name in ("sessions", "sessions_covariate") for part in (treated, control)]
    ours = difference_adjusted(*columns)
    assert ours.interval.estimate == pytest.approx(found["cuped"].effect_size, rel=0.02)
    assert ours.standard_error < 0.9 * difference_of_means(columns[0], columns[1]).standard_error


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 10_000))
def test_dense_outcomes_get_welchs_interval(n, m, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(1, 2, n), rng.normal(0, 1, m)
    welch = ttest_ind(a, b, equal_var=False)
    found = difference_of_means(a, b)
    assert found.p_value == pytest.approx(welch.pvalue)
    assert found.interval.low == pytest.approx(welch.confidence_interval().low)
    assert (found.p_value < 0.05) == (not found.interval.low <= 0 <= found.interval.high)


def test_a_small_arm_without_large_amounts_borrows_the_shape_of_the_other():
    rng = np.random.default_rng(3)
    large, small = money(rng, 45_000), money(rng, 5_000)
    small = np.where(small > 30, 30.0, small)
    own = np.sqrt(large.var(ddof=1) / 45_000 + small.var(ddof=1) / 5_000)
    assert difference_of_means(large, small).standard_error > 1.2 * own


def test_which_answer_is_called_yes_changes_nothing_but_the_sign():
    rng = np.random.default_rng(4)
    kept, left = rng.random(1_000) < 0.995, rng.random(9_000) < 0.99
    told, turned = difference_of_means(kept, left), difference_of_means(~kept, ~left)
    assert told.interval.estimate == pytest.approx(-turned.interval.estimate)
    assert told.standard_error == pytest.approx(turned.standard_error)
    assert told.carriers == turned.carriers < 10
    assert difference_of_means(np.ones(50), np.ones(50)).carriers == 0


def test_a_rare_no_in_a_small_arm_is_not_found_more_often_than_it_should():
    """At the level of the checks: 4 of 4,000 where nothing is; Welch's own variance found 50."""
    rng = np.random.default_rng(5)
    small, large = rng.binomial(500, 0.01, 4_000), rng.binomial(4_500, 0.01, 4_000)
    found = 0
    for a, b in zip(small, large, strict=True):
        yes = [np.arange(n) >= no for n, no in ((500, a), (4_500, b))]
        found += difference_of_means(*yes).p_value < 0.001
    assert found <= 12


@pytest.mark.parametrize(("n", "m"), [(5_000, 5_000), (18_000, 2_000)])
def test_rare_money_is_covered(n, m):
    """400 experiments: 95 % less 3 standard errors of the simulation is .917."""
    rng = np.random.default_rng(4)
    intervals = [difference_of_means(money(rng, n), money(rng, m)).interval for _ in range(400)]
    assert np.mean([i.low <= 0 <= i.high for i in intervals]) >= 0.917


def test_no_lift_in_percent_on_a_base_near_zero():
    rng = np.random.default_rng(0)
    treated, few, many = ((rng.random(n) < p).astype(float) for n, p in ((9000, 0.02), (9000, 0.001), (9000, 0.02)))
    assert difference_of_means(treated, few).relative is None
    relative = difference_of_means(treated, many).relative
    assert relative.low < relative.estimate < relative.high
    assert difference_of_means(treated, np.zeros(9000)).relative is None


def test_the_lift_in_percent_is_covered():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        found = difference_of_means(rng.poisson(0.12, 3000).astype(float), rng.poisson(0.1, 3000).astype(float))
        held += found.relative.low <= 0.2 <= found.relative.high
    assert 0.917 <= held / 400 <= 0.983


def test_all_zero_outcomes_say_nothing():
    found = difference_of_means(np.zeros(500), np.zeros(500))
    assert np.isnan(found.interval.low)
    assert np.isnan(found.p_value)
    assert not found.enough


def test_five_people_are_not_enough():
    rng = np.random.default_rng(2)
    assert not difference_of_means(rng.normal(9, 1, 5), rng.normal(0, 1, 5_000)).enough


def test_one_person_with_half_of_all_money_is_not_enough_and_is_capped():
    rng = np.random.default_rng(5)
    treated, control = money(rng, 5_000), money(rng, 5_000)
    treated[0] = treated.sum() + control.sum()
    both = np.r_[treated, control]
    assert not difference_of_means(treated, control).enough
    assert largest_share(both) == pytest.approx(0.5, abs=0.01)
    cap = cap_of(both)
    assert cap < 1_000
    assert difference_of_means(np.minimum(treated, cap), np.minimum(control, cap)).enough


def test_negative_money_counts_and_is_capped_on_both_sides():
    rng = np.random.default_rng(6)
    treated, control = money(rng, 5_000, buyers=0.1), money(rng, 5_000, buyers=0.1)
    treated[:50] = -20.0
    found = difference_of_means(treated, control)
    assert found.interval.estimate == pytest.approx(treated.mean() - control.mean())
    assert cap_of(np.array([-90.0, -10, 10, 10])) == 10


def test_many_columns_known_of_few_people_make_no_difference_surer_than_it_is():
    rng, found, held = np.random.default_rng(0), 400, 0
    for _ in range(found):
        y, x = rng.normal(size=40), rng.normal(size=(40, 15))
        interval = difference_adjusted(y[:20], y[20:], x[:20], x[20:]).interval
        held += interval.low <= 0 <= interval.high
    assert held / found == pytest.approx(0.95, abs=0.033)  # three standard errors; .77 without the columns' degrees
    y, x = rng.normal(size=40), rng.normal(size=(40, 38))
    assert difference_adjusted(y[:20], y[20:], x[:20], x[20:]) == difference_of_means(y[:20], y[20:])


def test_what_was_missing_before_neither_biases_nor_breaks():
    rng = np.random.default_rng(7)
    before = rng.gamma(2, 20, (2, 4000))
    after = before + rng.normal(0, 5, (2, 4000)) + np.array([[2.0], [0.0]])
    before[rng.random(before.shape) < 0.3] = np.nan
    found = difference_adjusted(*after, *before)
    assert found.interval.low < 2 < found.interval.high
    assert found.standard_error < 0.9 * difference_of_means(*after).standard_error
    constant = difference_adjusted(*after, np.full(4000, np.nan), np.full(4000, np.nan))
    assert constant.standard_error == pytest.approx(difference_of_means(*after).standard_error)


def test_what_cannot_be_compared_is_named():
    with pytest.raises(DataError, match="an arm has no people"):
        difference_of_means(np.array([]), np.ones(3))
    with pytest.raises(DataError, match="missing or infinite"):
        difference_of_means(np.array([np.nan, 1]), np.ones(3))
    with pytest.raises(DataError, match="a ratio over a sum of 0"):
        difference_of_ratios(np.ones(3), np.zeros(3), np.ones(3), np.ones(3))
    with pytest.raises(DataError, match="3 outcomes and 2 rows"):
        difference_adjusted(np.ones(2), np.ones(1), np.ones(1), np.ones(1))
    with pytest.raises(DataError, match="spend: 1 values are no numbers"):
        as_numbers(pd.Series(["1", "two"]), name="spend")
    with pytest.raises(DataError, match="sent holds times"):
        as_numbers(pd.Series(pd.to_datetime(["2026-01-01"])), name="sent")


def test_an_arm_where_nobody_has_it_is_no_surer_than_the_other_arms_people():
    rng = np.random.default_rng(5)
    bought, spent_before = (rng.random(5000) < 0.15).astype(float), rng.gamma(1, 50, 5005)
    none = np.zeros(5)
    for found in (
        difference_of_means(none, bought),
        difference_adjusted(none, bought, spent_before[:5], spent_before[5:]),
    ):
        assert found.interval.low < -0.4
        assert found.interval.high > 0.1
        assert not found.enough
