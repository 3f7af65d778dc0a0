"""Pictures are drawn from odd data too, the same bytes for the same data."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.intervals import Interval
from evaluation.plots import calibration_curve, comparison, lift_chart

PNG = b"\x89PNG"


@pytest.mark.parametrize("kind", ["many", "few", "one probability"])
def test_probabilities_are_drawn(kind, tmp_path):
    rng = np.random.default_rng(0)
    n = 6 if kind == "few" else 2_000
    probability = np.full(n, 0.3) if kind == "one probability" else rng.beta(1, 3, n)
    label = (rng.random(n) < probability).astype(int)
    label[0] = 1
    for draw in (calibration_curve, lift_chart):
        draw(tmp_path / "one.png", label, probability, what="no order within 90 days")
        draw(tmp_path / "two.png", label, probability, what="no order within 90 days")
        assert (tmp_path / "one.png").read_bytes().startswith(PNG)
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_contestants_are_drawn_and_the_unmeasured_left_out(tmp_path):
    nothing = Interval(np.nan, np.nan, np.nan, 0.95)
    found = {"popularity": Interval(0.1, 0.08, 0.12, 0.95), "als": Interval(0.2, 0.18, 0.22, 0.95), "broken": nothing}
    comparison(tmp_path / "new" / "one.png", found, metric="NDCG at 20", highlight="als")
    assert (tmp_path / "new" / "one.png").read_bytes().startswith(PNG)
    comparison(tmp_path / "none.png", {"broken": nothing}, metric="NDCG at 20")
    assert (tmp_path / "none.png").read_bytes().startswith(PNG)
