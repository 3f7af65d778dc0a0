"""The benchmarks of experiments without an effect: what they count, and what they refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import coverage, null
from data.errors import DataError


def test_a_table_nobody_has_seen_is_shuffled(tmp_path, capsys):
    rng = np.random.default_rng(0)
    mail = rng.random(3000) < 0.5
    bought, age = (rng.random(3000) < 0.1 + 0.1 * mail).astype(int), rng.integers(18, 80, 3000)
    rows = pd.DataFrame({"arm": np.where(mail, "b", "a"), "bought": bought, "age": age})
    rows.to_csv(tmp_path / "t.csv", index=False)
    found = null.run(data=tmp_path / "t.csv", treatment="arm", control="a", outcome=["bought"], size="6")
    assert "as it was: Act: b. It raises bought by" in capsys.readouterr().out
    assert found.metrics["refused"] == 0
    assert found.metrics["false_verdicts"] <= 1 / 12


def test_any_arm_may_be_the_control_where_none_is_called_so(tmp_path, capsys):
    rows = pd.DataFrame({"arm": [1.0, 2.0, None] * 200, "bought": np.random.default_rng(2).integers(0, 2, 600)})
    rows.to_parquet(tmp_path / "t.parquet")
    found = null.run(data=tmp_path / "t.parquet", treatment="arm", outcome=["bought"], size="2")
    assert "1 is taken for the control" in capsys.readouterr().out
    assert set(found.metrics) >= {"false_verdicts", "refused"}


def test_targeted_campaigns_are_refused(tmp_path):
    rng = np.random.default_rng(1)
    spend = rng.gamma(1, 50, 2000)
    rows = {"CAMPAIGN": 1, "household_key": range(2000), "Exposed": rng.random(2000) < spend / 300}
    pd.DataFrame(rows | {"Pre_Spend": spend, "Post_Spend": spend}).to_parquet(tmp_path / null.COMPLETE_JOURNEY)
    assert null.run(data=tmp_path).metrics == {"refused": 1.0}


def test_what_cannot_be_run_is_said(tmp_path):
    with pytest.raises(DataError, match="say --data FOLDER"):
        null.run(data=None)
    with pytest.raises(DataError, match="holds neither"):
        null.run(data=tmp_path)
    with pytest.raises(DataError, match="makes its own data"):
        coverage.run(data=tmp_path)


def test_coverage_counts_every_kind(monkeypatch):
    monkeypatch.setattr(coverage, "TRUE_QINI_PEOPLE", 20_000)
    found = coverage.run(data=None, size="4")
    assert set(found.metrics) == set(coverage.DRAWS) == set(found.intervals)
    assert all(0 <= value <= 1 for value in found.metrics.values())
