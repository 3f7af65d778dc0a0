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
    with pytest.raises(DataError, match="give user, item and position"):
        sequences.run(data=folder)
