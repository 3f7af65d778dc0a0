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


def test_names_in_any_case_and_returns_are_read_and_what_is_left_out_is_told(tmp_path, capsys):
    rng = np.random.default_rng(2)
    customer = np.repeat(np.arange(200), 4)
    day = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 300, 800), unit="D")
    amount = np.where(np.arange(800) % 40 == 0, -5.0, 5.0)
    bought = pd.DataFrame({"Customer": customer, "DATE": day.strftime("%Y-%m-%d"), "Amount": amount})
    bought.loc[[3, 7], "Customer"] = None
    bought.to_csv(tmp_path / "bought.csv", index=False)
    result = run(data=tmp_path / "bought.csv", size=None)
    words = capsys.readouterr().out
    assert "20 of 800 rows are returns" in words
    assert "2 of 800 rows have no customer" in words
    assert "published" not in words
    assert "published" not in result.peers


def test_it_asks_for_data(tmp_path):
    with pytest.raises(DataError, match="--data"):
        run(data=None, size=None)
    with pytest.raises(DataError, match="customer, date and amount"):
        run(data=tmp_path, size=None)
