"""The recommender benchmark runs on any folder of a known layout and ends with one JSON line."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd

from models.recommenders import MODELS


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "recommend-time-split", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )


def test_every_model_is_judged_and_the_last_line_is_json(tmp_path):
    rng = np.random.default_rng(0)
    n = 3_000
    ratings = pd.DataFrame(
        {
            "user": rng.integers(1, 120, n),
            "item": rng.zipf(1.6, n) % 50,
            "rating": rng.integers(1, 6, n),
            "timestamp": 890_000_000 + rng.integers(0, 100 * 86_400, n),
        }
    )
    ratings.to_parquet(tmp_path / "ratings.parquet")
    ran = command("--data", str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["name"] == "recommend-time-split"
    assert 0 < found["metrics"]["ndcg_at_20"] <= 1
    assert {name.split()[0] for name in found["peers"]} == set(MODELS)


def test_a_folder_of_another_layout_is_refused_with_a_remedy(tmp_path):
    ran = command("--data", str(tmp_path))
    assert ran.returncode == 1
    assert "../shared/data" in ran.stderr
