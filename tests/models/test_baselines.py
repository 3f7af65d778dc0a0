"""The baselines do what they say, on few and odd columns too."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError, ModelFileError, NotFittedError
from models.baselines import BaseRate, CellMeans, LogisticRFM
from models.stored import load_propensity


def shop(n: int = 500) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"days_since_order": rng.exponential(60, n), "orders_365d": rng.poisson(2, n)})
    frame.loc[::9, "days_since_order"] = np.nan
    return frame, (frame["days_since_order"].fillna(99) > 50).astype(int).to_numpy()


def test_the_base_rate_is_everybodys():
    frame, label = shop()
    assert (BaseRate().fit(frame, label).predict(frame) == label.mean()).all()
    with pytest.raises(DataError, match="no rows"):
        BaseRate().fit(frame.head(0), [])


def test_the_base_rate_is_stored_and_has_no_reasons(tmp_path):
    frame, label = shop()
    model = BaseRate().fit(frame, label)
    model.save(tmp_path / "model")
    loaded = load_propensity(tmp_path / "model")
    assert isinstance(loaded, BaseRate)
    assert (loaded.predict(frame) == label.mean()).all()
    assert loaded.contributions(frame).shape == (len(frame), 0)
    assert len(loaded.importance()) == 0


def test_means_of_cells_are_drawn_to_everybodys_and_survive_json():
    frame, label = shop()
    money = 100.0 * label
    found = CellMeans.fit(frame, money, label)
    again = CellMeans.from_json(json.loads(json.dumps(found.as_json())))
    asked = pd.DataFrame({"orders_365d": [2, 2], "days_since_order": [5.0, 300.0]})
    assert [one.tolist() for one in again.expect(asked)] == [one.tolist() for one in found.expect(asked)]
    assert 0 < found.expect(asked)[0][0] < money.mean() < found.expect(asked)[0][1] < 100
    everybody = CellMeans.fit(frame[[]], money, label)
    assert everybody.expect(asked)[0] == pytest.approx([money.mean()] * 2)


def test_logistic_regression_ranks_by_recency_through_missing_values():
    frame, label = shop()
    model = LogisticRFM(columns=["days_since_order", "orders_365d", "spend_365d"]).fit(frame, label)
    assert model.features == ["days_since_order", "orders_365d"]
    probability = model.predict(pd.DataFrame({"orders_365d": [1, 1, 1], "days_since_order": [5, np.nan, 300]}))
    assert 0 <= probability[0] < probability[1] < probability[2] <= 1


def test_logistic_regression_is_stored_and_explained_like_any_propensity(tmp_path):
    frame, label = shop()
    model = LogisticRFM(columns=["days_since_order", "orders_365d"]).fit(frame, label)
    model.save(tmp_path / "model")
    loaded = load_propensity(tmp_path / "model")
    assert (loaded.predict(frame) == model.predict(frame)).all()
    [why] = loaded.reasons(pd.DataFrame({"days_since_order": [300.0], "orders_365d": [2]}))
    assert (why[0].feature, why[0].value) == ("days_since_order", 300.0)
    assert why[0].contribution > 0
    assert loaded.importance().sum() == pytest.approx(1)
    with pytest.raises(DataError, match="days_since_order"):
        loaded.predict(frame.drop(columns="days_since_order"))


def test_a_damaged_file_is_refused(tmp_path):
    frame, label = shop()
    LogisticRFM(columns=["orders_365d"]).fit(frame, label).save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    file.write_text(file.read_text().replace('"weights": [', '"weights": [1.0, '))
    with pytest.raises(ModelFileError, match="damaged"):
        load_propensity(tmp_path / "model")
    file.write_text(file.read_text()[:50])
    with pytest.raises(ModelFileError, match="damaged"):
        load_propensity(tmp_path / "model")


def test_a_column_without_any_value_does_no_harm():
    frame, label = shop()
    model = LogisticRFM(columns=["days_since_order", "empty"]).fit(frame.assign(empty=np.nan), label)
    assert np.isfinite(model.predict(frame.assign(empty=np.nan))).all()


def test_what_cannot_be_learnt_is_refused():
    frame, label = shop()
    with pytest.raises(DataError, match="spend_365d"):
        LogisticRFM(columns=["spend_365d"]).fit(frame, label)
    with pytest.raises(DataError, match="both classes"):
        LogisticRFM(columns=["orders_365d"]).fit(frame, np.zeros(len(frame)))
    with pytest.raises(NotFittedError, match="fit"):
        LogisticRFM(columns=["orders_365d"]).predict(frame)
