"""Which item does this shopper buy next: every recommender, with its defaults, on buys that were held out.

The folder holds `events` (user, item, event, timestamp) and `test_buys` (user, item, timestamp). A model learns from
all events and is asked about each buy's shopper with what she did before it, ranking the whole catalogue without what
she touched; no event on a bought item by its buyer is among the events. Where the buys have no time (in RetailRocket
as it is here they have none) all that the shopper did is known, of which some may have come later. Each buy is one
row with one right item: its recall is its hit rate. Items that nobody else touched count too, and apart.
"""

from __future__ import annotations

import inspect
import math
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.ids import with_ids
from benchmarks.latency import K, Took, asking, measure
from benchmarks.result import Result
from benchmarks.shops import checked
from data.errors import AttuneError, DataError
from data.files import read_rows
from data.histories import Histories
from data.interactions import Interactions
from data.progress import track
from data.settings import Settings
from data.vocabulary import Vocabulary
from evaluation.intervals import Interval
from evaluation.ranking import RankingQuality, compare, evaluate
from features.interactions import interactions
from features.snapshots import span
from models.recommenders import MODELS, Recommender, load

BASELINE = "popularity"
MAX_FIT_MINUTES = 10.0
"""For the models that can be told."""
N_TIMED = 300


@dataclass(frozen=True, eq=False)
class Buys:
    """What was held out, a row per buy, and what was known before it.

    Attributes:
        known: Everybody's events.
        histories: Of the buyers, shape (n_buys, n_items).
        held_out: The item bought, shape (n_buys, n_items).
    """

    known: Interactions
    histories: Histories
    held_out: sparse.csr_matrix


@dataclass(frozen=True, eq=False)
class Contestant:
    """A model and how it did."""

    quality: RankingQuality
    fit_seconds: float
    took: Took

    @property
    def intervals(self) -> dict[str, Interval]:
        """What is told with an interval."""
        return {
            f"hit_rate_at_{K}": self.quality.interval("hit_rate"),
            f"ndcg_at_{K}": self.quality.interval("ndcg"),
            f"mrr_at_{K}": self.quality.interval("mrr"),
        }

    @property
    def metrics(self) -> dict[str, float]:
        """What the table and the JSON line say."""
        return {name: interval.estimate for name, interval in self.intervals.items()} | {
            f"recall_at_{K}_of_cold_items": self.quality.interval("recall_of_cold_items", resamples=1).estimate,
            f"coverage_at_{K}": self.quality.coverage,
            "p95_latency_ms": self.took.summary["p95_ms"],
            "fit_seconds": self.fit_seconds,
        }


def run(*, data: Path | None, size: str | None) -> Result:  # noqa: ARG001 - every benchmark takes a size
    """Import, fit every model, judge and print the table.

    Raises:
        DataError: no data named, or of another layout.
    """
    if data is None or not (data / "test_buys.parquet").is_file():
        raise DataError(
            "next-purchase needs --data, a folder with events and test_buys like ../shared/data/retailrocket."
        )
    judged, refused = {}, {}
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(1, "blas"):
        buys = held_out_buys(data, Path(scratch) / "shop")
        for name in track(list(MODELS), "fit and judge"):
            try:
                judged[name] = judge(MODELS[name], buys, Path(scratch) / name)
            except AttuneError as error:
                refused[name] = str(error)
    _print(judged, refused, buys, data.name)
    return Result(
        metrics={f"{name}_{metric}": value for name, c in judged.items() for metric, value in c.metrics.items()},
        intervals={f"{name}_{metric}": i for name, c in judged.items() for metric, i in c.intervals.items()},
        peers={"refused": refused},
    )


def held_out_buys(data: Path, folder: Path) -> Buys:
    """Read the folder into a workspace at `folder`.

    Raises:
        DataError: `test_buys` cannot be read, or lacks a column.
    """
    tables = checked(data, folder).checked
    file = data / "test_buys.parquet"
    bought = with_ids(read_rows(file, ("user", "item", "timestamp")), file)
    settings, end = Settings().recommender, span(tables).end + timedelta(seconds=1)
    touched = interactions(tables, settings, cutoff=end).items.all_ids
    items = Vocabulary(sorted({*touched, *bought.item_id}))
    known = interactions(tables, settings, cutoff=end, items=items, catalogue=True)
    histories = Histories.from_interactions(known, users=known.users.codes(bought.user_id))
    at = bought.timestamp.to_numpy(np.int64)
    timed = at >= known.at.min()
    kept = ~timed[histories.row] | (histories.at < at[histories.row])
    histories = replace(histories.where(kept), now=np.where(timed, at, histories.now))
    cells = (np.ones(len(bought)), (np.arange(len(bought)), items.codes(bought.item_id)))
    return Buys(known, histories, sparse.csr_matrix(cells, shape=(len(bought), len(items))))


def judge(kind: type[Recommender], buys: Buys, folder: Path) -> Contestant:
    """Fit, save, load as a service does, ask, measure.

    Raises:
        AttuneError: the model cannot learn from this.
    """
    bounded = {"minutes": MAX_FIT_MINUTES} if "minutes" in inspect.signature(kind).parameters else {}
    started = time.perf_counter()
    model = kind(**bounded).fit(buys.known)
    fit_seconds = time.perf_counter() - started
    model.save(folder)
    served = load(folder)
    ranked = served.recommend(buys.histories, K).items
    quality = evaluate(ranked, buys.held_out, buys.histories.matrix, everybody=buys.known.matrix)
    took = measure({"served": asking(served, buys.histories)}, n_asks=N_TIMED)["served"]
    return Contestant(quality, fit_seconds, took)


def _print(judged: dict[str, Contestant], refused: dict[str, str], buys: Buys, data: str) -> None:
    best = max(judged, key=lambda name: judged[name].metrics[f"ndcg_at_{K}"])
    gain = compare(judged[best].quality, judged[BASELINE].quality, "ndcg")
    n_buys, n_items = buys.held_out.shape
    n_cold = int(np.isfinite(judged[best].quality.recall_of_cold_items).sum())
    print(f"{data}: {best} is highest in NDCG@{K}, {gain} above {BASELINE}, paired")
    print(f"{n_buys:,} buys of {n_items:,} items; in {n_cold:,} nobody else had touched the item")
    columns = list(judged[best].metrics)
    print(" " * 18 + "".join(f"{name:>28}" for name in columns))
    for name, contestant in judged.items():
        intervals = contestant.intervals
        cells = [str(intervals[m]) if m in intervals else _cell(value) for m, value in contestant.metrics.items()]
        print(f"{name:<18}" + "".join(f"{cell:>28}" for cell in cells))
    for name, reason in refused.items():
        print(f"{name:<18}{reason}")


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"
