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
from evaluation.ranking import pooled
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
PATIENCE = 3
"""So many times its minutes a peer has for the search, the last trial and the rankings; to learn again before a window
it has its minutes once more for each.
"""


def set_up() -> bool:
    """Whether `make bench-setup` was run."""
    return PYTHON.exists()


def peers(
    folds: Sequence[JudgedRows], windows: Sequence[JudgedRows], folder: Path, *, k: int, trials: int, minutes: float
) -> Iterator[Contestant]:
    """Every peer, each with the whole budget to itself: chosen on `folds`, learnt anew before each of `windows`.

    What the judged users of a window took stays here, but for what is known before a later one; a peer learns who is
    asked about and nothing more. Users are told as codes, items as ids.

    Args:
        folds: What to choose on.
        windows: What to judge on, earliest first.
        folder: For the exchange.
        k: Length of the rankings, as in `peers/rank.py`.
        trials: Of each peer, at most.
        minutes: After which a peer begins no further trial; how long it has for everything says PATIENCE.
    """
    for number, rows in enumerate(folds):
        fold = _written(rows.known, folder / f"fold_{number}")
        warm = np.flatnonzero(rows.users >= 0)
        taken = rows.held_out[warm].tocoo()
        ids = {"user_id": rows.users[warm][taken.row], "item_id": rows.items.ids(taken.col)}
        pd.DataFrame(ids).to_parquet(fold / "taken.parquet")
    for number, rows in enumerate(windows):
        judged = pd.DataFrame({"user_id": rows.users[rows.users >= 0]})
        judged.to_parquet(_written(rows.known, folder / f"window_{number}") / "judged.parquet")
    patience = (PATIENCE + len(windows)) * minutes
    for name in PEERS:
        with timed(f"searching {name}"):
            trouble = _asked(folder, name, trials=trials, minutes=minutes, patience=patience)
        if trouble:
            yield Contestant(f"{name} failed: {trouble}", "peer", None)
            continue
        about = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        told = [f"{param}={value}" for param, value in about["params"].items()]
        ranked = [
            _ranked(folder / f"window_{number}" / f"{name}.parquet", rows, k) for number, rows in enumerate(windows)
        ]
        qualities = [rows.measured(found, rows.known.items) for rows, found in zip(windows, ranked, strict=True)]
        yield Contestant(
            name=", ".join([name, *told, *(["new items only"] if about["exclude_seen"] else [])]),
            kind="peer",
            quality=pooled(qualities, [rows.ids for rows in windows]),
            trials=about["trials"],
            search_seconds=about["search_seconds"],
            fit_seconds=about["fit_seconds"],
            p95_latency_ms=about["p95_latency_ms"],
        )


def _asked(folder: Path, name: str, *, trials: int, minutes: float, patience: float) -> str:
    """Let a peer search, learn again and rank; why it did not, empty where it did."""
    command = [str(PYTHON), str(SCRIPT), str(folder), name, f"--trials={trials}", f"--minutes={minutes}"]
    try:
        ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60 * patience)
    except subprocess.TimeoutExpired:
        return f"it was not done after {patience:g} minutes"
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


def _ranked(file: Path, rows: JudgedRows, k: int) -> np.ndarray:
    """Item codes, int64 (n, k), best first; -1 where the peer had nothing to say."""
    told = pd.read_parquet(file)
    row_of = pd.Series(np.arange(len(rows.users)), index=rows.users)
    ranked = np.full((len(rows.users), k), -1, dtype=np.int64)
    codes = rows.known.items.codes(told["item_id"].to_numpy())
    ranked[row_of[row_of.index >= 0].loc[told["user_id"]].to_numpy(), told["rank"].to_numpy() - 1] = codes
    return ranked
