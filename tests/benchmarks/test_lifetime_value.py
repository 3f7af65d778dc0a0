"""The lifetime benchmark reads any purchases, and says what it is measured on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.lifetime_value import run
from data.errors import DataError


def test_a_file_of_purchases_is_measured(tmp_path, capsys):
    rng = np.random.default_rng(1)
    customer = np.repeat(np.arange(400), rng.poisson(rng.gamma(1.0, 4.0, 400)) + 1)
    day = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 300, len(customer)), unit="D")
    bought = pd.DataFrame({"customer": customer, "date": day, "amount": rng.gamma(4, 5, len(customer))})
    bought.to_csv(tmp_path / "bought.csv", index=False)
    result = run(data=tmp_path, size=None)
    assert {"mae", "rmse", "bias", "bg_nbd_mae", "pareto_nbd_rmse", "corrected_mbg_nbd_bias"} <= set(result.metrics)
    assert result.metrics["mae"] < 3
    assert result.intervals["mae"].low < result.metrics["mae"] < result.intervals["mae"].high
    assert 0.7 < result.metrics["value_coverage_at_80"] <= 1
    assert "chosen in the first half" in capsys.readouterr().out


def test_it_asks_for_data(tmp_path):
    with pytest.raises(DataError, match="--data"):
        run(data=None, size=None)
    with pytest.raises(DataError, match="customer, date and amount"):
        run(data=tmp_path, size=None)
