"""Drift: silent where nothing moved, however few the people; loud, with the name, where something did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.drift import Histogram, drift, from_json, histograms, population_stability, to_json
from evaluation.plots import drift_chart

DRAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "mostly zero": lambda rng, n: rng.poisson(0.3, n).astype(float),
    "words": lambda rng, n: rng.choice([f"w{i}" for i in range(8)], n, p=np.arange(1, 9) / 36),
}


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize(("n", "m"), [(5000, 50), (500, 500), (200, 200)])
def test_where_nothing_moved_chance_is_subtracted_and_alarms_are_rare(kind: str, n: int, m: int) -> None:
    rng, found = np.random.default_rng(1), []
    for _ in range(100):
        before = Histogram.of(pd.Series(DRAWS[kind](rng, n)))
        now = before.again(pd.Series(DRAWS[kind](rng, m)))
        found.append(population_stability(np.array(before.counts), np.array(now.counts)))
    assert np.mean([one.psi for one in found]) < 0.04  # ten bins and fifty people have .18 without the correction
    assert sum(one.verdict() != "steady" for one in found) <= 2


def test_a_known_index_is_found() -> None:
    # (.4 - .5) ln(.4 / .5) + (.6 - .5) ln(.6 / .5) = .0405
    found = population_stability(np.array([500_000, 500_000]), np.array([400_000, 600_000]))
    assert found.psi == pytest.approx(0.0405, abs=1e-4)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (np.zeros(1000), np.ones(1000)),
        (np.ones(1000), np.zeros(1000)),
        (np.array([True, False] * 500), np.array([True] * 1000)),
        (np.full(1000, np.nan), np.ones(1000)),
        (np.arange(1000.0), np.where(np.arange(1000) % 2, np.nan, np.arange(1000))),
        (np.arange(1000.0), np.full(1000, np.inf)),
        (np.array(["a", "b"] * 500), np.array(["a", "c"] * 500)),
    ],
)
def test_a_change_of_kind_is_an_alarm(was: np.ndarray, now: np.ndarray) -> None:
    [found] = drift(histograms(pd.DataFrame({"x": was})), pd.DataFrame({"x": now}))
    assert found.verdict == "alarm"


def test_missing_values_new_and_gone_categories_are_told() -> None:
    was = pd.DataFrame({"country": ["DE"] * 600 + ["AT"] * 399 + ["LU"], "steady": np.arange(1000.0)})
    now = pd.DataFrame({"country": ["DE"] * 500 + ["FR"] * 300 + [None] * 200, "steady": np.arange(1000.0)})
    country, steady = drift(histograms(was), now)
    assert (country.new, country.gone) == (("FR",), ("AT",))  # one from Luxembourg is too few to be missed
    assert (country.missing_before, country.missing_now) == (0.0, 0.2)
    assert (steady.name, steady.verdict, steady.psi) == ("steady", "steady", 0.0)


def test_a_column_that_vanished_or_turned_into_words_is_named() -> None:
    was = histograms(pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0], "c": ["x", "y"]}))
    found = {one.name: one.note for one in drift(was, pd.DataFrame({"b": ["x", "y"], "c": [1, 2]}))}
    assert found["a"] == "is not there any more"
    assert found["b"].startswith("held numbers and is")
    assert found["c"].startswith("held words and is")


def test_nobody_to_compare_is_no_drift() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    assert [one.verdict for one in drift(histograms(frame), frame.iloc[:0])] == ["steady", "steady"]


def test_a_hundred_categories_stay_small_and_are_not_called_new() -> None:
    words = pd.DataFrame({"city": [f"city {i % 100}" for i in range(1000)]})
    assert len(histograms(words)["city"].bins) == 20
    assert drift(histograms(words), words)[0].new == ()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(-5, 5)), min_size=1, max_size=60))
def test_any_numbers_go_to_text_and_back_and_are_steady_against_themselves(values: list[float | None]) -> None:
    frame = pd.DataFrame({"x": pd.Series(values, dtype=float)})
    before = from_json(to_json(histograms(frame)))
    assert before == histograms(frame)
    assert sum(before["x"].counts) == len(values)
    assert drift(before, frame)[0].psi == 0


@pytest.mark.parametrize(
    ("was", "now", "verdict"),
    [
        ([1.0] * 100, [1.0] * 100, "steady"),
        ([1.0] * 100, [2.0] * 100, "alarm"),  # a constant that is another one now
        (list(range(100)), [np.nan] * 100, "alarm"),
        ([np.nan] * 100, list(range(100)), "alarm"),
        ([np.nan] * 100, [np.nan] * 100, "steady"),
        ([], [1.0] * 100, "steady"),  # nobody to compare with
        ([np.inf] * 100, [np.nan] * 100, "steady"),
    ],
)
def test_constant_missing_and_empty_columns(was: list[float], now: list[float], verdict: str) -> None:
    before = histograms(pd.DataFrame({"spend": pd.Series(was, dtype=float)}))
    [found] = drift(before, pd.DataFrame({"spend": pd.Series(now, dtype=float)}))
    assert (found.verdict, found.note) == (verdict, "")


def test_the_picture_shows_what_vanished_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    was = pd.DataFrame({"spend": rng.normal(size=500), "visits": rng.normal(size=500), "gone": 1.0})
    found = drift(histograms(was), was.drop(columns="gone").assign(spend=was["spend"] + 3))
    drift_chart(tmp_path / "drift.png", found, what="churn 1", warn=0.1, alarm=0.25)
    drift_chart(tmp_path / "nothing.png", (), what="churn 1", warn=0.1, alarm=0.25)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
