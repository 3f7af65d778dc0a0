"""A score by a model that learnt long ago comes with a warning."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from data.workspace import Workspace
from registry.folder import verify
from serving.champions import load_champion
from serving.engine import Engine
from serving.schemas import ScoreAsk


@pytest.fixture
def engine(shop) -> Engine:
    opened = Engine(Workspace(shop))
    folder = verify(shop / "versions" / "propensity-churn" / "1")
    opened.champions.current = {"propensity-churn": load_champion("propensity-churn", 1, folder)}
    return opened


def test_a_stale_model_answers_with_a_warning(engine: Engine) -> None:
    [warning] = engine.score(ScoreAsk(user_ids=["u1"])).warnings
    assert warning.startswith("propensity-churn 1 is stale: what it learnt from ended ")
    assert "horizons of 90 days ago" in warning


def test_a_fresh_model_has_none(engine: Engine) -> None:
    champion = engine.champions.current["propensity-churn"]
    engine.champions.current = {"propensity-churn": replace(champion, fitted_until=datetime.now(UTC))}
    assert engine.score(ScoreAsk(user_ids=["u1"])).warnings == []
