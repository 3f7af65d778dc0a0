"""Importance from outside: what matters is found, what does not is not, and curves follow the model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from evaluation import importance
from evaluation.importance import partial_dependence, permutation_importance
from evaluation.plots import importance_chart, partial_dependence_curve


def people(n=3_000):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"much": rng.normal(size=n), "little": rng.normal(size=n), "none": rng.normal(size=n)})
    frame["tier"] = rng.choice(["gold", "silver"], n)
    log_odds = 2 * frame["much"] + 0.5 * frame["little"] + (frame["tier"] == "gold")
    return frame, (rng.random(n) < 1 / (1 + np.exp(-log_odds))).astype(int).to_numpy()


def predict(frame):
    log_odds = 2 * frame["much"] + 0.5 * frame["little"] + (frame["tier"] == "gold")
    return (1 / (1 + np.exp(-log_odds))).to_numpy()


def test_shuffling_costs_what_the_model_leans_on():
    frame, label = people()
    found = permutation_importance(predict, frame, label, features=["much", "little", "none"])
    assert found["much"].low > found["little"].high > found["little"].low > 0
    assert found["none"].estimate == 0
    assert found == permutation_importance(predict, frame, label, features=["much", "little", "none"])


def test_a_mean_of_five_shuffles_is_as_sure_as_five_numbers_are(monkeypatch):
    falls = np.array([0.1, 0.2, 0.3, 0.5, 0.9])
    told = iter([1.0, *(1 - falls)])
    monkeypatch.setattr(importance, "roc_auc", lambda *_: next(told))
    frame, label = people(10)
    found = permutation_importance(predict, frame, label, features=["much"])["much"]
    student = ttest_1samp(falls, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((student.low, student.high))


def test_a_curve_follows_the_model_in_numbers_and_categories():
    frame, _ = people()
    curve = partial_dependence(predict, frame, "much", points=10)
    assert (np.diff(curve.mean) > 0).all()
    assert (curve.low <= curve.mean).all()
    assert (curve.mean <= curve.high).all()
    by_tier = partial_dependence(predict, frame, "tier")
    assert dict(zip(by_tier.values, by_tier.mean, strict=True))["gold"] == pytest.approx(max(by_tier.mean))


def test_both_are_drawn(tmp_path):
    frame, label = people(500)
    importance_chart(
        tmp_path / "a.png", permutation_importance(predict, frame, label, features=["much"]), what="no order"
    )
    importance_chart(tmp_path / "b.png", {}, what="no order")
    for name in ("much", "tier"):
        curve = partial_dependence(predict, frame, name)
        partial_dependence_curve(tmp_path / f"{name}.png", curve, feature=name, what="no order")
    for name in "a", "b", "much", "tier":
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
