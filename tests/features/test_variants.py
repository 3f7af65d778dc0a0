"""What came of decisions about variants."""

from __future__ import annotations

import pandas as pd
import pytest

from features.variants import answered

UNTIL = pd.Timestamp("2026-01-05", tz="UTC")


@pytest.fixture
def made() -> pd.DataFrame:
    at = pd.to_datetime(["2026-01-01T00:00", "2026-01-04T23:00"], utc=True)
    return pd.DataFrame({"decision_id": ["old", "young"], "at": at, "slot": "hero", "chosen": "a"})


@pytest.mark.parametrize("reward", ["click", "value"])
def test_without_any_outcome_old_decisions_are_noes_and_young_ones_wait(made: pd.DataFrame, reward: str) -> None:
    nothing = pd.DataFrame({"decision_id": [], "kind": [], "at": pd.to_datetime([], utc=True), "value": []})
    found = answered(made, nothing, reward=reward, window_hours=24, until=UNTIL)
    assert found[["decision_id", "shown", "reward"]].values.tolist() == [["old", 1.0, 0.0]]


def test_two_clicks_of_one_decision_are_one_yes(made: pd.DataFrame) -> None:
    at = pd.to_datetime(["2026-01-01T01:00", "2026-01-01T02:00"], utc=True)
    clicks = pd.DataFrame({"decision_id": "old", "kind": "click", "at": at, "value": None})
    found = answered(made, clicks, reward="click", window_hours=24, until=UNTIL)
    assert found["reward"].tolist() == [1.0]
