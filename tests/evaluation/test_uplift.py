"""Rankings by uplift are measured as other libraries do, with intervals that hold, and noise is called noise."""

from __future__ import annotations

import numpy as np
import pytest

from data.errors import DataError
from evaluation.off_policy import Logged
from evaluation.uplift import by_decile, calibration, comparable, contrast, gain_curve, qini, rate, uplift_at


def trial(seed: int = 0, n: int = 4_000, *, effect: float = 0.4, treated_share: float = 0.5):
    """Who was treated, a yes or no, a score that is the true effect, and the chances of the arms."""
    rng = np.random.default_rng(seed)
    arm = (rng.random(n) < treated_share).astype(int)
    score = rng.random(n)
    y = (rng.random(n) < 0.2 + effect * score * arm).astype(float)
    chances = np.tile([1 - treated_share, treated_share], (n, 1))
    log = Logged(arm, y, chances[np.arange(n), arm])
    return contrast(log, chances), effect * score


QINI, AUUC = 0.16012115126222407, 0.09021506153575179


def test_qini_and_auuc_are_scikit_uplifts():
    # qini_auc_score and uplift_auc_score of scikit-uplift 0.5.1 on these rows; scores are tied on purpose.
    rng = np.random.default_rng(7)
    n = 2_000
    arm, score = rng.integers(2, size=n), rng.random(n).round(2)
    y = (rng.random(n) < 0.1 + 0.2 * arm * score).astype(float)
    people = contrast(Logged(arm, y, np.full(n, 0.5)), np.full((n, 2), 0.5))
    assert qini(people, score, resamples=50).value.estimate == pytest.approx(QINI, abs=1e-9)
    assert qini(people, score, kind="auuc", resamples=50).value.estimate == pytest.approx(AUUC, abs=1e-9)


def test_noise_scores_above_zero_half_of_the_time_and_is_called_noise():
    rng = np.random.default_rng(0)
    found = [qini(trial(seed)[0], rng.random(4_000), resamples=100) for seed in range(40)]
    positive = sum(area.value.estimate > 0 for area in found)
    assert 10 <= positive <= 30
    assert sum(area.above_random < 0.05 for area in found) <= 6


@pytest.mark.parametrize("which", [qini, rate])
def test_a_true_ranking_is_above_random_and_above_another(which):
    people, score = trial()
    found = which(people, score)
    assert found.value.low > 0
    assert found.above_random < 0.001
    noise = np.random.default_rng(1).random(len(score))
    assert which(people, score, against=noise).value.low > 0
    assert which(people, score, against=score).value.estimate == 0


def test_the_interval_of_rate_covers_the_truth():
    truth = 0.4 / 4  # of a uniform score TOC(q) = .4 (1 - q / 2) - .2: its mean over q is .1
    covered = 0
    for seed in range(60):
        people, score = trial(seed, n=3_000)
        value = rate(people, score, resamples=200).value
        covered += value.low <= truth <= value.high
    assert covered >= 52


def test_the_gain_curve_ends_at_the_average_and_peaks_where_effects_turn():
    rng = np.random.default_rng(3)
    n = 20_000
    arm, effect = rng.integers(2, size=n), rng.uniform(-1, 1, n)
    log = Logged(arm, arm * effect + rng.normal(0, 0.5, n), np.full(n, 0.5))
    people = contrast(log, np.full((n, 2), 0.5))
    curve = gain_curve(people, effect)
    assert (curve.gain[0], curve.gain[-1]) == (0, pytest.approx(people.average.estimate))
    assert curve.best_share.low <= 0.5 <= curve.best_share.high
    assert curve.best_gain.estimate == pytest.approx(0.25, abs=0.03)
    assert curve.over_all.low > 0.2
    assert (curve.band_low <= curve.low + 1e-12).all()
    assert (curve.high <= curve.band_high + 1e-12).all()
    assert curve.above_random < 1e-6


def test_what_is_spared_by_leaving_people_out_is_not_made_of_noise():
    """Half of the people gain nothing and lose nothing, so that whichever share is the best spares nothing."""
    rng, false = np.random.default_rng(0), 0
    for _ in range(200):
        arm, score = rng.integers(2, size=2_000), rng.random(2_000)
        log = Logged(arm, arm * np.where(score > 0.5, 0.4, 0.0) + rng.normal(size=2_000), np.full(2_000, 0.5))
        curve = gain_curve(contrast(log, np.full((2_000, 2), 0.5)), score, resamples=200)
        false += curve.best_share.estimate >= 0.5 and curve.over_all.low > 0
    assert false <= 8  # 2.5 % are 5; an interval of the chosen point alone finds 15


def test_scores_that_are_all_equal_rank_nobody():
    people, _ = trial()
    same = np.zeros(len(people))
    assert qini(people, same, resamples=50).value.estimate == pytest.approx(0, abs=1e-12)
    assert rate(people, same, resamples=50).above_random == 1
    assert len(by_decile(people, same)) == 1
    assert np.isnan(calibration(people, same).slope.estimate)


def test_deciles_hold_all_people_and_tell_both_arms_rates():
    people, score = trial()
    tenths = by_decile(people, score)
    assert sum(part.n for part in tenths) == len(people)
    assert tenths[0].predicted > tenths[-1].predicted
    assert tenths[0].observed.estimate == pytest.approx(tenths[0].rate_treated - tenths[0].rate_control, abs=0.02)
    top = uplift_at(people, score, 0.1)
    assert (top.n, top.observed) == (tenths[0].n, tenths[0].observed)
    with pytest.raises(DataError, match="share"):
        uplift_at(people, score, 0)


def test_calibration_tells_size_from_order():
    people, score = trial(n=20_000)
    right, twice = calibration(people, score), calibration(people, 2 * score)
    assert right.slope.low <= 1 <= right.slope.high
    assert right.shift.low <= 0 <= right.shift.high
    assert twice.slope.estimate == pytest.approx(right.slope.estimate / 2)
    assert twice.shift.high < 0
    assert right.differs < 0.001 < calibration(people, np.random.default_rng(0).random(20_000)).differs


def test_a_model_of_the_outcome_makes_the_average_narrower_and_does_not_move_it():
    rng = np.random.default_rng(5)
    n = 5_000
    arm, x = rng.integers(2, size=n), rng.normal(size=n)
    log = Logged(arm, 3 * x + 0.5 * arm + rng.normal(size=n), np.full(n, 0.5))
    half = np.full((n, 2), 0.5)
    plain, helped = contrast(log, half), contrast(log, half, predicted=np.column_stack([3 * x, 3 * x]))
    assert helped.average.high - helped.average.low < (plain.average.high - plain.average.low) / 2
    assert helped.average.low <= 0.5 <= helped.average.high


def test_unequal_chances_are_put_right():
    rng = np.random.default_rng(6)
    n = 20_000
    old = rng.random(n) < 0.5
    p = np.where(old, 0.8, 0.2)
    arm = (rng.random(n) < p).astype(int)
    y = old + 0.1 * arm + rng.normal(0, 0.1, n)  # the old buy more, and were treated more
    chances = np.column_stack([1 - p, p])
    people = contrast(Logged(arm, y, chances[np.arange(n), arm]), chances)
    assert people.average.low <= 0.1 <= people.average.high


def test_another_arm_takes_part_in_neither_side():
    rng = np.random.default_rng(8)
    arm = rng.integers(3, size=6_000)
    y = (rng.random(6_000) < 0.1 * (1 + arm)).astype(float)
    log, thirds = Logged(arm, y, np.full(6_000, 1 / 3)), np.full((6_000, 3), 1 / 3)
    people = contrast(log, thirds, arm=2)
    assert people.average.estimate == pytest.approx(0.2, abs=0.04)
    assert qini(people, rng.random(6_000), resamples=50).n_treated == (arm == 2).sum()


def test_comparable_scores_keep_the_order_within_a_fold_and_its_ties():
    rng = np.random.default_rng(0)
    fold = rng.integers(3, size=300)
    score = rng.random(300).round(1) * (1 + fold) + 10 * fold
    found = comparable(score, fold)
    for code in range(3):
        before, after = (np.unique(scores[fold == code], return_inverse=True)[1] for scores in (score, found))
        assert (before == after).all()
    alike = comparable(fold.astype(float), fold)  # everybody in a fold
    assert alike.tolist() == pytest.approx([1.0] * 300)


def test_folds_ranked_together_as_scored_make_nothing_look_worse_than_chance():
    as_scored, on_one_scale = [], []
    for seed in range(60):
        people, _ = trial(seed, 1_000, effect=0.0)
        rng = np.random.default_rng(seed)
        x, fold = rng.normal(size=1_000), rng.permutation(1_000) % 5
        score = np.empty(1_000)
        for code in range(5):  # a line through the doubly robust effects of the others
            there = fold != code
            slope, start = np.polyfit(x[there], people.effect[there], 1)
            score[~there] = start + slope * x[~there]
        for kept, scores in ((as_scored, score), (on_one_scale, comparable(score, fold))):
            kept.append(qini(people, scores, resamples=2).value.estimate)
    error = np.std(on_one_scale) / np.sqrt(60)
    assert np.mean(as_scored) < -3 * error
    assert abs(np.mean(on_one_scale)) < 2.5 * error


@pytest.mark.parametrize(
    ("arm", "y", "why"),
    [
        (np.zeros(100, dtype=int), np.tile([0.0, 1.0], 50), "arm 1 has 0"),
        (np.ones(100, dtype=int), np.tile([0.0, 1.0], 50), "the control, arm 0, has 0"),
        (np.repeat([0, 1], [95, 5]), np.tile([0.0, 1.0], 50), "has 5 people"),
        (np.tile([0, 1], 50), np.zeros(100), "is 0 for everybody"),
        (np.tile([0, 1], 50), np.ones(100), "is 1 for everybody"),
    ],
)
def test_experiments_that_cannot_say_are_refused(arm, y, why):
    with pytest.raises(DataError, match=why):
        contrast(Logged(arm, y, np.full(100, 0.5)), np.full((100, 2), 0.5))


def test_scores_that_do_not_fit_are_refused():
    people, score = trial()
    for wrong in (score[:-1], np.where(score > 0.3, np.nan, score)):
        with pytest.raises(DataError, match="score"):
            gain_curve(people, wrong)
