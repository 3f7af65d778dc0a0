"""Propensity: what it learns, how it treats odd columns and labels, and that files and reasons tell the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from data.errors import DataError, ModelFileError, NotFittedError
from evaluation.classification import evaluate
from models.propensity import Propensity

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def people(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """A frame with every kind of column, and labels whose log-odds are known."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "days_since_order": rng.exponential(60, n),
            "orders_365d": rng.poisson(3, n),
            "member_tier": rng.choice(["gold", "silver", "none"], n),
            "opted_in": rng.random(n) < 0.5,
            "noise": rng.normal(size=n),
            "constant": 1.0,
            "nothing": np.nan,
            "no_text": pd.Series([None] * n, dtype="str"),
        }
    )
    log_odds = 0.02 * frame["days_since_order"] - 0.4 * frame["orders_365d"] - 1.5 * (frame["member_tier"] == "gold")
    label = (rng.random(n) < 1 / (1 + np.exp(-log_odds.to_numpy()))).astype(int)
    frame.loc[rng.random(n) < 0.1, "days_since_order"] = np.nan
    frame.loc[rng.random(n) < 0.1, "member_tier"] = None
    return frame, label


@pytest.fixture(scope="module")
def fitted() -> Propensity:
    train, label = people(3_000)
    valid, valid_label = people(1_000, 1)
    later, later_label = people(1_000, 2)
    return Propensity().fit(
        train, label, valid=valid, valid_label=valid_label, calibration=later, calibration_label=later_label
    )


def test_it_ranks_and_its_probabilities_mean_what_they_say(fitted):
    frame, label = people(5_000, 3)
    found = evaluate(label, fitted.predict(frame), resamples=200)
    assert found.roc_auc.estimate > 0.77
    assert found.calibration_error.estimate < 0.035
    assert found.calibration_slope.low < 1 < found.calibration_slope.high


def test_reasons_are_lightgbms_own_and_name_real_values(fitted):
    frame, _ = people(50, 4)
    for row, reasons in enumerate(fitted.reasons(frame, top=3)):
        assert 1 <= len(reasons) <= 3
        sizes = [abs(reason.contribution) for reason in reasons]
        assert sizes == sorted(sizes, reverse=True)
        assert {reason.feature for reason in reasons} <= set(frame.columns) - {"constant", "nothing", "no_text"}
        for reason in reasons:
            value = frame[reason.feature].iloc[row]
            assert (reason.value is None) if pd.isna(value) else (reason.value == value)
    gold = frame.head(1).assign(member_tier="gold")
    tier = next(reason for reason in fitted.reasons(gold, top=8)[0] if reason.feature == "member_tier")
    assert tier.contribution < 0


def test_contributions_add_up_to_the_score(fitted):
    frame, _ = people(20, 5)
    sums = [sum(reason.contribution for reason in reasons) for reasons in fitted.reasons(frame, top=99)]
    assert np.ptp(fitted.log_odds(frame) - sums) < 1e-9


def test_importance_names_what_matters_first(fitted):
    importance = fitted.importance()
    assert importance.sum() == pytest.approx(1)
    assert set(importance.index[:3]) == {"days_since_order", "orders_365d", "member_tier"}
    assert importance["constant"] == 0


def test_the_same_seed_gives_the_same_model_and_saving_changes_nothing(fitted, tmp_path):
    train, label = people(3_000)
    valid, valid_label = people(1_000, 1)
    one = Propensity().fit(train, label, valid=valid, valid_label=valid_label)
    other = Propensity().fit(train, label, valid=valid, valid_label=valid_label)
    frame, _ = people(200, 6)
    assert_array_equal(one.predict(frame), other.predict(frame))
    fitted.save(tmp_path / "model")
    again = Propensity.load(tmp_path / "model")
    assert_array_equal(again.predict(frame), fitted.predict(frame))
    assert again.reasons(frame) == fitted.reasons(frame)
    again.save(tmp_path / "again")
    for name in ("trees.txt", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_the_number_of_threads_does_not_change_the_model(monkeypatch):
    train, label = people(1_000)
    one = Propensity(rounds=20).fit(train, label, valid=train, valid_label=label)
    monkeypatch.setattr("models.propensity.SMALL_CELLS", 0)
    many = Propensity(rounds=20).fit(train, label, valid=train, valid_label=label)
    assert_array_equal(one.predict(train), many.predict(train))


def test_column_order_and_further_columns_do_not_matter(fitted):
    frame, _ = people(100, 7)
    shuffled = frame[frame.columns[::-1]].assign(user_id="u")
    assert_array_equal(fitted.predict(shuffled), fitted.predict(frame))


def test_new_categories_and_infinities_count_as_missing(fitted):
    frame, _ = people(50, 8)
    unheard = fitted.predict(frame.assign(member_tier="platinum", days_since_order=np.inf))
    missing = fitted.predict(frame.assign(member_tier=None, days_since_order=np.nan))
    assert_array_equal(unheard, missing)
    assert (unheard >= 0).all()
    assert (unheard <= 1).all()
    as_category = frame.assign(member_tier=frame["member_tier"].astype("category"))
    assert_array_equal(fitted.predict(as_category), fitted.predict(frame))


def test_nobody_gets_no_answer_but_no_error(fitted):
    frame, _ = people(10)
    assert fitted.predict(frame.head(0)).shape == (0,)
    assert fitted.reasons(frame.head(0)) == []


def test_a_vanished_or_changed_column_is_named(fitted):
    frame, _ = people(10)
    with pytest.raises(DataError, match="'orders_365d' is not there"):
        fitted.predict(frame.drop(columns="orders_365d"))
    with pytest.raises(DataError, match="'orders_365d' is str and cannot be read as numbers"):
        fitted.predict(frame.assign(orders_365d="many"))
    with pytest.raises(DataError, match="'member_tier' is int64"):
        fitted.predict(frame.assign(member_tier=3))


def test_times_are_refused_as_features():
    train, label = people(200)
    with pytest.raises(DataError, match="'at' is datetime64"):
        Propensity().fit(
            train.assign(at=pd.Timestamp("2026-01-01")), label, valid=train.assign(at=0), valid_label=label
        )


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.zeros(200), "0 of 200 rows are positive, at least 10"),
        (np.ones(200), "0 of 200 rows are negative"),
        (np.r_[np.ones(9), np.zeros(191)], "9 of 200 rows are positive"),
        (np.full(200, 2), "label of 0 or 1"),
        (np.ones(199), "for each of 200 rows"),
    ],
)
def test_labels_that_teach_nothing_are_refused(label, message):
    frame, valid_label = people(200)
    with pytest.raises(DataError, match=message):
        Propensity().fit(frame, label, valid=frame, valid_label=valid_label)


def test_validation_and_calibration_need_both_classes():
    frame, label = people(200)
    with pytest.raises(DataError, match="valid: 0 of 200 rows are positive"):
        Propensity().fit(frame, label, valid=frame, valid_label=np.zeros(200))
    with pytest.raises(DataError, match="calibration: 0 of 200 rows are negative"):
        Propensity().fit(
            frame, label, valid=frame, valid_label=label, calibration=frame, calibration_label=np.ones(200)
        )


def test_features_that_say_nothing_give_the_rate():
    frame = pd.DataFrame({"constant": np.ones(400), "nothing": np.full(400, np.nan)})
    label = np.arange(400) % 4 == 0
    model = Propensity().fit(frame, label, valid=frame, valid_label=label)
    assert_allclose(model.predict(frame), 0.25, atol=1e-6)
    assert model.reasons(frame.head(2)) == [[], []]
    assert model.importance().sum() == 0


def test_a_monotone_feature_is_obeyed():
    train, label = people(2_000)
    model = Propensity().fit(
        train, label, valid=train, valid_label=label, monotone={"days_since_order": 1, "orders_365d": -1}
    )
    row = train.head(1)
    grid = pd.concat([row.assign(days_since_order=float(days)) for days in range(0, 300, 5)])
    assert (np.diff(model.predict(grid)) >= 0).all()
    with pytest.raises(DataError, match="'member_tier'"):
        Propensity().fit(train, label, valid=train, valid_label=label, monotone={"member_tier": 1})


def test_asking_before_learning_is_refused(tmp_path):
    with pytest.raises(NotFittedError, match="fit"):
        Propensity().predict(pd.DataFrame())
    with pytest.raises(NotFittedError, match="fit"):
        Propensity().save(tmp_path / "model")


def test_missing_truncated_and_changed_files_are_caught(fitted, tmp_path):
    for name in ("trees.txt", "model.json"):
        for damage in ("missing", "truncated", "emptied"):
            fitted.save(tmp_path / "model")
            file = tmp_path / "model" / name
            whole = file.read_bytes()
            file.unlink() if damage == "missing" else file.write_bytes(b"" if damage == "emptied" else whole[:-40])
            with pytest.raises(ModelFileError):
                Propensity.load(tmp_path / "model")
    fitted.save(tmp_path / "model")
    about = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps({**about, "params": {"depth": 3}}))
    with pytest.raises(ModelFileError, match="depth"):
        Propensity.load(tmp_path / "model")


def test_quality_on_telco_churn():
    file = DATA / "telco_churn" / "customers.parquet"
    if not file.exists():
        pytest.skip(f"{file} is not there; it is only for tests")
    frame = pd.read_parquet(file).sample(frac=1, random_state=0, ignore_index=True)
    frame.columns = frame.columns.str.lower()
    label = frame.pop("churn").isin(["Yes", 1, True]).to_numpy().astype(int)
    frame = frame.drop(columns="customerid")
    frame["totalcharges"] = pd.to_numeric(frame["totalcharges"], errors="coerce")
    parts = [slice(0, 4_000), slice(4_000, 5_000), slice(5_000, 6_000), slice(6_000, None)]
    train, valid, later, test = (frame.iloc[part] for part in parts)
    model = Propensity().fit(
        train,
        label[parts[0]],
        valid=valid,
        valid_label=label[parts[1]],
        calibration=later,
        calibration_label=label[parts[2]],
    )
    found = evaluate(label[parts[3]], model.predict(test), resamples=200)
    assert 0.81 < found.roc_auc.estimate < 0.89
    assert found.calibration_error.estimate < 0.06
