"""The latency benchmark measures side by side and tells every model, also those that refuse."""

from __future__ import annotations

import time

import numpy as np
import pytest

from benchmarks import latency
from data.errors import DataError
from data.histories import Histories
from models.recommenders import MODELS
from models.recommenders.als import ALS


def test_what_waits_takes_time_by_the_clock_and_none_of_the_cpu():
    took = latency.measure({"waits": lambda _: time.sleep(0.003), "idles": lambda _: None}, n_asks=20)
    assert took["waits"].summary["p50_ms"] >= 3
    assert took["waits"].summary["cpu_p95_ms"] < 3
    assert took["idles"].summary["p50_ms"] < 3


def test_a_small_catalogue_is_measured_beside_numpy(monkeypatch, capsys):
    few = {name: MODELS[name] for name in ("popularity", "als")}
    monkeypatch.setattr(latency, "MODELS", few)
    monkeypatch.setattr(latency, "N_TIMED", 50)
    found = latency.run(data=None, size="400")
    assert found.metrics["als_p95_ms"] > 0
    assert found.metrics["p95_ms_times_numpy"] == pytest.approx(
        found.metrics["als_p95_ms"] / found.peers["numpy"]["p95_ms"]
    )
    assert set(found.peers["families"]) == set(few)
    assert "400 items with 64 factors" in capsys.readouterr().out


def test_what_numpy_finds_is_what_is_recommended():
    shop = latency.random_shop(300, n_users=200)
    model = ALS(iterations=1).fit(shop)
    histories = Histories.from_interactions(shop)
    scores = model.user_factors(histories).astype(np.float32) @ model.factors_of_items.T
    best = np.sort(np.argpartition(scores, -latency.K, axis=1)[:, -latency.K :], axis=1)
    found = model.recommend(histories, latency.K, exclude_seen=False).items
    np.testing.assert_array_equal(np.sort(found, axis=1), best)


def test_data_and_odd_sizes_are_refused(tmp_path):
    for options in ({"data": tmp_path, "size": None}, {"data": None, "size": "20M"}):
        with pytest.raises(DataError, match="100000"):
            latency.run(**options)
