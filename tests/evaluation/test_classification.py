"""Classification measures equal scikit-learn's, weighted too, and their intervals hold."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from data.errors import DataError
from evaluation.classification import (
    MEASURES,
    bands,
    by_group,
    calibration_bins,
    calibration_noise,
    evaluate,
    fairness,
    lift_by_decile,
    repeated,
    roc_auc,
)
from evaluation.intervals import bootstrap

THEIRS = {
    "roc_auc": metrics.roc_auc_score,
    "average_precision": metrics.average_precision_score,
    "log_loss": metrics.log_loss,
    "brier": metrics.brier_score_loss,
}


def drawn(n: int, seed: int = 0, *, decimals: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Labels that happen with the probabilities beside them."""
    rng = np.random.default_rng(seed)
    probability = np.round(rng.beta(1.5, 3, n), decimals)
    return (rng.random(n) < probability).astype(int), probability


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 9))
def test_equal_to_scikit_learn_with_ties_and_weights(seed, n, decimals):
    rng = np.random.default_rng(seed)
    label, probability = rng.integers(0, 2, n), np.round(rng.random(n), decimals)
    label[:2] = 0, 1
    weights = rng.integers(0, 4, (3, n)).astype(float)
    weights[:, :2] += 1
    for name, theirs in THEIRS.items():
        ours = MEASURES[name](label.astype(float), probability)(weights)
        expected = [theirs(label, probability, sample_weight=row) for row in weights]
        assert ours == pytest.approx(expected, abs=1e-9)


def test_the_calibration_slope_is_that_of_a_logistic_regression():
    label, probability = drawn(3_000)
    too_extreme = 1 / (1 + ((1 - probability) / probability) ** 2)
    logit = np.log(too_extreme / (1 - too_extreme))[:, None]
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(logit, label).coef_[0, 0]
    found = evaluate(label, too_extreme, resamples=200).calibration_slope
    assert found.estimate == pytest.approx(expected, abs=1e-4)
    assert found.low < 0.5 < found.high


def test_the_calibration_intercept_is_that_of_a_regression_with_an_offset():
    label, probability = drawn(3_000)
    odds = probability / (1 - probability) * np.e  # one too high in log-odds
    found = evaluate(label, odds / (1 + odds), resamples=200).calibration_intercept
    assert found.estimate == pytest.approx(-1, abs=0.1)
    assert found.low < -1 < found.high
    assert np.mean(1 / (1 + np.exp(-found.estimate) / odds)) == pytest.approx(label.mean(), abs=1e-6)
    assert np.isnan(evaluate(np.ones(20), np.full(20, 0.5), resamples=20).calibration_intercept.estimate)


def test_resamples_of_many_rows_are_those_of_the_rows():
    label, probability = drawn(60_000)
    binned = evaluate(label, probability, resamples=200)
    for name, measure in MEASURES.items():
        exact = bootstrap(measure(label.astype(float), probability), 60_000, resamples=60, seed=1)
        found = getattr(binned, name)
        assert found.estimate == exact.estimate
        assert found.high - found.low == pytest.approx(exact.high - exact.low, rel=0.5)
        assert found.low < exact.high
        assert exact.low < found.high


def test_a_million_rows_take_seconds():
    label, probability = drawn(1_000_000)
    started = time.process_time()
    evaluate(label, probability)
    lift_by_decile(label, probability)
    fairness(label, probability, {"country": np.arange(1_000_000) % 30})
    assert time.process_time() - started < 60


def test_repeats_are_averaged_and_no_more_people():
    label, probability = drawn(2_000)
    alone, twice = evaluate(label, probability), repeated(label, np.stack([probability, probability]))
    assert twice.roc_auc.estimate == pytest.approx(alone.roc_auc.estimate)
    assert twice.brier.low == pytest.approx(alone.brier.low)
    against = repeated(label, probability[None], against=1 - probability[None], resamples=50)
    assert against.roc_auc.estimate == pytest.approx(2 * alone.roc_auc.estimate - 1)


def test_the_interval_of_a_small_calibration_error_holds_it():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.1, 0.4, 600)
    y = (rng.random(600) < p).astype(int)
    for found in (evaluate(y, p, resamples=200), repeated(y, p, resamples=200)):
        error = found.calibration_error
        assert 0 <= error.low < error.estimate < error.high


def test_calibration_error_by_hand():
    label = np.array([0, 0, 1, 1] * 5)
    probability = np.array([0.25, 0.25, 0.75, 0.75] * 5)
    assert evaluate(label, probability, resamples=100).calibration_error.estimate == pytest.approx(0.25)


def test_exactly_right_probabilities_show_the_noise_and_more_rows_less_of_it():
    label, p = drawn(4000)
    noise = calibration_noise(p)
    assert evaluate(label, p, resamples=100).calibration_error.estimate == pytest.approx(noise, rel=0.5)
    assert calibration_noise(np.tile(p, 4)) == pytest.approx(noise / 2, rel=0.2)


def test_bins_have_equal_mass_and_keep_ties_together():
    _, probability = drawn(10_000)
    assert np.bincount(calibration_bins(probability)).tolist() == [1_000] * 10
    assert set(calibration_bins(np.array([0.2] * 50 + [0.9]))) == {0, 1}
    assert set(calibration_bins(np.full(7, 0.3))) == {0}


def test_true_probabilities_are_calibrated_and_useless_ones_do_not_rank():
    label, probability = drawn(10_000)
    honest = evaluate(label, probability, resamples=100)
    assert honest.calibration_error.estimate < 0.02
    assert honest.calibration_slope.low < 1 < honest.calibration_slope.high
    guess = evaluate(label, np.random.default_rng(1).random(10_000), resamples=100)
    assert guess.roc_auc.low < 0.5 < guess.roc_auc.high


def test_the_interval_of_auc_is_delongs():
    label, probability = drawn(2_000)
    positives, negatives = probability[label == 1], probability[label == 0]
    wins = (positives[:, None] > negatives).astype(float)
    error = np.sqrt(wins.mean(axis=1).var(ddof=1) / len(positives) + wins.mean(axis=0).var(ddof=1) / len(negatives))
    found = evaluate(label, probability).roc_auc
    assert found.low == pytest.approx(found.estimate - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(found.estimate + 1.96 * error, abs=0.1 * error)


def test_the_roc_auc_of_scores_of_any_scale_is_scikit_learns():
    label, score = np.array([1, 0, 1, 0, 1, 0]), np.array([-1.0, -1.0, 4.0, -7.0, 0.5, 0.5])
    assert roc_auc(label, score) == pytest.approx(metrics.roc_auc_score(label, score))
    assert roc_auc(label, np.full(6, -np.inf)) == 0.5
    assert np.isnan(roc_auc(np.ones(6), score))


def test_a_paired_difference_is_surer_than_two_intervals():
    label, probability = drawn(3_000)
    noisy = np.clip(probability + np.random.default_rng(2).normal(0, 0.05, 3_000), 0, 1)
    one, other = evaluate(label, probability, resamples=200), evaluate(label, noisy, resamples=200)
    gain = repeated(label, probability, against=noisy, resamples=200)
    assert gain.roc_auc.estimate == pytest.approx(one.roc_auc.estimate - other.roc_auc.estimate)
    assert gain.roc_auc.low > 0
    assert one.roc_auc.low < other.roc_auc.high


def test_several_rows_of_a_user_widen_the_interval():
    label, probability = drawn(500)
    label, probability, groups = np.repeat(label, 8), np.repeat(probability, 8), np.repeat(np.arange(500), 8)
    naive, whole = evaluate(label, probability).roc_auc, evaluate(label, probability, groups=groups).roc_auc
    assert whole.high - whole.low > 2 * (naive.high - naive.low)


def test_lift_falls_over_the_tenths_and_averages_to_one():
    label, probability = drawn(5_000)
    tenths = lift_by_decile(label, probability, resamples=200)
    assert [tenth.rank for tenth in tenths] == list(range(1, 11))
    assert sum(tenth.n for tenth in tenths) == 5_000
    assert np.mean([tenth.lift.estimate for tenth in tenths]) == pytest.approx(1)
    assert tenths[0].lift.low > tenths[-1].lift.high
    assert tenths[0].rate == pytest.approx(tenths[0].mean_probability, abs=0.06)


def test_captured_are_more_with_every_tenth_until_all():
    label, probability = drawn(5_000)
    captured = [tenth.capture for tenth in lift_by_decile(label, probability, resamples=200)]
    assert np.diff([share.estimate for share in captured]).min() > 0
    assert captured[-1].estimate == captured[-1].low == 1
    first = label[np.argsort(-probability, kind="stable")[:500]].sum() / label.sum()
    assert captured[0].estimate == pytest.approx(first)
    assert captured[0].low < first < captured[0].high


def test_tenths_are_drawn_alike_from_their_counts_and_from_rows():
    label, probability = drawn(1_000)
    counted = lift_by_decile(label, probability)[0].lift
    by_rows = lift_by_decile(label, probability, groups=np.arange(1_000))[0].lift
    assert counted.estimate == by_rows.estimate
    assert counted.low == pytest.approx(by_rows.low, rel=0.03)
    assert counted.high == pytest.approx(by_rows.high, rel=0.03)


def test_groups_are_measured_apart_so_that_nobody_hides_in_the_average():
    label, probability = drawn(6_000)
    misjudged = np.arange(6_000) % 3 == 0
    told = np.where(misjudged, np.clip(probability + 0.2, 0, 1), probability)
    fine, poor = by_group(label, told, np.where(misjudged, "new", "old"), attribute="tenure")
    assert (fine.group, fine.n, poor.group, poor.n) == ("old", 4_000, "new", 2_000)
    assert fine.calibration_gap.low < 0 < fine.calibration_gap.high
    assert poor.calibration_gap.low > 0.1
    assert poor.roc_auc.estimate == pytest.approx(metrics.roc_auc_score(label[misjudged], told[misjudged]))
    assert poor.selection_rate.low > fine.selection_rate.high


def test_the_interval_of_a_groups_auc_is_that_of_the_bootstrap():
    label, probability = drawn(3_000)
    group = by_group(label, probability, ["all"] * 3_000)[0]
    found = evaluate(label, probability).roc_auc
    assert group.roc_auc.estimate == pytest.approx(found.estimate)
    assert group.roc_auc.low == pytest.approx(found.low, abs=0.002)
    assert group.roc_auc.high == pytest.approx(found.high, abs=0.002)


def test_small_groups_are_marked_and_start_no_gap():
    label, probability = drawn(1_000)
    country = np.array(["NL"] * 600 + ["BE"] * 380 + ["LU"] * 20)
    found = fairness(label, probability, {"country": country, "known": [None] * 1_000})
    assert [(g.group, g.small) for g in found.groups[:3]] == [("NL", False), ("BE", False), ("LU", True)]
    assert found.groups[3].group == "(not known)"
    assert {gap.attribute for gap in found.gaps} == {"country"}
    assert all({gap.highest, gap.lowest} == {"NL", "BE"} for gap in found.gaps)
    assert found.frame()["roc_auc_low"].notna().sum() == 4


def test_the_largest_of_many_gaps_seldom_excludes_zero_where_there_is_none():
    excluded = 0
    for seed in range(60):
        label, probability = drawn(1_500, seed)
        group = np.random.default_rng(seed).integers(0, 6, 1_500)
        gaps = {gap.measure: gap for gap in fairness(label, probability, {"group": group}).gaps}
        excluded += gaps["calibration_gap"].gap.low > 0
        assert gaps["roc_auc"].gap.estimate >= 0
    assert excluded <= 7


def test_equal_probabilities_are_selected_together_or_not_at_all():
    label, probability = np.array([0, 1] * 50), np.repeat([0.9, 0.5], [5, 95])
    assert by_group(label, probability, ["all"] * 100, selected_share=0.1)[0].selection_rate.estimate == 0.05


def test_what_is_no_group_or_share_is_refused():
    label, probability = drawn(10)
    with pytest.raises(DataError, match="country: 2 groups for 10 rows"):
        fairness(label, probability, {"country": ["NL", "BE"]})
    with pytest.raises(DataError, match="selected_share is 1"):
        by_group(label, probability, ["NL"] * 10, selected_share=1)


def test_bands_have_names_and_the_missing_their_own():
    assert bands(np.array([0.0, 1, 2, np.nan]), [1]).tolist() == ["under 1", "1 and more", "1 and more", "(not known)"]


def test_one_class_gives_nan_where_two_are_needed():
    found = evaluate(np.ones(20), np.linspace(0.1, 0.9, 20), resamples=100)
    assert np.isnan([found.roc_auc.estimate, found.roc_auc.low, found.calibration_slope.estimate]).all()
    assert found.brier.estimate > 0
    assert np.isnan(evaluate(np.zeros(20), np.full(20, 0.5), resamples=100).average_precision.estimate)


def test_what_is_no_label_or_probability_is_refused():
    with pytest.raises(DataError, match="at least one row"):
        evaluate(np.array([]), np.array([]))
    with pytest.raises(DataError, match="neither 0 nor 1"):
        evaluate(np.array([0, 2]), np.array([0.1, 0.2]))
    with pytest.raises(DataError, match=r"outside \[0, 1\]"):
        evaluate(np.array([0, 1]), np.array([0.1, 1.2]))
    with pytest.raises(DataError, match="nan is outside"):
        evaluate(np.array([0, 1]), np.array([0.1, np.nan]))


def test_a_thousand_resamples_of_twenty_thousand_rows_take_seconds():
    label, probability = drawn(20_000)
    started = time.process_time()
    evaluate(label, probability)
    assert time.process_time() - started < 40
