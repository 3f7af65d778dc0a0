"""The benchmark of next purchases runs on any folder with events and held-out buys."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import next_purchase
from data.errors import DataError
from models.recommenders import MODELS
from models.recommenders.popularity import Popularity

START = 1_430_000_000
DAY_SECONDS = 86_400


class Huge(Popularity):
    """Refuses to learn."""

    def _fit(self, _interactions):
        raise DataError("huge: needs 40 GB.")


@pytest.fixture
def folder(tmp_path):
    """Two tastes; everybody's held-out buy is of their own taste, one of an item that nobody touched."""
    rng = np.random.default_rng(0)
    n, users = 2_000, 80
    user = rng.integers(0, users, n)
    events = pd.DataFrame(
        {
            "user": user,
            "item": 2 * rng.integers(0, 15, n) + user % 2,
            "event": rng.choice(["view", "cart", "buy"], n, p=[0.7, 0.2, 0.1]),
            "timestamp": START + rng.integers(0, 100 * DAY_SECONDS, n),
        }
    )
    buys = pd.DataFrame({"user": range(users), "item": [2 * (u % 15) + u % 2 for u in range(users)], "timestamp": 1})
    buys.loc[0, "item"] = 999
    pairs = events.merge(buys[["user", "item"]], how="left", indicator=True)
    events[(pairs._merge == "left_only").to_numpy()].to_parquet(tmp_path / "events.parquet")
    buys.to_parquet(tmp_path / "test_buys.parquet")
    return tmp_path


def test_every_model_is_judged_or_says_why_not(folder, monkeypatch, capsys):
    few = {name: MODELS[name] for name in ("popularity", "als")} | {"huge": Huge}
    monkeypatch.setattr(next_purchase, "MODELS", few)
    found = next_purchase.run(data=folder, size=None)
    assert found.metrics["als_ndcg_at_20"] > found.metrics["popularity_ndcg_at_20"] > 0
    assert found.intervals["als_ndcg_at_20"].low < found.metrics["als_ndcg_at_20"]
    assert found.peers == {"refused": {"huge": "huge: needs 40 GB."}}
    printed = capsys.readouterr().out
    assert "80 buys of 31 items; in 1 nobody else had touched the item" in printed
    assert all(name in printed for name in few)


def test_buys_with_a_gap_are_of_the_same_people_and_items(folder, tmp_path, capsys):
    """A gap makes 7.0 of 7 in pandas, and a buy of nobody is left out."""
    whole = next_purchase.held_out_buys(folder, tmp_path / "whole")
    buys = pd.read_parquet(folder / "test_buys.parquet")
    gap = pd.DataFrame({"user": [None], "item": [3], "timestamp": [1]})
    pd.concat([buys, gap]).astype({"user": float, "item": float}).to_parquet(folder / "test_buys.parquet")
    found = next_purchase.held_out_buys(folder, tmp_path / "gap")
    assert "1 of 81 rows have no user" in capsys.readouterr().out
    assert (found.held_out != whole.held_out).nnz == 0
    assert found.histories.item.tolist() == whole.histories.item.tolist()


def test_only_what_came_before_a_timed_buy_is_known(folder, tmp_path):
    buys = pd.read_parquet(folder / "test_buys.parquet")
    moment = START + 50 * DAY_SECONDS
    buys.assign(timestamp=moment).to_parquet(folder / "test_buys.parquet")
    timed = next_purchase.held_out_buys(folder, tmp_path / "timed")
    assert timed.histories.at.max() < moment
    assert set(timed.histories.now) == {moment}
    buys.to_parquet(folder / "test_buys.parquet")
    untimed = next_purchase.held_out_buys(folder, tmp_path / "untimed")
    assert len(untimed.histories.item) == len(untimed.known)


def test_held_out_buys_that_cannot_be_read_are_named(folder, tmp_path):
    (folder / "test_buys.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"test_buys\.parquet cannot be read"):
        next_purchase.held_out_buys(folder, tmp_path / "w")


def test_a_folder_without_held_out_buys_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(DataError, match="test_buys like"):
        next_purchase.run(data=tmp_path, size=None)
