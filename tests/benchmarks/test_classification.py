"""The benchmark on plain tables: what it prints, and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import classification
from benchmarks.classification import run
from data.errors import DataError


def test_a_table_nobody_has_seen_is_measured_beside_its_peers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(classification, "FOLDS", 2)
    monkeypatch.setattr(classification, "SEEDS", 1)
    rng = np.random.default_rng(0)
    spend = rng.gamma(2, 10, 400)
    table = pd.DataFrame(
        {
            "key": [f"k{i}" for i in range(400)],
            'spend [$]: "all"': np.where(rng.random(400) < 0.05, "", spend.round(1).astype(str)),
            "city": rng.choice(["a", "b", "c"], 400),
            "churn": np.where(rng.random(400) < 1 / (1 + np.exp((spend - 20) / 5)), "Yes", "No"),
        }
    )
    table.loc[:4, "churn"] = None
    table.to_csv(tmp_path / "customers.csv", index=False)
    found = run(data=tmp_path / "customers.csv", target="churn", drop=["key"], trials=1, minutes=0)
    assert set(found.metrics) == set(found.intervals) == {"roc_auc", "average_precision", "brier", "calibration_error"}
    assert found.metrics["roc_auc"] > 0.8
    assert found.intervals["brier"].low < found.metrics["brier"] < found.intervals["brier"].high
    assert set(found.peers) == {"logistic regression", "LightGBM default"}
    assert "395 rows, 2 columns; churn = Yes" in capsys.readouterr().out


def test_a_column_that_knows_the_answer_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(classification, "FOLDS", 2)
    monkeypatch.setattr(classification, "SEEDS", 1)
    rng = np.random.default_rng(1)
    left = rng.random(300) < 0.4
    table = pd.DataFrame({"left": left, "age": rng.normal(40, 9, 300), "status": np.where(left, "closed", "open")})
    table.to_parquet(tmp_path / "customers.parquet")
    run(data=tmp_path / "customers.parquet", target="left", trials=1, minutes=0)
    assert "status alone gives 1.000 and probably knows the answer" in capsys.readouterr().out


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"no column 'churn'; it has a, b"):
        run(data=tmp_path / "t.csv", target="churn")
    with pytest.raises(DataError, match="say --data FILE and --target COL"):
        run(data=tmp_path / "t.csv", target=None)
