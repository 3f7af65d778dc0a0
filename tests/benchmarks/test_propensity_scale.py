"""The benchmark of propensity at size runs end to end on few rows."""

from __future__ import annotations

import pytest

from benchmarks.propensity_scale import run
from data.errors import DataError


def test_it_searches_fits_and_scores():
    found = run(data=None, size="4kx10", trials=2)
    assert found.metrics["trials"] == 2
    assert found.metrics["trees"] >= 1
    assert 0 < found.metrics["score_seconds"] < 60


def test_a_size_that_is_none_is_refused():
    with pytest.raises(DataError, match="1Mx100"):
        run(data=None, size="many")
