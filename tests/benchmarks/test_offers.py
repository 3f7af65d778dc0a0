"""The benchmark of offers takes the waves from the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.offers import run
from data.errors import DataError

HOURS = (0, 100, 200, 330)


def shop(folder: Path, hours: tuple[int, ...], people: int = 900) -> None:
    """Half of the people buy when they get the first offer, the others when they get the second."""
    rng = np.random.default_rng(0)
    who = np.array([f"p{row}" for row in range(people)])
    first = rng.random(people) < 0.5
    parts = []
    for hour in hours:
        arm = rng.integers(0, 3, people)
        got = arm > 0
        parts.append(pd.DataFrame({"person": who[got], "event": "offer received", "hour": hour,
                                   "offer_id": np.where(arm[got] == 1, "a", "b")}))  # fmt: skip
        buys = rng.random(people) < 0.2 + 0.6 * np.where(first, arm == 1, arm == 2)
        parts.append(pd.DataFrame({"person": who[buys], "event": "transaction", "hour": hour + 9, "amount": 10.0}))
    events = pd.concat(parts, ignore_index=True).assign(reward=np.nan)
    events.to_parquet(folder / "events.parquet")
    day = pd.Timestamp("2026-01-01") - pd.to_timedelta(rng.integers(0, 900, people), "D")
    pd.DataFrame({"id": who, "age": 40, "income": 1e4, "gender": np.where(first, "F", "M"),
                  "became_member_on": day}).to_parquet(folder / "customers.parquet")  # fmt: skip
    pd.DataFrame({"id": ["a", "b"], "offer_type": "bogo", "difficulty": [5, 9], "duration": 7.0,
                  "reward": 5}).to_parquet(folder / "offers.parquet")  # fmt: skip


def test_waves_are_the_hours_at_which_offers_were_received(tmp_path, capsys):
    shop(tmp_path, HOURS)
    found = run(data=tmp_path)
    assert "900 customers; net spend each in 100 hours" in capsys.readouterr().out
    assert found.metrics["net_spend_gain_over_best_single"] > 1
    assert found.metrics["served_minus_offline"] == pytest.approx(0, abs=1e-9)


def test_two_waves_are_too_few(tmp_path):
    shop(tmp_path, HOURS[:2], people=50)
    with pytest.raises(DataError, match="received at 2 hours; give three waves"):
        run(data=tmp_path)
