"""The recommender benchmark runs on any folder of a known layout, beside peers that never see the answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import beside_peers, recommend_time_split
from benchmarks.shops import checked
from data.errors import DataError

RANK_WHAT_IS_POPULAR = """
import json, sys
from pathlib import Path
import pandas as pd
folder, name = Path(sys.argv[1]), sys.argv[2]
if name == "broken":
    sys.exit("no such luck")
assert len(list(folder.glob("fold_*/taken.parquet"))) == 2
for window in ("window_0", "window_1", "window_2"):
    assert not (folder / window / "taken.parquet").exists()
    known = pd.read_parquet(folder / window / "known.parquet")
    judged = pd.read_parquet(folder / window / "judged.parquet")
    popular = known["item_id"].value_counts().index[:20]
    shown = judged.merge(pd.DataFrame({"item_id": popular, "rank": range(1, len(popular) + 1)}), how="cross")
    shown.to_parquet(folder / window / f"{name}.parquet")
about = {"params": {"window": "all"}, "exclude_seen": False, "trials": 1}
about |= {"search_seconds": 1.0, "fit_seconds": 1.0, "p95_latency_ms": 2.0}
(folder / f"{name}.json").write_text(json.dumps(about))
"""


def ratings(folder: Path) -> Path:
    """A folder laid out like MovieLens: 120 people, 50 films, 100 days."""
    rng = np.random.default_rng(0)
    n = 3_000
    folder.mkdir()
    pd.DataFrame(
        {
            "user": rng.integers(1, 120, n),
            "item": rng.zipf(1.6, n) % 50,
            "rating": rng.integers(1, 6, n),
            "timestamp": 890_000_000 + rng.integers(0, 100 * 86_400, n),
        }
    ).to_parquet(folder / "ratings.parquet")
    return folder


@pytest.fixture
def peers(tmp_path, monkeypatch):
    """A peer that ranks what is popular, and one that fails, in place of other libraries."""
    script = tmp_path / "rank.py"
    script.write_text(RANK_WHAT_IS_POPULAR)
    monkeypatch.setattr(beside_peers, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(beside_peers, "SCRIPT", script)
    monkeypatch.setattr(beside_peers, "PEERS", ("popular", "broken"))


def test_the_winner_is_compared_with_peers_on_the_same_people_and_one_that_fails_is_told(tmp_path, peers, capsys):
    found = recommend_time_split.run(data=ratings(tmp_path / "films"), trials=3, minutes=1)
    gain = found.intervals["ndcg_at_20_gain_over_peer"]
    assert gain.low <= found.metrics["ndcg_at_20_gain_over_peer"] <= gain.high
    told = found.peers["films"]
    peer = told["popular, window=all"]
    assert found.metrics["ndcg_at_20"] - peer["ndcg_at_20"] == pytest.approx(gain.estimate, abs=1e-4)
    assert peer["p95_latency_ms"] == 2.0
    assert told["broken failed: no such luck"] == {}
    printed = capsys.readouterr().out
    assert "of 2 peers, behind" in printed
    assert "judged on 3 windows, first on what people did in the 10 days" in printed


def test_what_is_chosen_on_is_over_before_what_is_judged_on_begins_and_half_of_the_days_only_teach(tmp_path):
    folds, windows = recommend_time_split._rows(checked(ratings(tmp_path / "films"), tmp_path / "shop").checked)
    first, end = min(windows[-1].known.at), max(windows[-1].known.at)
    moments = [rows.histories.now[0] for rows in (*folds, *windows)]
    assert np.diff(moments).tolist() == [10 * 86_400] * 4
    assert moments[0] - first > 0.5 * (end - first)
    assert all(rows.known.at.max() < rows.histories.now[0] for rows in (*folds, *windows))


def test_a_folder_of_folders_is_one_run_and_without_peers_the_baselines_are_held_against(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(beside_peers, "PYTHON", tmp_path / "nowhere")
    for name in ("ml100k", "online_retail"):
        ratings(tmp_path / name)
    found = recommend_time_split.run(data=tmp_path, trials=1, minutes=1)
    assert {"ml100k_ndcg_at_20", "online_retail_ndcg_at_20_gain_over_baseline_low"} <= set(found.metrics)
    assert not any("peer" in name for name in found.metrics)
    assert "make bench-setup" in capsys.readouterr().out


def test_data_of_another_layout_and_none_at_all_are_refused_with_a_remedy(tmp_path):
    with pytest.raises(DataError, match="shared/data"):
        recommend_time_split.run(data=tmp_path)
    with pytest.raises(DataError, match="--data"):
        recommend_time_split.run(data=None)


@pytest.mark.slow
@pytest.mark.skipif(not beside_peers.set_up(), reason="no .venv-peers: run `make bench-setup`")
@pytest.mark.parametrize("peer", beside_peers.PEERS)
def test_a_real_peer_learns_that_pairs_go_together(peer, tmp_path):
    pairs = pd.DataFrame([(user, f"{user % 5}{end}") for user in range(600) for end in "ab"], columns=["u", "i"])
    known = pd.DataFrame(
        {"user_id": pairs["u"], "item_id": pairs["i"], "weight": np.float32(1), "datetime": pd.Timestamp("2026-01-01")}
    )
    half = known[(known["user_id"] >= 20) | known["item_id"].str.endswith("a")]
    for name in ("fold_0", "window_0"):
        (tmp_path / name).mkdir()
        half.to_parquet(tmp_path / name / "known.parquet")
    asked = known[known["user_id"] < 20]
    asked[asked["item_id"].str.endswith("b")].to_parquet(tmp_path / "fold_0" / "taken.parquet")
    asked[["user_id"]].drop_duplicates().to_parquet(tmp_path / "window_0" / "judged.parquet")
    command = [beside_peers.PYTHON, beside_peers.SCRIPT, tmp_path, peer, "--trials", "1", "--minutes", "1"]
    ran = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    shown = pd.read_parquet(tmp_path / "window_0" / f"{peer}.parquet")
    about = json.loads((tmp_path / f"{peer}.json").read_text())
    assert set(shown["user_id"]) == set(range(20))
    assert about["trials"] == 1
    second = shown[shown["item_id"] == (shown["user_id"] % 5).astype(str) + "b"]
    assert second["rank"].le(2).mean() > 0.9
