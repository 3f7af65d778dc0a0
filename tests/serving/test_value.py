"""What customers are worth is served beside their propensities, and where it cannot be told the answer says why."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.errors import ModelFileError
from data.workspace import Workspace
from models.baselines import BaseRate, CellMeans
from models.lifetime import BgNbd, GammaGamma, Habits
from models.saving import EXAMPLES
from models.worth import Band, CustomerValue
from serving.champions import VALUE, Champion, load_champion
from serving.engine import Engine
from serving.schemas import ScoreAsk

HABITS = Habits(BgNbd(r=0.5, alpha=6.0, a=0.8, b=2.4), GammaGamma(p=6.0, q=4.0, gamma=15.0))
CUSTOMER = {
    "orders_life": 3, "days_since_order": 10.0, "days_since_first_order": 60.0, "order_value_mean": 5.0,
    "order_value_first": 5.0, "return_share": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = CustomerValue(HABITS, horizon_days=90)
    model.band = Band(0.8, (1.0, 50.0), (0.0, 0.2), (4.0, 2.5))
    path = tmp_path_factory.mktemp("value") / "1"
    model.save(path)
    expected = model.predict(pd.DataFrame([CUSTOMER])).value.tolist()
    (path / EXAMPLES).write_text(json.dumps({"rows": [CUSTOMER], "expected": expected}))
    (path / "card.json").write_text(json.dumps({"fitted_until": datetime.now(UTC).isoformat(), "horizon_days": 90}))
    return path


@pytest.fixture(scope="module")
def value(folder: Path) -> Champion:
    return load_champion(VALUE, 1, folder)


@pytest.fixture(scope="module")
def engine(shop: Path, value: Champion) -> Engine:
    opened = Engine(Workspace(shop))
    opened.load()
    opened.champions.current = {VALUE: value}
    return opened


def test_who_ordered_has_a_value_in_its_interval_and_who_did_not_is_told_so(engine: Engine, shop: Path) -> None:
    buyers = pd.read_parquet(shop / "tables" / "orders.parquet").user_id.dropna()
    found = engine.score(ScoreAsk(user_ids=[buyers.iloc[0], "fresh", "nobody"], models=["value"]))
    buyer, fresh, nobody = (user.value for user in found.users)
    assert found.model_version == "value 1"
    assert buyer is not None
    assert fresh is not None
    assert nobody is not None
    assert buyer.low <= buyer.value <= buyer.high
    assert (buyer.horizon_days, buyer.currency, buyer.note) == (90, "USD", None)
    assert (fresh.value, fresh.note) == (None, "has not ordered yet")
    assert nobody.value is None
    assert "not known" in str(nobody.note)


def test_it_is_the_models_own_answer(engine: Engine, value: Champion) -> None:
    assert engine.profiles is not None
    frame, ids = engine.profiles.of([f"u{i}" for i in range(20)])
    served = [user.value.value for user in engine.score(ScoreAsk(user_ids=ids)).users]
    np.testing.assert_allclose(np.array(served, dtype=float), value.model.predict(frame).value)


def test_who_does_not_ask_for_it_does_not_get_it_and_without_a_champion_it_says_why(engine: Engine) -> None:
    assert engine.score(ScoreAsk(user_ids=["u1"], models=["churn"])).users[0].value is None
    current = engine.champions.current
    engine.champions.current = {}
    try:
        [user] = engine.score(ScoreAsk(user_ids=["u1"], models=["value"])).users
    finally:
        engine.champions.current = current
    assert user.value is not None
    assert user.value.value is None
    assert user.value.note


def test_a_feature_that_is_gone_and_a_stale_model_are_told(engine: Engine, value: Champion) -> None:
    old = replace(value, fitted_until=datetime(2020, 1, 1, tzinfo=UTC))
    assert "value 1 is stale" in engine._warnings([old])[0]
    assert engine.profiles is not None
    frame, _ = engine.profiles.of(["u1"])
    [told] = engine._values(value, frame.drop(columns="order_value_mean"))
    assert told is not None
    assert "'order_value_mean' is not there" in str(told.note)


def test_a_version_that_answers_otherwise_is_refused(folder: Path, tmp_path: Path) -> None:
    examples = json.loads((folder / EXAMPLES).read_text())
    moved = tmp_path / "2"
    moved.mkdir()
    for file in folder.iterdir():
        (moved / file.name).write_text(file.read_text())
    (moved / EXAMPLES).write_text(json.dumps({**examples, "expected": [1.0]}))
    with pytest.raises(ModelFileError, match="does not answer its stored examples"):
        load_champion(VALUE, 2, moved)


def test_the_plain_rules_that_stand_in_for_models_are_served_too(
    engine: Engine, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = pd.DataFrame(index=range(4))
    means = CellMeans.fit(everybody, np.array([0.0, 0, 40, 40]), np.array([0.0, 0, 2, 2]))
    value = CustomerValue(HABITS, horizon_days=90, means=means)
    value.band = Band(0.8, (20.0,), (0.0,), (2.0,))
    rate = Champion("propensity-churn", 1, BaseRate().fit(everybody, [0, 0, 0, 1]))
    monkeypatch.setattr(engine.champions, "current", {VALUE: Champion(VALUE, 1, value), rate.name: rate})
    buyers = pd.read_parquet(shop / "tables" / "orders.parquet").user_id.dropna().unique()[:5].tolist()
    found = engine.score(ScoreAsk(user_ids=buyers, models=["value", "churn"])).users
    assert {(user.value.value, user.value.high, user.value.orders) for user in found if user.value} == {(20, 40, 1)}
    asked = [user.scores["churn"] for user in found if user.scores["churn"].probability is not None]
    assert asked
    assert {(one.probability, len(one.reasons), one.note) for one in asked} == {
        (0.25, 0, "nothing is known that tells people apart")
    }
