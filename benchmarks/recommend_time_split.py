"""The searched winner on a global time split, beside other libraries' models with the same search budget each.

Chosen once on two rolling tenths of the days, then judged on each of the last three tenths, every recipe learnt anew
from all that was known before it and never searched again: a rolling origin (Tashman 2000, "Out-of-sample tests of
forecasting accuracy"). The people of one tenth alone are few; drawn for the intervals are people, each with all their
tenths. What is ranked is the whole catalogue, and what counts is everything that people then took, again or for the
first time, alike for all. Every model is tried with and without what a person had before. Each peer has the whole
budget of trials and minutes to itself and what it learns anew besides; the winner's search shares one budget, with time
kept to learn anew once, among all its families.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np

from benchmarks import beside_peers
from benchmarks.contestants import Contest, Contestant
from benchmarks.result import Result
from benchmarks.shops import checked
from data.errors import DataError
from data.progress import track
from data.settings import Settings
from data.tables import Tables
from evaluation.intervals import Interval
from evaluation.ranking import RankingQuality, pooled
from features.snapshots import span
from models.recommenders import Recommender, load
from training.judging import JudgedRows
from training.recipes import BASELINES
from training.search import search
from training.splits import recommender_split

K = 20
DATA_SETS = ("online_retail", "retailrocket", "ml100k")
"""What is looked for in a folder of several."""
WINDOWS = 3
"""Tenths that are judged on. With the two before them that are chosen on, half of the days only ever teach."""
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
        folds, windows = _rows(checked(data, folder / "shop").checked)
        contestants = list(_own(folds, windows, folder / "models", trials, minutes))
        if beside_peers.set_up():
            exchange = folder / "exchange"
            contestants += beside_peers.peers(folds, windows, exchange, k=K, trials=trials, minutes=minutes)
    return Contest(data.name, _about(folds, windows), tuple(contestants))


def _about(folds: Sequence[JudgedRows], windows: Sequence[JudgedRows]) -> str:
    """How many windows and people were judged on, and chosen on."""

    def known(parts: Sequence[JudgedRows]) -> str:
        of_each = [part.ids[part.users >= 0] for part in parts]
        n_people, n_rows = len(np.unique(np.concatenate(of_each))), [len(ids) for ids in of_each]
        return f"{n_people:,} known people, {sum(n_rows):,} rows ({' + '.join(f'{n:,}' for n in n_rows)})"

    n_strangers = sum(int((rows.users < 0).sum()) for rows in windows)
    return (
        f"judged on {len(windows)} windows, first on {windows[0].about}: {known(windows)}, "
        f"{n_strangers:,} strangers apart; chosen on {len(folds)} before: {known(folds)}"
    )


def _rows(tables: Tables) -> tuple[list[JudgedRows], list[JudgedRows]]:
    """What to choose on and what to judge on, earliest first.

    The first window is split off as `attune train` does, a tenth of the days for a horizon; the others follow it.
    """
    known = span(tables)
    horizon_days = max(1, (known.end - known.first).days // 10)
    horizon = timedelta(days=horizon_days)
    settings = Settings()
    recommender = settings.recommender.model_copy(update={"horizon_days": horizon_days})
    settings = settings.model_copy(update={"recommender": recommender})
    split = recommender_split(known.first, known.end - (WINDOWS - 1) * horizon, horizon_days=horizon_days)
    tests = [split.test + number * horizon for number in range(WINDOWS)]
    folds, windows = (
        [JudgedRows.at(tables, settings, cutoff, SEED) for cutoff in cutoffs] for cutoffs in (split.validation, tests)
    )
    return folds, windows


def _own(
    folds: Sequence[JudgedRows], windows: Sequence[JudgedRows], folder: Path, trials: int, minutes: float
) -> Iterator[Contestant]:
    """What the search found, then the baselines, all learnt anew before each window."""
    began = time.perf_counter()
    found = search(folds, trials=trials, minutes=minutes, k=K, seed=SEED)
    spent = {"trials": float(len(found.trials)), "search_seconds": time.perf_counter() - began}
    for number, recipe in enumerate([found.recipe, *BASELINES]):
        qualities: list[RankingQuality] = []
        fit_seconds: list[float] = []
        for rows in track(windows, f"learning {recipe.model} anew"):
            started = time.perf_counter()
            model = recipe.fit(rows.known, SEED)
            fit_seconds.append(time.perf_counter() - started)
            saved = folder / f"{number}_{len(qualities)}"
            model.save(saved)
            served = load(saved)
            qualities.append(rows.judge(served, exclude_seen=recipe.exclude_seen, k=K))
        yield Contestant(
            name=str(recipe),
            kind="baseline" if number else "winner",
            quality=pooled(qualities, [rows.ids for rows in windows]),
            fit_seconds=float(np.mean(fit_seconds)),
            p95_latency_ms=_p95_latency_ms(served, windows[-1], exclude_seen=recipe.exclude_seen),
            **({} if number else spent),
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
