"""The replay of headline tests: the same impressions for all, and a peer at its best length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.variants import run
from data.errors import DataError


def headline_tests(n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (f"t{test}", f"Headline {test} {variant}", "picture", 4000, int(4000 * rng.uniform(0.02, 0.03)))
        for test in range(n)
        for variant in range(3)
    ]
    return pd.DataFrame(rows, columns=["clickability_test_id", "headline", "eyecatcher_id", "impressions", "clicks"])


def test_learning_while_showing_loses_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    headline_tests().to_parquet(tmp_path / "variants.parquet")
    result = run(data=tmp_path, size="8")
    assert result.metrics["tests"] == 8
    assert result.metrics["regret_below_uniform"] > 0.2
    best = min(told["regret"] for name, told in result.peers.items() if name.startswith("test"))
    assert result.metrics["regret_below_ab_test"] == pytest.approx(1 - result.metrics["regret"] / best)
    assert "8 tests judged" in capsys.readouterr().out


def test_without_data_it_says_what_it_needs() -> None:
    with pytest.raises(DataError, match="--data"):
        run(data=None, size=None)


def test_rows_that_cannot_be_counted_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = headline_tests(8)
    table["clicks"] = table["clicks"].astype(float)
    table.loc[0, "clicks"], table.loc[3, "clicks"] = np.nan, 4001
    alone = table.iloc[[6]].assign(clickability_test_id="alone")
    pd.concat([table, alone]).to_parquet(tmp_path / "variants.parquet")
    assert run(data=tmp_path, size="2").metrics["tests"] == 2
    assert "3 of 25 rows are left out" in capsys.readouterr().out
    alone.to_parquet(tmp_path / "variants.parquet")
    with pytest.raises(DataError, match="0 tests are too few"):
        run(data=tmp_path, size="2")
