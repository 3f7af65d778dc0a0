"""Churn on a real shop: the trained propensity beside its baselines, judged on the latest customers, paired.

Import, check, features and training are the ones a shop would run, with every setting at its default. The metrics are
those of the model that training would put before the gate.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.result import Result
from benchmarks.shops import checked
from data.errors import DataError
from evaluation.intervals import Interval
from training.propensity import METRIC, train_propensity

CALIBRATION = "calibration_error"


def run(*, data: Path | None, size: str | None) -> Result:
    """Train and judge churn on a data set laid out like one of `../shared/data`."""
    if data is None or size is not None:
        raise DataError("churn is measured on real data: say --data ../shared/data/online_retail, and no --size.")
    with tempfile.TemporaryDirectory() as scratch:
        workspace = checked(data, Path(scratch) / "shop")
        result = train_propensity(workspace, "churn")
    columns = ["model", METRIC, f"{METRIC}_low", f"{METRIC}_high", "gain", "gain_low", "gain_high", CALIBRATION]
    print(f"churn in {data}: {result.test.n_rows:,} people; {'; '.join(result.test.notes)}")
    print(result.test.frame()[columns].round(4).to_string(index=False, na_rep=""))
    first = result.test.rows[0]
    # Without a gain the first is the best baseline itself: what would go live gains nothing over it.
    gain = result.test.best_baseline.gain or Interval(0.0, 0.0, 0.0, first.metrics[METRIC].level)
    return Result(
        metrics={
            METRIC: first.metrics[METRIC].estimate,
            f"{METRIC}_gain": gain.estimate,
            f"{METRIC}_gain_low": gain.low,
            CALIBRATION: first.metrics[CALIBRATION].estimate,
        },
        intervals={METRIC: first.metrics[METRIC], f"{METRIC}_gain": gain, CALIBRATION: first.metrics[CALIBRATION]},
        peers={
            row.name: {name: row.metrics[name].estimate for name in (METRIC, CALIBRATION)}
            for row in result.test.rows[1:]
        },
    )
