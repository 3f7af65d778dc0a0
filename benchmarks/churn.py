"""Churn on a real shop: the propensity beside its baselines at three rolling cutoffs, the same people, paired.

Import, check, features and training are the ones a shop would run, with every setting at its default. Each cutoff is
judged by a model that learnt from what was known by then. Figures are means over the cutoffs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.result import Result
from benchmarks.shops import checked
from data.errors import DataError
from training.propensity import rolling
from training.propensity_search import METRIC

CALIBRATION = "calibration_error"


def run(*, data: Path | None, size: str | None) -> Result:
    """Train and judge churn on a data set laid out like one of `../shared/data`."""
    if data is None or size is not None:
        raise DataError("churn is measured on real data: say --data ../shared/data/online_retail, and no --size.")
    with tempfile.TemporaryDirectory() as scratch:
        test = rolling(checked(data, Path(scratch) / "shop"), "churn")
    columns = ["model", METRIC, f"{METRIC}_low", f"{METRIC}_high", "gain", "gain_low", "gain_high", CALIBRATION]
    print(f"churn in {data}: {test.n_rows:,} people; {'; '.join(test.notes)}")
    print(test.frame()[columns].round(4).to_string(index=False, na_rep=""))
    first, gain = test.rows[0], test.best_baseline.gain
    assert gain is not None  # only the first row, which is no baseline, has none
    return Result(
        metrics={
            METRIC: first.metrics[METRIC].estimate,
            f"{METRIC}_gain": gain.estimate,
            f"{METRIC}_gain_low": gain.low,
            CALIBRATION: first.metrics[CALIBRATION].estimate,
        },
        intervals={METRIC: first.metrics[METRIC], f"{METRIC}_gain": gain, CALIBRATION: first.metrics[CALIBRATION]},
        peers={row.name: {name: row.metrics[name].estimate for name in (METRIC, CALIBRATION)} for row in test.rows[1:]},
    )
