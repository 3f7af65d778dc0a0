"""The searched winner on a global time split, beside other libraries' models with the same search budget each.

Learnt before, chosen on rolling tenths of the days, judged once on the last tenth. What is ranked is the whole
catalogue, and what counts is everything that people then took, again or for the first time, alike for all. Every model
is tried with and without what a person had before. Each peer has the whole budget of trials and minutes to itself and
its refit besides; the winner's search shares one budget, refit included, among all its families.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import beside_peers
from benchmarks.contestants import Contest, Contestant
from benchmarks.result import Result
from benchmarks.shops import checked
from data.errors import DataError
from data.settings import Settings
from data.tables import Tables
from evaluation.intervals import Interval
from features.snapshots import span
from models.recommenders import Recommender, load
from training.judging import JudgedRows
from training.recipes import BASELINES
from training.search import search
from training.splits import recommender_split

K = 20
DATA_SETS = ("online_retail", "retailrocket", "ml100k")
"""What is looked for in a folder of several."""
TRIALS, MINUTES = 60, 30.0
N_TIMED = 100
SEED = 0


def run(*, data: Path | None, trials: int | None = None, minutes: float | None = None) -> Result:
    """Import, split, search, judge and print a table for `data`, or for each data set in it.

    Raises:
        DataError: no data named, or of a layout that is not known.
    """
    if data is None:
        raise DataError("recommend-time-split needs --data, such as ../shared/data or ../shared/data/ml100k.")
    folders = [data / name for name in DATA_SETS if (data / name).is_dir()] or [data]
    metrics: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    told = {}
    for folder in folders:
        contest = _contest(folder, trials or TRIALS, minutes or MINUTES)
        print(f"\n{contest.table()}", flush=True)
        prefix = f"{folder.name}_" if len(folders) > 1 else ""
        metrics |= {f"{prefix}{name}": value for name, value in contest.winner.metrics.items()}
        for rival, gain in contest.gains().items():
            name = f"{prefix}ndcg_at_{K}_gain_over_{rival}"
            metrics |= {name: gain.estimate, f"{name}_low": gain.low}
            intervals[name] = gain
        for metric, interval in contest.winner.intervals.items():
            intervals[f"{prefix}{metric}"] = interval
        told[folder.name] = {one.name: _json(one.metrics) for one in contest.contestants}
    return Result(metrics=metrics, intervals=intervals, peers=told)


def _contest(data: Path, trials: int, minutes: float) -> Contest:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folds, test = _rows(checked(data, folder / "shop").checked)
        contestants = list(_own(folds, test, folder / "models", trials, minutes))
        if beside_peers.set_up():
            exchange = folder / "exchange"
            contestants += beside_peers.peers(folds, test, exchange, k=K, trials=trials, minutes=minutes)
    n_warm = int((test.users >= 0).sum())
    n_chosen = sum(int((rows.users >= 0).sum()) for rows in folds)
    about = f"{test.about}: {n_warm:,} people known until then, {len(test.users) - n_warm:,} strangers apart"
    return Contest(data.name, f"{about}; chosen on {n_chosen:,} before", tuple(contestants))


def _rows(tables: Tables) -> tuple[list[JudgedRows], JudgedRows]:
    """What to choose on, and what to judge on: split as `attune train` does, with a tenth of the days for a horizon."""
    known = span(tables)
    horizon_days = max(1, (known.end - known.first).days // 10)
    settings = Settings()
    recommender = settings.recommender.model_copy(update={"horizon_days": horizon_days})
    settings = settings.model_copy(update={"recommender": recommender})
    split = recommender_split(known.first, known.end, horizon_days=horizon_days)
    folds = [JudgedRows.at(tables, settings, cutoff, SEED) for cutoff in split.validation]
    return folds, JudgedRows.at(tables, settings, split.test, SEED)


def _own(
    folds: Sequence[JudgedRows], test: JudgedRows, folder: Path, trials: int, minutes: float
) -> Iterator[Contestant]:
    """What the search found, then the baselines and the best of each family, all learnt anew before the test."""
    began = time.perf_counter()
    found = search(folds, trials=trials, minutes=minutes, k=K, seed=SEED)
    spent = {"trials": float(len(found.trials)), "search_seconds": time.perf_counter() - began}
    families = {str(recipe): recipe for recipe in (*BASELINES, *(trial.recipe for trial in found.best_by_family()))}
    others = [recipe for recipe in families.values() if recipe in BASELINES or recipe != found.recipe]
    for number, recipe in enumerate([found.recipe, *others]):
        started = time.perf_counter()
        model = recipe.fit(test.known, SEED)
        fit_seconds = time.perf_counter() - started
        model.save(folder / str(number))
        served = load(folder / str(number))
        yield Contestant(
            name=str(recipe),
            kind="winner" if number == 0 else "baseline" if recipe in BASELINES else "model",
            quality=test.judge(served, exclude_seen=recipe.exclude_seen, k=K),
            fit_seconds=fit_seconds,
            p95_latency_ms=_p95_latency_ms(served, test, exclude_seen=recipe.exclude_seen),
            **(spent if number == 0 else {}),
        )


def _p95_latency_ms(model: Recommender, rows: JudgedRows, *, exclude_seen: bool) -> float:
    histories = rows.histories.recoded(model.items.codes(rows.known.items.all_ids), len(model.items))
    took = []
    for row in np.random.default_rng(SEED).integers(0, len(histories), N_TIMED):
        one = histories[np.array([row])]
        started = time.perf_counter()
        model.recommend(one, K, exclude_seen=exclude_seen)
        took.append(time.perf_counter() - started)
    return float(np.quantile(took, 0.95) * 1000)


def _json(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else float(f"{value:.5g}") for name, value in metrics.items()}
