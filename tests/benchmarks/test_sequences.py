"""The sequences benchmark searches, refits and tests in one command, and goes on where it was cut off."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import sequences
from benchmarks.result import Usage, as_json
from data.errors import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """80 people who walk round 12 items."""
    user, position = np.divmod(np.arange(80 * 8), 8)
    start = np.random.default_rng(1).integers(0, 12, 80)
    frame = pd.DataFrame({"user": user, "item": (start[user] + position) % 12, "position": position})
    frame.to_parquet(tmp_path / "sequences.parquet")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "kept"))
    (tmp_path / "kept").mkdir()
    return tmp_path


def test_the_winner_is_tested_and_the_last_line_is_json(folder, monkeypatch, capsys):
    monkeypatch.setattr(sequences, "FAMILIES", ("popularity", "item_neighbours", "sequence"))
    result = sequences.run(data=folder, trials=3, minutes=2)
    told = json.loads(as_json("sequences", result, Usage()))
    assert {"ndcg_at_10", "recall_at_10"} <= told["metrics"].keys() == told["intervals"].keys()
    assert told["metrics"]["ndcg_at_10"] > told["peers"]["popularity"]["ndcg_at_10"]
    assert set(told["peers"]) == {"item_neighbours", "als", "popularity"}
    assert "chosen: " in capsys.readouterr().out
    assert not any((folder / "kept").glob("attune-sequences-*"))


def test_what_was_chosen_is_not_searched_again_when_the_refit_was_cut_off(folder, monkeypatch):
    monkeypatch.setattr(sequences, "FAMILIES", ("popularity",))

    def killed(*_):
        raise KeyboardInterrupt

    measure = sequences.measure
    monkeypatch.setattr(sequences, "measure", killed)
    with pytest.raises(KeyboardInterrupt):
        sequences.run(data=folder, trials=1)
    monkeypatch.setattr(sequences, "measure", measure)
    monkeypatch.setattr(sequences, "search", killed)
    assert sequences.run(data=folder, trials=1).metrics["recall_at_10"] > 0


def test_the_test_items_choose_nothing(folder, monkeypatch):
    seen = []
    search = sequences.search
    monkeypatch.setattr(sequences, "FAMILIES", ("popularity",))
    monkeypatch.setattr(sequences, "search", lambda rows, **told: seen.extend(rows) or search(rows, **told))
    sequences.run(data=folder, trials=1)
    (rows,) = seen
    assert len(rows.known) == 80 * 6
    assert rows.known.at.max() == 5
    assert rows.held_out.nnz == 80


def test_another_layout_is_refused(folder):
    with pytest.raises(DataError, match=r"like \.\./shared/data/ml1m_sequences"):
        sequences.run(data=folder / "nowhere")
    pd.DataFrame({"user": [1], "thing": [2]}).to_parquet(folder / "sequences.parquet")
    with pytest.raises(DataError, match="has no column 'item'"):
        sequences.run(data=folder)


@pytest.mark.parametrize("stored", [
    lambda position: 1.7e9 + 60.5 * position,
    lambda position: position.add(8).astype(str),  # "10" comes after "9"
    lambda position: pd.Timestamp("2024-03-30", tz="Europe/Paris") + pd.to_timedelta(position, "D"),
    lambda position: (pd.Timestamp("2024-03-30") + pd.to_timedelta(position, "D")).dt.strftime("%Y-%m-%d"),
    lambda position: 0 * position,  # as in the file
])  # fmt: skip
def test_positions_are_put_in_order_however_they_are_stored(folder, stored):
    file = folder / "sequences.parquet"
    rows, known = pd.read_parquet(file), sequences.read(file)
    rows.assign(position=stored(rows["position"])).to_parquet(file)
    found = sequences.read(file)
    assert (found.item == known.item).all()
    assert (found.at == known.at).all()


def test_positions_that_have_no_order_are_refused(folder):
    file = folder / "sequences.parquet"
    pd.read_parquet(file).assign(position="later").to_parquet(file)
    with pytest.raises(DataError, match="'later' and others are neither numbers nor dates"):
        sequences.run(data=folder)


def test_what_is_taken_again_and_again_may_be_ranked(folder, monkeypatch):
    monkeypatch.setattr(sequences, "FAMILIES", ("item_neighbours",))
    user, position = np.divmod(np.arange(80 * 8), 8)
    pd.DataFrame({"user": user, "item": user % 40 * 2 + position % 2, "position": position}).to_parquet(
        folder / "sequences.parquet"
    )
    found = sequences.run(data=folder, trials=1)
    assert found.metrics["recall_at_10"] == 1
    assert found.peers["item_neighbours"]["recall_at_10"] == 1


def test_a_row_that_is_there_twice_is_one_step(folder, capsys):
    file = folder / "sequences.parquet"
    rows, known = pd.read_parquet(file), sequences.read(file)
    assert not capsys.readouterr().out
    pd.concat([rows, rows.head(100)]).to_parquet(file)
    found = sequences.read(file)
    assert (found.item == known.item).all()
    assert "100 of 740 rows are there twice and count once" in capsys.readouterr().out


def test_two_items_each_are_too_few(folder):
    pd.DataFrame({"user": [1, 1], "item": [1, 2], "position": [0, 1]}).to_parquet(folder / "sequences.parquet")
    with pytest.raises(DataError, match="nobody has three items"):
        sequences.run(data=folder)
