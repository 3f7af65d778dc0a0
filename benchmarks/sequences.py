"""What comes next: leave-last-out over sequences, as SASRec, BERT4Rec and their successors report it.

The folder holds `sequences` (user, item, position). Everybody's last item is the test; the one before is what
everything is chosen on; all items that a user did not have yet are ranked, and where people take things again the
others too, if the validation items ask for it. The search over the families below, their
blend included, takes up to `--minutes` (100 unless told otherwise) and its winner is fitted once more with the
validation items, for as many epochs as it was found to need. Only then are the test items read. Users with a single
item are learnt from and not asked about.

A run that was cut off goes on when it is started again: its trials and checkpoints are kept until the end in the
folder that it names, by the contents of the file, in the system's folder for temporary files.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.ids import with_ids
from benchmarks.result import Result
from data.errors import DataError
from data.files import read_rows, replacing
from data.interactions import Interactions
from data.progress import timed
from evaluation.intervals import Interval
from evaluation.ranking import RankingQuality
from training.judging import JudgedRows, carve_last
from training.recipes import Recipe
from training.search import Found, Trial, search

K = 10
FAMILIES = ("popularity", "item_neighbours", "linear", "sequence")
"""That are searched and blended."""
BESIDE = tuple(Recipe(model) for model in ("item_neighbours", "als", "popularity"))
"""That are measured beside, with their defaults."""
MINUTES = 100.0
SEED = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """A recipe on the test items."""

    recipe: Recipe
    quality: RankingQuality
    fit_seconds: float

    @property
    def intervals(self) -> Mapping[str, Interval]:
        """What the table and the JSON line say."""
        return {f"{metric}_at_{K}": self.quality.interval(metric) for metric in ("ndcg", "recall", "mrr")}


def run(*, data: Path | None, trials: int | None = None, minutes: float | None = None) -> Result:
    """Search, fit the winner again, test it once and print the table.

    Raises:
        DataError: no data named, or of another layout.
    """
    if data is None or not (data / "sequences.parquet").is_file():
        raise DataError("sequences needs --data, a folder with sequences.parquet like ../shared/data/ml1m_sequences.")
    taken = read(data / "sequences.parquet")
    if np.bincount(taken.user).max(initial=0) < 3:
        raise DataError("nobody has three items: one to learn from, one to choose on, one to test. Bring more history.")
    test = carve_last(taken, max_users=len(taken.users))
    kept = Path(tempfile.gettempdir()) / f"attune-sequences-{_contents(data / 'sequences.parquet')}"
    kept.mkdir(exist_ok=True)
    print(f"{data.name}: {len(taken.users):,} users, {len(taken.items):,} items, {len(taken):,} steps; {hardware()}")
    print(f"{len(test.users):,} users have two items and more and are asked about")
    print(f"kept meanwhile in {kept}")
    with threadpool_limits(1, "blas"):
        recipe = chosen(test.known, kept, trials, MINUTES if minutes is None else minutes)
        won = measure(recipe, test, kept / "refit.npz")
        beside = [measure(replace(other, exclude_seen=recipe.exclude_seen), test) for other in BESIDE]
    _print([won, *beside])
    shutil.rmtree(kept)
    return Result(
        metrics={name: interval.estimate for name, interval in won.intervals.items()},
        intervals=won.intervals,
        peers={
            one.recipe.model: {name: round(interval.estimate, 5) for name, interval in one.intervals.items()}
            for one in beside
        },
    )


def read(file: Path) -> Interactions:
    """The sequences: what a position is (a number, a date, a moment) only says what came first; of equals the file.

    A row that is there twice is one step: else who has all rows twice takes nothing new at last.

    Raises:
        DataError: a column is missing, or a position that is neither.
    """
    rows = with_ids(read_rows(file, ("user", "item", "position")), file)
    rows = rows.assign(position=_in_order(rows["position"])).dropna(subset="position")
    once = rows.drop_duplicates(["user_id", "item_id", "position"])
    if len(once) < len(rows):
        print(f"{file.name}: {len(rows) - len(once):,} of {len(rows):,} rows are there twice and count once")
    rows = once.sort_values("position", kind="stable")
    return Interactions.from_frame(rows.assign(at=rows.groupby("user_id").cumcount()))


def _in_order(position: pd.Series) -> pd.Series:
    """Positions that can be sorted."""
    if pd.api.types.is_numeric_dtype(position) or pd.api.types.is_datetime64_any_dtype(position):
        return position
    for kind in (pd.to_numeric, partial(pd.to_datetime, utc=True, format="mixed")):
        with suppress(ValueError, TypeError):
            return kind(position)
    raise DataError(f"position: {position.iloc[0]!r} and others are neither numbers nor dates. Mend the column.")


def chosen(known: Interactions, kept: Path, trials: int | None, minutes: float) -> Recipe:
    """The recipe that does best on everybody's last known item; the same as before if that was found out already."""
    file = kept / "chosen.json"
    if not file.exists():
        found: Found = search(
            [carve_last(known)],
            families=FAMILIES,
            trials=trials,
            minutes=minutes,
            k=K,
            exclude_seen=(True, False) if _taken_again(known) else (True,),
            seed=SEED,
            folder=kept / "search",
            on_trial=_tell,
        )
        with replacing(file) as beside:
            beside.write_text(json.dumps(asdict(found.recipe)), encoding="utf-8")
    return Recipe(**json.loads(file.read_text(encoding="utf-8")))


def measure(recipe: Recipe, test: JudgedRows, checkpoint: Path | None = None) -> Measured:
    """Fit on all but the test items, and rank for them."""
    started = time.perf_counter()
    with timed(f"fit {recipe.model}"):
        model = recipe.fit(test.known, SEED, checkpoint=checkpoint)
    fit_seconds = time.perf_counter() - started
    return Measured(recipe, test.judge(model, exclude_seen=recipe.exclude_seen, k=K), fit_seconds)


def hardware() -> str:
    """What this runs on."""
    import torch

    names = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return f"{os.cpu_count()} x {names[0] if names else platform.processor()}{gpu}"


def _cpu_lines() -> list[str]:
    told = Path("/proc/cpuinfo")
    return told.read_text(encoding="utf-8").splitlines() if told.exists() else []


def _taken_again(known: Interactions) -> bool:
    return known.matrix.nnz < len(known)


def _contents(file: Path) -> str:
    return blake2b(file.read_bytes(), digest_size=8).hexdigest()


def _tell(trial: Trial) -> None:
    outcome = str(trial.quality) if trial.quality else f"{trial.state}: {trial.reason}"
    print(f"  {trial.seconds:7.1f} s  {trial.recipe}: {outcome}", flush=True)


def _print(measured: list[Measured]) -> None:
    names = list(measured[0].intervals)
    print(f"{'':<18}" + "".join(f"{name:>28}" for name in names) + f"{'fit, s':>12}")
    for one in measured:
        cells = "".join(f"{interval!s:>28}" for interval in one.intervals.values())
        print(f"{one.recipe.model:<18}{cells}{one.fit_seconds:>12.1f}")
    print(f"chosen: {measured[0].recipe}")
