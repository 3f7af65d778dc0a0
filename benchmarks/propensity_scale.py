"""Propensity at size: a search, the fit and scoring on made snapshot rows; what matters is time and memory.

`--size` is rows x features, `1Mx100` by default. The rows are of four cutoffs; a tenth of the features are
categories, a tenth is missing. Quality is not measured here: the label is a noisy sum of a few features.
"""

from __future__ import annotations

import resource
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.result import KIB_PER_GB, Result
from data.errors import DataError
from training.labelled import LabelledRows, Rows
from training.propensity import fit
from training.propensity_search import search_recipe
from training.splits import propensity_split

SIZE = "1Mx100"
TRIALS = 20
LIMITS = {"train_seconds": 600, "score_seconds": 60, "peak_gb": 6}
MULTIPLES = {"k": 1_000, "M": 1_000_000}


def run(*, data: Path | None, size: str | None, trials: int | None = None) -> Result:
    """Search, fit, and score as many users as there are rows."""
    if data is not None:
        raise DataError("propensity-scale makes its own data: say --size 1Mx100, and no --data.")
    n_rows, n_features = _size(size or SIZE)
    rows = _rows(n_rows, n_features)
    started = time.perf_counter()
    found = search_recipe(rows, trials=trials or TRIALS)
    searched = time.perf_counter()
    model = fit(rows, found.recipe, 0)
    fitted = time.perf_counter()
    users = pd.concat([rows.test.features] * -(-n_rows // len(rows.test.label)), ignore_index=True)[:n_rows]
    scoring = time.perf_counter()
    model.predict(users)
    scored = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GB
    return Result(
        metrics={
            "train_seconds": fitted - started,
            "search_seconds": searched - started,
            "fit_seconds": fitted - searched,
            "score_seconds": scored - scoring,
            "peak_gb": peak,
            "trials": len(found.trials),
            "trees": model.n_trees,
        },
        peers={"limits": LIMITS},
    )


def _size(size: str) -> tuple[int, int]:
    rows, _, features = size.partition("x")
    try:
        return int(float(rows.rstrip("kM")) * MULTIPLES.get(rows[-1:], 1)), int(features)
    except ValueError as error:
        raise DataError(f"--size {size!r}: give rows x features, such as 1Mx100 or 50kx40.") from error


def _rows(n_rows: int, n_features: int) -> LabelledRows:
    """People of four cutoffs before the test and one at it, a fifth of the rows each."""
    start = datetime(2025, 1, 1, tzinfo=UTC)
    split = propensity_split(start, start + timedelta(days=300), horizon_days=30, cutoffs=5, step_days=30)
    by_cutoff = {cutoff: _people(n_rows // 4, n_features, seed) for seed, cutoff in enumerate(split.cutoffs)}
    return LabelledRows(by_cutoff, split, f"made {n_rows} {n_features}", {"f0": 1})


def _people(n: int, n_features: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    x = rng.gamma(1.0, 10.0, (n, n_features)).astype(np.float32)
    log_odds = 0.05 * (x[:, 0] - x[:, 1]) + 0.5 * (x[:, 2] > 10) + rng.logistic(size=n) - 1
    x[rng.random(x.shape) < 0.1] = np.nan
    frame = pd.DataFrame(x, columns=[f"f{j}" for j in range(n_features)])
    for j in range(9, n_features, 10):
        frame[f"f{j}"] = pd.Categorical.from_codes(rng.integers(0, 8, n), list("abcdefgh"))
    return Rows(frame, (log_odds > 0).astype(np.int64), np.arange(n), np.zeros(n, dtype=np.int64))
