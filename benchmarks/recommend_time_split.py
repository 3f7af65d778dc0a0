"""Every recommender on a global time split: learn before, choose on a tenth of the days, judge once on the last tenth.

What is ranked is the whole catalogue, and what counts is everything that people took afterwards, again or for the
first time. Each model is tried with and without what a person had before; each with its own defaults, on every data
set. The one with the best NDCG on the validation days is judged against the best of the baselines, paired.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from scipy import sparse

from benchmarks.result import Result
from benchmarks.shops import checked
from data.errors import DataError
from data.interactions import Interactions
from data.settings import Settings
from data.tables import Tables
from data.vocabulary import Vocabulary
from evaluation.ranking import RankingQuality, compare, evaluate
from features.interactions import interactions
from features.snapshots import span
from models.recommenders import MODELS, Recommender, load

K = 20
BASELINES = ("popularity", "repeat")
N_TIMED = 300


@dataclass(frozen=True)
class Contestant:
    """A model and what it shows, with how it did."""

    name: str
    quality: RankingQuality
    fit_seconds: float
    p95_latency_ms: float

    @property
    def metrics(self) -> dict[str, float]:
        """What the table and the JSON line say of it."""
        return {
            f"recall_at_{K}": self.quality.interval("recall", "warm", resamples=1).estimate,
            f"ndcg_at_{K}": self.quality.interval("ndcg", "warm", resamples=1).estimate,
            f"coverage_at_{K}": self.quality.coverage,
            f"novelty_bits_at_{K}": self.quality.interval("novelty", "warm", resamples=1).estimate,
            f"recall_at_{K}_cold_users": self.quality.interval("recall", "cold", resamples=1).estimate,
            f"recall_at_{K}_of_cold_items": self.quality.interval("recall_of_cold_items", resamples=1).estimate,
            "fit_seconds": self.fit_seconds,
            "p95_latency_ms": self.p95_latency_ms,
        }

    @property
    def is_baseline(self) -> bool:
        """Whether it is one of the honest baselines."""
        return self.name.split()[0] in BASELINES


def run(*, data: Path | None, size: str | None) -> Result:  # noqa: ARG001 - every benchmark takes a size
    """Import, split, fit, judge and print the table.

    Raises:
        DataError: no data named, or of a layout that is not known.
    """
    if data is None:
        raise DataError("recommend-time-split needs --data, such as ../shared/data/ml100k.")
    with tempfile.TemporaryDirectory() as scratch:
        tables = checked(data, Path(scratch) / "shop").checked
        known = span(tables)
        tenth = (known.end - known.first) / 10
        validation = list(contestants(tables, known.end - 2 * tenth, known.end - tenth, Path(scratch)))
        judged = list(contestants(tables, known.end - tenth, known.end, Path(scratch)))
    chosen = _best(validation).name
    best = next(contestant for contestant in judged if contestant.name == chosen)
    baseline = _best([contestant for contestant in judged if contestant.is_baseline])
    gain = compare(best.quality, baseline.quality, "ndcg", "warm")
    _print(judged, f"{data.name}: {chosen}, chosen on the days before, {_verdict(gain.low)} {baseline.name}")
    return Result(
        metrics={**best.metrics, f"ndcg_at_{K}_gain": gain.estimate, f"ndcg_at_{K}_gain_low": gain.low},
        intervals={
            f"recall_at_{K}": best.quality.interval("recall", "warm"),
            f"ndcg_at_{K}": best.quality.interval("ndcg", "warm"),
            f"ndcg_at_{K}_gain": gain,
        },
        peers={c.name: {name: _json(value) for name, value in c.metrics.items()} for c in judged},
    )


def contestants(tables: Tables, cutoff: datetime, end: datetime, scratch: Path) -> Iterator[Contestant]:
    """Every model, fitted on what was known at the cutoff and judged on what came until `end`."""
    settings = Settings().recommender
    whole = interactions(tables, settings, cutoff=end)
    before = interactions(tables, settings, cutoff=cutoff, items=whole.items)
    after = whole.since(int(cutoff.timestamp()))
    judged = Vocabulary(whole.users.ids(np.unique(after.user)))
    histories, held_out = _rows(before, judged), _rows(after, judged)
    for name, kind in MODELS.items():
        started = time.perf_counter()
        model = kind().fit(before)
        fit_seconds = time.perf_counter() - started
        model.save(scratch / name)
        served = load(scratch / name)
        for exclude_seen in (False, True):
            ranked = served.recommend(histories, K, exclude_seen=exclude_seen).items
            shows = "new items only" if exclude_seen else "everything"
            quality = evaluate(ranked, held_out, histories)
            yield Contestant(f"{name} ({shows})", quality, fit_seconds, _p95_latency_ms(served, histories))


def _rows(taken: Interactions, users: Vocabulary) -> sparse.csr_matrix:
    """The matrix with a row for each of `users`, in their order, empty for those who took nothing."""
    row = users.codes(taken.users.all_ids)[taken.user]
    kept = row >= 0
    cells = (taken.weight[kept], (row[kept], taken.item[kept]))
    return sparse.csr_matrix(cells, shape=(len(users), len(taken.items)), dtype=np.float32)


def _p95_latency_ms(model: Recommender, histories: sparse.csr_matrix) -> float:
    rows = np.random.default_rng(0).integers(0, histories.shape[0], N_TIMED)
    took = []
    for row in rows:
        one = histories[row]
        started = time.perf_counter()
        model.recommend(one, K)
        took.append(time.perf_counter() - started)
    return float(np.quantile(took, 0.95) * 1000)


def _best(tried: list[Contestant]) -> Contestant:
    return max(tried, key=lambda contestant: contestant.metrics[f"ndcg_at_{K}"])


def _verdict(gain_low: float) -> str:
    return "beats" if gain_low > 0 else "does not surely beat"


def _json(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.5g}")


def _print(judged: list[Contestant], title: str) -> None:
    quality = judged[0].quality
    n_cold = int(quality.cold_user.sum())
    print(f"{title} ({len(quality.cold_user) - n_cold:,} known users, {n_cold:,} cold ones apart)")
    columns = list(judged[0].metrics)
    print(" " * 32 + " ".join(f"{name:>24}" for name in columns))
    for contestant in judged:
        cells = " ".join(f"{value:>24.4f}" for value in contestant.metrics.values())
        print(f"{contestant.name:<32}{cells}")
