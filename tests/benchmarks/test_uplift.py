"""The benchmarks of uplift run on tables that nobody here has seen, and name what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import off_policy, offers, uplift, variants
from data.errors import DataError


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    n = 800
    treated, age = rng.integers(2, size=n), rng.uniform(20, 60, n)
    bought = (rng.random(n) < 0.2 + 0.3 * treated * (age > 40)).astype(int)
    file = tmp_path / "trial.csv"
    frame = {"id": np.arange(n), "age": age, "group": np.where(treated, "Mail A", "none"), "bought": bought}
    pd.DataFrame(frame).to_csv(file, index=False)
    return file


def test_any_table_gives_a_qini_and_a_policy_gain(table, monkeypatch, capsys):
    monkeypatch.setattr(uplift, "PYTHON", table / "nowhere")
    found = uplift.run(data=table, treatment="group", control="none", outcome=["bought"], drop=["id"], trials=1)
    assert set(found.metrics) == {"qini_mail_a_bought", "policy_bought_gain"}
    assert found.metrics["qini_mail_a_bought"] > 0.05
    assert found.intervals["policy_bought_gain"].low <= found.metrics["policy_bought_gain"]
    assert "make bench-setup" in capsys.readouterr().out


def test_what_is_missing_is_asked_for(table):
    with pytest.raises(DataError, match="--data"):
        uplift.run(data=None)
    with pytest.raises(DataError, match="--treatment"):
        uplift.run(data=table)
    with pytest.raises(DataError, match="no column 'arm'"):
        uplift.run(data=table, treatment="arm", control="none", outcome=["bought"])
    with pytest.raises(DataError, match="group has the arms Mail A, none; nobody is in 'nobody'"):
        uplift.run(data=table, treatment="group", control="nobody", outcome=["bought"])
    with pytest.raises(DataError, match="starbucks"):
        offers.run(data=None)


def test_folders_of_another_layout_are_refused_by_the_column_that_is_missing(tmp_path):
    for name in ("customers", "events", "offers", "variants", "random", "bts"):
        pd.DataFrame({"a": [1, 2]}).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match="no column 'recency'; it has a"):
        uplift.run(data=tmp_path)
    with pytest.raises(DataError, match="no column 'person'"):
        offers.run(data=tmp_path)
    with pytest.raises(DataError, match="no column 'item_id'"):
        off_policy.open_bandit(tmp_path)
    with pytest.raises(DataError, match="no column 'clickability_test_id'"):
        variants.run(data=tmp_path, size=None)
    with pytest.raises(DataError, match="is no file"):
        offers.run(data=tmp_path.parent)


def test_a_yes_or_a_no_is_an_outcome(table):
    rows = pd.read_csv(table)
    rows.assign(bought=np.where(rows.bought == 1, "Yes", "No")).to_csv(table, index=False)
    asked = uplift._table(table, "group", ["bought"], "none", ["id"])
    assert asked.table["bought"].sum() == rows.bought.sum()


def test_peers_get_numbers_as_numbers(table, tmp_path, monkeypatch):
    script = tmp_path / "benchmarks" / "peers" / "uplift.py"
    script.parent.mkdir(parents=True)
    script.write_text(
        "import sys, pathlib, pandas as pd\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "rows = pd.read_parquet(folder / 'rows.parquet')\n"
        "rows[['x_age']].set_axis(['by age|seed_0'], axis=1).to_parquet(folder / 'scores.parquet')\n"
    )
    monkeypatch.setattr(uplift, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(uplift, "ROOT", tmp_path)
    asked = uplift._table(table, "group", ["bought"], "none", ["id"])
    told, n = asked.table[["age"]], len(asked.table)
    (scores,) = uplift._peers(told, np.zeros(n), np.zeros(n), pd.DataFrame({"seed_0": np.zeros(n)}))["by age"]
    assert scores == pytest.approx(told["age"].astype(float))


def test_an_arm_of_five_and_people_of_none_are_left_out(table, capsys):
    rows = pd.read_csv(table)
    rows.loc[:4, "group"], rows.loc[5:6, "group"] = "vip", None
    rows.to_csv(table, index=False)
    asked = uplift._table(table, "group", ["bought"], "none", ["id"])
    assert len(asked.table) == len(rows) - sum(~rows.group.isin(["Mail A", "none"]))
    assert [question.arm for question in asked.questions] == ["Mail A", None]
    assert "people of no arm" in capsys.readouterr().out


def test_digits_are_judged_by_every_estimator():
    errors, covered, _ = off_policy.digits(1)
    assert set(errors) == set(covered) == set(off_policy.ESTIMATORS)
    assert all(missed[0] < 0.3 for missed in errors.values())
