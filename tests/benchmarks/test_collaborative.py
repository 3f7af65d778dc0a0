"""The benchmark of public splits searches, refits and tests on any folder of train and test rows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import collaborative
from data.errors import DataError
from training.recipes import Recipe


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "collaborative", *arguments], check=False, capture_output=True, text=True
    )


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """120 users of three tastes, each with a fifth of what they took held out, an item and a user of the test alone."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, 120, 3_000)
    taken = pd.DataFrame({"user": user, "item": user % 3 * 20 + rng.integers(0, 20, 3_000)}).drop_duplicates()
    tested = rng.random(len(taken)) < 0.2
    strangers = pd.DataFrame({"user": [0, 777], "item": [999, 5]})
    taken[~tested].to_parquet(tmp_path / "train.parquet")
    pd.concat([taken[tested], strangers]).to_parquet(tmp_path / "test.parquet")
    return tmp_path


def test_the_winner_of_a_search_is_tested_once_beside_the_papers(split):
    ran = command("--data", str(split), "--trials", "6")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert set(found["peers"]) == {"GF-CF", "BSPM-EM", "ChebyCF", "chosen"}
    assert found["metrics"]["ndcg_at_20"] > 0.3
    assert found["metrics"]["test_scatter"] == pytest.approx(1, abs=0.5)
    low, high = found["intervals"]["recall_at_20"]
    assert low <= found["metrics"]["recall_at_20"] <= high


def test_validation_rows_are_taken_where_the_split_has_them(split):
    train = pd.read_parquet(split / "train.parquet")
    train[::5].to_parquet(split / "valid.parquet")
    train.drop(train.index[::5]).to_parquet(split / "train.parquet")
    ran = command("--data", str(split), "--trials", "2")
    assert ran.returncode == 0, ran.stderr
    assert "recall_at_20" in json.loads(ran.stdout.splitlines()[-1])["metrics"]


def test_ids_are_the_same_in_every_file_however_they_are_stored(split, capsys):
    train, test = (pd.read_parquet(split / f"{part}.parquet") for part in ("train", "test"))
    as_it_is = collaborative._read(split)
    gap = pd.DataFrame({"user": [None], "item": [3.0]})
    pd.concat([train.astype(float), gap, train[:50]])[["item", "user"]].to_parquet(split / "train.parquet")
    test.astype({"user": "uint16", "item": "category"}).assign(rating=1.5).to_parquet(split / "test.parquet")
    test[:0].to_parquet(split / "valid.parquet")
    again = collaborative._read(split)
    assert again.keys() == as_it_is.keys()  # a valid without rows is none
    for part, rows in again.items():
        assert (rows.matrix != as_it_is[part].matrix).nnz == 0
        assert rows.users == as_it_is[part].users
    assert "rows have no user or no item and are left out" in capsys.readouterr().out


def test_papers_that_find_no_time_leave_the_winner_its_test(split, monkeypatch, capsys):
    test = collaborative._test
    endless = Recipe("graph")
    monkeypatch.setattr(collaborative, "FAMILIES", ("popularity",))
    monkeypatch.setattr(collaborative, "PAPERS", {"endless": endless})
    monkeypatch.setattr(
        collaborative, "_test", lambda recipe, *told: time.sleep(60) if recipe is endless else test(recipe, *told)
    )
    found = collaborative.run(data=split, trials=1, minutes=0.08)
    assert found.metrics["ndcg_at_20"] > 0
    assert set(found.peers) == {"chosen"}
    assert "no time was left" in capsys.readouterr().out


def test_a_folder_without_a_split_is_refused_with_a_remedy(tmp_path):
    ran = command("--data", str(tmp_path))
    assert ran.returncode == 1
    assert "train.parquet is not there" in ran.stderr


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_a_part_that_cannot_be_read_is_named(split, part):
    (split / f"{part}.parquet").write_bytes((split / "train.parquet").read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"{part}\.parquet cannot be read"):
        collaborative._read(split)
    pd.DataFrame({"user": [None], "item": [3]}).to_parquet(split / f"{part}.parquet")
    with pytest.raises(DataError, match=rf"{part}\.parquet has no row with a user and an item"):
        collaborative._read(split)
