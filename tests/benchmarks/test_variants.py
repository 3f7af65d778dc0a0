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
