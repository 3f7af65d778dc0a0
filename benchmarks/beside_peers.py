"""The same rows for other libraries' recommenders: they search, learn and rank in `.venv-peers`, one process each."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.contestants import Contestant
from data.interactions import Interactions
from data.progress import timed
from training.judging import JudgedRows

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv-peers" / "bin" / "python"
SCRIPT = ROOT / "benchmarks" / "peers" / "rank.py"
PEERS = (
    "implicit-cosine",
    "implicit-bm25",
    "implicit-als",
    "implicit-bpr",
    "rectools-als",
    "rectools-ease",
    "rectools-sasrec",
)
PATIENCE = 4
"""So many times its minutes a peer has for everything: the search, the last trial, learning again, the rankings."""


def set_up() -> bool:
    """Whether `make bench-setup` was run."""
    return PYTHON.exists()


def peers(
    folds: Sequence[JudgedRows], test: JudgedRows, folder: Path, *, k: int, trials: int, minutes: float
) -> Iterator[Contestant]:
    """Every peer, each with the whole budget to itself: chosen on `folds`, judged on `test`.

    What the judged users of the test took stays here; a peer learns who is asked about and nothing more. Users are
    told as codes, items as ids.

    Args:
        folds: What to choose on.
        test: What to judge on.
        folder: For the exchange.
        k: Length of the rankings, as in `peers/rank.py`.
        trials: Of each peer, at most.
        minutes: After which a peer begins no further trial; it is stopped after PATIENCE times as many.
    """
    for number, rows in enumerate(folds):
        fold = _written(rows.known, folder / f"fold_{number}")
        warm = np.flatnonzero(rows.users >= 0)
        taken = rows.held_out[warm].tocoo()
        ids = {"user_id": rows.users[warm][taken.row], "item_id": rows.items.ids(taken.col)}
        pd.DataFrame(ids).to_parquet(fold / "taken.parquet")
    judged = pd.DataFrame({"user_id": test.users[test.users >= 0]})
    judged.to_parquet(_written(test.known, folder / "test") / "judged.parquet")
    for name in PEERS:
        with timed(f"searching {name}"):
            trouble = _asked(folder, name, trials=trials, minutes=minutes)
        if trouble:
            yield Contestant(f"{name} failed: {trouble}", "peer", None)
            continue
        about = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        told = [f"{param}={value}" for param, value in about["params"].items()]
        yield Contestant(
            name=", ".join([name, *told, *(["new items only"] if about["exclude_seen"] else [])]),
            kind="peer",
            quality=test.measured(_ranked(folder / f"{name}.parquet", test, k), test.known.items),
            trials=about["trials"],
            search_seconds=about["search_seconds"],
            fit_seconds=about["fit_seconds"],
            p95_latency_ms=about["p95_latency_ms"],
        )


def _asked(folder: Path, name: str, *, trials: int, minutes: float) -> str:
    """Let a peer search, learn again and rank; why it did not, empty where it did."""
    command = [str(PYTHON), str(SCRIPT), str(folder), name, f"--trials={trials}", f"--minutes={minutes}"]
    limit = PATIENCE * minutes
    try:
        ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60 * limit)
    except subprocess.TimeoutExpired:
        return f"it was not done after {limit:g} minutes"
    if (folder / f"{name}.json").is_file():
        return ""
    return (ran.stderr.strip().splitlines() or [f"ended with {ran.returncode}"])[-1]


def _written(known: Interactions, folder: Path) -> Path:
    """What was known, and what the catalogue said of the items."""
    folder.mkdir(parents=True)
    pd.DataFrame(
        {
            "user_id": known.user,
            "item_id": known.items.ids(known.item),
            "weight": known.weight,
            "datetime": pd.to_datetime(known.at, unit="s"),
        }
    ).to_parquet(folder / "known.parquet")
    if known.attributes is not None and len(known.attributes.names):
        cells = known.attributes.matrix.tocoo()
        names = pd.Series(known.attributes.names, dtype=str).str.partition("=")
        pd.DataFrame(
            {
                "id": known.items.ids(cells.row),
                "feature": names[0].to_numpy()[cells.col],
                "value": names[2].to_numpy()[cells.col],
            }
        ).to_parquet(folder / "attributes.parquet")
    return folder


def _ranked(file: Path, test: JudgedRows, k: int) -> np.ndarray:
    """Item codes, int64 (n, k), best first; -1 where the peer had nothing to say."""
    told = pd.read_parquet(file)
    row_of = pd.Series(np.arange(len(test.users)), index=test.users)
    ranked = np.full((len(test.users), k), -1, dtype=np.int64)
    codes = test.known.items.codes(told["item_id"].to_numpy())
    ranked[row_of[row_of.index >= 0].loc[told["user_id"]].to_numpy(), told["rank"].to_numpy() - 1] = codes
    return ranked
