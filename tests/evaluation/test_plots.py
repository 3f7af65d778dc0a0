"""Pictures are drawn from odd data too, the same bytes for the same data."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation import plots
from evaluation.classification import by_group, lift_by_decile
from evaluation.intervals import Interval
from evaluation.plots import (
    calibration_curve,
    category_shares,
    comparison,
    gains,
    gains_curve,
    groups_chart,
    lift_chart,
    score_distribution,
    trade_offs,
)

PNG = b"\x89PNG"


@pytest.mark.parametrize("kind", ["many", "few", "one probability"])
def test_probabilities_are_drawn(kind, tmp_path):
    rng = np.random.default_rng(0)
    n = 6 if kind == "few" else 2_000
    probability = np.full(n, 0.3) if kind == "one probability" else rng.beta(1, 3, n)
    label = (rng.random(n) < probability).astype(int)
    label[0] = 1
    tenths = lift_by_decile(label, probability, resamples=100)
    groups = by_group(label, probability, np.arange(n) % 3, attribute="third")
    by_row = (label, probability)
    drawn = (calibration_curve, by_row), (score_distribution, by_row), (lift_chart, (tenths,)), (gains_curve, (tenths,))
    for draw, of in (*drawn, (groups_chart, (groups,))):
        draw(tmp_path / "one.png", *of, what="no order within 90 days")
        draw(tmp_path / "two.png", *of, what="no order within 90 days")
        assert (tmp_path / "one.png").read_bytes().startswith(PNG)
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_contestants_are_drawn_and_the_unmeasured_left_out(tmp_path):
    nothing = Interval(np.nan, np.nan, np.nan, 0.95)
    found = {"popularity": Interval(0.1, 0.08, 0.12, 0.95), "als": Interval(0.2, 0.18, 0.22, 0.95), "broken": nothing}
    comparison(tmp_path / "new" / "one.png", found, metric="NDCG at 20", highlight="als")
    assert (tmp_path / "new" / "one.png").read_bytes().startswith(PNG)
    comparison(tmp_path / "none.png", {"broken": nothing}, metric="NDCG at 20")
    assert (tmp_path / "none.png").read_bytes().startswith(PNG)


def test_the_title_of_the_gains_tells_whom_the_first_tenths_hold(tmp_path, monkeypatch):
    found = titles(monkeypatch)
    label = np.repeat([1, 0], [30, 70])
    gains_curve(tmp_path / "one.png", lift_by_decile(label, np.linspace(1, 0, 100), resamples=100), what="no order")
    score_distribution(tmp_path / "two.png", label, np.where(label == 1, 0.8, 0.1), what="no order")
    assert found[0] == "The first 30 % of the people hold 100 % of those who do it"
    assert "given over 80 %, half of the others over 10 %" in found[1]


def test_groups_that_are_surely_off_are_counted(tmp_path, monkeypatch):
    found = titles(monkeypatch)
    label, group = np.tile([0, 1], 400), np.repeat(["right", "too high", "few"], [400, 390, 10])
    probability = np.where(group == "too high", 0.7, 0.5)
    groups_chart(tmp_path / "one.png", by_group(label, probability, group), what="no order")
    assert found == ["1 of 2 groups are surely predicted too high or too low"]


def titles(monkeypatch):
    """What the figures written from now on are called."""
    found = []
    monkeypatch.setattr(
        plots, "_write", lambda figure, _: found.append(figure.get_suptitle() or figure.axes[0].get_title(loc="left"))
    )
    return found


def test_a_title_counts_those_that_surely_beat_the_baseline(tmp_path, monkeypatch):
    differences = {
        "als": Interval(0.1, 0.05, 0.15, 0.95),
        "graph": Interval(0.1, -0.05, 0.25, 0.95),
        "content": Interval(-0.1, -0.2, -0.05, 0.95),
    }
    gains(tmp_path / "one.png", differences, metric="NDCG@20", over="popularity")
    assert (tmp_path / "one.png").read_bytes().startswith(PNG)
    found = titles(monkeypatch)
    gains(tmp_path / "two.png", differences, metric="NDCG@20", over="popularity")
    assert found == ["1 of 3 surely beat popularity in NDCG@20"]


def test_a_title_names_those_that_nobody_beats_in_quality_and_any_cost(tmp_path, monkeypatch):
    quality = {name: Interval(value, value, value, 0.95) for name, value in {"a": 0.1, "b": 0.3, "c": 0.2}.items()}
    costs = {"latency (ms)": {"a": 0.1, "b": 50.0, "c": 60.0}, "fit (s)": {"a": 2.0, "b": 1.0, "c": 0.5}}
    trade_offs(tmp_path / "one.png", quality, costs, metric="NDCG@20")
    assert (tmp_path / "one.png").read_bytes().startswith(PNG)
    found = titles(monkeypatch)
    trade_offs(tmp_path / "two.png", quality, costs, metric="NDCG@20")
    assert found == ["None is as good for less, whatever the cost: b"]


def test_categories_of_lists_are_drawn_also_where_one_lacks_some(tmp_path):
    shares = {"had": {"tea": 0.7, "cups": 0.3}, "shown": {"tea": 0.5, "garden": 0.5}}
    category_shares(tmp_path / "one.png", shares, title="Cups are left out")
    assert (tmp_path / "one.png").read_bytes().startswith(PNG)
