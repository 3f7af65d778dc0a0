"""What the benchmark makes of played shops; and one shop that is played."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.loop import Played, _result, run
from data.errors import DataError

HARM = """
[[offers]]
name = "harm"
kind = "amount"
value = 5.0
cost = 1.0
min_spend = 0.0
category = ""
lift = 0.0
lift_logit = 0.0
moved_by = {}
annoyance = 0.5
annoyance_logit = 0.0
annoyed_by = {}
"""


def _played(model: float, **about: object) -> Played:
    told = {"oracle": 2.0, "model": model, "usual": 1.0, "random": 0.5, "single": 0.9, "covered": (True, False),
            "left_model": 0.02, "left_random": 0.03, "policy": "best for each"}  # fmt: skip
    return Played(**{**told, **about})  # type: ignore[arg-type]


def test_shares_and_gains_are_of_shops_and_paired():
    found = _result([_played(1.6), _played(1.8)], 0.9)
    assert found.metrics["share_of_oracle"] == pytest.approx(0.85)
    assert found.metrics["interval_coverage"] == 0.5
    assert found.metrics["gain_over_usual_low"] < 0.7 < found.intervals["gain_over_usual"].high
    assert found.metrics["unsubscribes_over_random"] == pytest.approx(-0.01)
    assert found.peers["usual"] == 0.5


def test_where_nothing_is_to_be_had_losing_nothing_is_all():
    assert _played(0.0, oracle=0.0).share == 1.0
    assert _played(-0.1, oracle=0.0).share == 0.0


def test_a_world_without_holdout_has_no_intervals_to_hold_anything():
    assert np.isnan(_result([_played(1.6, covered=())], 0.9).metrics["interval_coverage"])


def test_a_size_that_is_no_number_is_refused():
    with pytest.raises(DataError, match="number of customers"):
        run(size="many")


@pytest.mark.slow
def test_a_shop_is_played_in_a_world_of_harm_only(tmp_path):
    world = tmp_path / "world.toml"
    world.write_text(HARM)
    found = run(size="300", trials=1, world=world)
    assert found.peers["random"] == 0.0  # there is no profit to have a share of
    assert np.isfinite(found.metrics["share_of_oracle"])
