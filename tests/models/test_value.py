"""The value model corrects an expectation, keeps its mean, and is stored without a pickle."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError, ModelFileError, NotFittedError
from models.value import Value


@pytest.fixture(scope="module")
def rows() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Visits say who spends more than was expected; a season doubles everybody's spend."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"visits": rng.poisson(5, 8000), "noise": rng.normal(size=8000)})
    expected = rng.gamma(2, 10, 8000)
    spent = 2 * expected * np.where(frame.visits > 5, 1.6, 0.6) * (rng.random(8000) < 0.5) / 0.5
    return frame, spent, expected


@pytest.fixture(scope="module")
def model(rows) -> Value:
    return Value(kind="spend").fit(*rows)


def test_it_lessens_the_error_and_keeps_the_mean(rows, model):
    frame, spent, expected = rows
    corrected = model.predict(frame, expected)
    assert corrected.sum() == pytest.approx(expected.sum())
    assert ((2 * corrected - spent) ** 2).mean() < 0.97 * ((2 * expected - spent) ** 2).mean()
    assert model.importance().index[0] == "visits"


def test_it_comes_back_as_it_was_stored(rows, model, tmp_path):
    frame, _, expected = rows
    model.save(tmp_path / "value")
    assert {file.suffix for file in (tmp_path / "value").iterdir()} == {".txt", ".json"}
    loaded = Value.load(tmp_path / "value")
    assert loaded.params == model.params
    assert (loaded.predict(frame[["noise", "visits"]], expected) == model.predict(frame, expected)).all()
    (tmp_path / "value" / "trees.txt").write_text("cut")
    with pytest.raises(ModelFileError, match="cut short or changed"):
        Value.load(tmp_path / "value")


def test_what_is_missing_or_infinite_is_read_as_missing(model):
    odd = pd.DataFrame({"visits": [np.nan, np.inf, 5], "noise": [0.0, 0.0, np.nan]})
    found = model.predict(odd, np.ones(3))
    assert np.isfinite(found).all()
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("frame", "spent", "told"),
    [
        (pd.DataFrame({"visits": [1.0, 2]}), np.array([1.0, -1]), "Take returns off first"),
        (pd.DataFrame({"visits": [1.0, 2]}), np.zeros(2), "nobody bought in the horizon"),
        (pd.DataFrame({"visits": ["a", "b"]}), np.ones(2), "give numbers"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(frame, spent, told):
    with pytest.raises(DataError, match=told):
        Value(kind="spend").fit(frame, spent, np.ones(2))


def test_a_feature_that_vanished_is_named(model):
    with pytest.raises(DataError, match="'visits' is not there"):
        model.predict(pd.DataFrame({"noise": [1.0]}), np.ones(1))
    with pytest.raises(NotFittedError):
        Value(kind="spend").predict(pd.DataFrame({"noise": [1.0]}), np.ones(1))
