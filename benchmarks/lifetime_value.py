"""How often customers buy in the second half of the data, and for how much, foreseen from the first half.

The folder holds Parquet or CSV files with `customer`, `date` and, where there is money, `amount`, in any case (or one
such file is named); each is measured by itself, and the names of the metrics of all but the largest begin with the
file's. Purchases of one day are one; rows without customer or date, and returns, are left out and told. Nothing of the
second half is looked at before every choice is made: `models.lifetime.choose` sees the first half only. On CDNOW these
are the 39 and 39 weeks of the papers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.result import Result
from data.errors import DataError
from data.files import read_rows
from evaluation.intervals import Interval, bootstrap, mean
from models.lifetime import Choice, Fit, GammaGamma, Outcome, by_day, choose, fit, forecast, outcome

CHAMPION, BEATEN = "champion", "pareto_nbd"
"""The chosen forecast, and the published model that it is held against."""
LEVEL = 0.8
CDNOW = {(23_570, 69_659), (2_357, 6_919)}
"""Customers and purchases of CDNOW, and of the 1/10 sample of it that papers use."""
PUBLISHED = {
    "bg_nbd": {"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426},
    "pareto_nbd": {"r": 0.553, "alpha": 10.58, "s": 0.606, "beta": 11.67},
    "gamma_gamma": {"p": 6.25, "q": 3.74, "gamma": 15.44},
}
"""Of the sample, by Fader, Hardie and Lee (2005) and Fader and Hardie (2013)."""


@dataclass(frozen=True, eq=False)
class Foreseen:
    """One file: what was foreseen in the first half, and what came in the second."""

    choice: Choice
    fits: Mapping[str, Fit[Any]]
    seconds: Mapping[str, float]
    came: Outcome
    horizon_weeks: float

    @property
    def forecasts(self) -> dict[str, np.ndarray]:
        """Expected purchases by every candidate, and by the champion."""
        return {CHAMPION: self.choice.purchases, **self.choice.forecasts}


def run(*, data: Path | None, size: str | None) -> Result:
    """Fit, choose, forecast and measure every file.

    Raises:
        DataError: no data named, or none that can be used.
    """
    if data is None or size is not None:
        raise DataError("lifetime-value is measured on real data: say --data ../shared/data/cdnow, and no --size.")
    found = [data] if data.is_file() else [file for file in data.glob("*") if file.suffix in {".parquet", ".csv"}]
    files = sorted(found, key=lambda file: (-file.stat().st_size, file.name))
    if not files:
        raise DataError(f"{data} holds no Parquet or CSV file. Give purchases with customer, date and amount.")
    metrics: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    peers: dict[str, Any] = {}
    for file in files:
        purchases = _read(file)
        foreseen = foresee(purchases)
        published = PUBLISHED if (len(foreseen.choice.summary), len(purchases)) in CDNOW else {}
        peers |= {"published": published} if published else {}
        prefix = "" if file == files[0] else f"{file.stem}_"
        told = _intervals(foreseen)
        intervals |= {prefix + name: interval for name, interval in told.items()}
        metrics |= {prefix + name: interval.estimate for name, interval in told.items()}
        metrics |= {f"{prefix}{name}_fit_seconds": seconds for name, seconds in foreseen.seconds.items()}
        peers |= {f"{prefix}{name}_parameters": vars(found.model) for name, found in foreseen.fits.items()}
        _print(file.stem, foreseen, told, published)
    return Result(metrics, intervals, peers)


def _read(file: Path) -> pd.DataFrame:
    """The purchases of a file, names in small letters; says what of it is left out."""
    rows = read_rows(file)
    rows = rows.set_axis([str(name).strip().lower() for name in rows.columns], axis=1)
    left_out = {
        **{f"have no {name}": rows[name].isna() for name in ("customer", "date", "amount") if name in rows},
        **({"are returns": pd.to_numeric(rows["amount"], errors="coerce") < 0} if "amount" in rows else {}),
    }
    for why, which in left_out.items():
        if which.any():
            print(f"{file.name}: {int(which.sum()):,} of {len(rows):,} rows {why} and are left out")
    return rows[~np.logical_or.reduce(list(left_out.values()))] if left_out else rows


def foresee(purchases: pd.DataFrame) -> Foreseen:
    """What the first half of the days foresees of the second."""
    days = by_day(purchases)["date"]
    start, end = days.min().date(), days.max().date() + timedelta(days=1)
    until: date = start + (end - start) / 2
    horizon_weeks = (end - until).days / 7
    choice = choose(purchases, until=until, horizon_weeks=horizon_weeks)
    kinds = [type(found.model) for found in choice.fits.values()]
    fits, seconds = {}, {}
    again = choice.summary.mean_spend
    money = len(np.unique(again[again > 0])) > 1
    for kind in [*kinds, *([GammaGamma] if money else [])]:
        started = time.perf_counter()
        fits[kind.name] = fit(kind, choice.summary)
        seconds[kind.name] = time.perf_counter() - started
    came = outcome(purchases, choice.summary.customers, start=until, until=end)
    return Foreseen(choice, fits, seconds, came, horizon_weeks)


def _intervals(foreseen: Foreseen) -> dict[str, Interval]:
    """Every figure that is told, with its interval over customers; the champion's without its name."""
    came = foreseen.came.purchases
    told: dict[str, Interval] = {}
    off = {name: forecast - came for name, forecast in foreseen.forecasts.items()}
    for name, error in off.items():
        prefix = "" if name == CHAMPION else f"{name}_"
        told |= {f"{prefix}mae": mean(np.abs(error)), f"{prefix}rmse": _rmse(error), f"{prefix}bias": mean(error)}
    told[f"mae_gain_over_{BEATEN}"] = mean(np.abs(off[BEATEN]) - np.abs(off[CHAMPION]))
    told[f"rmse_gain_over_{BEATEN}"] = _rmse(off[BEATEN], off[CHAMPION])
    if "gamma_gamma" in foreseen.fits:
        spend, weeks = foreseen.fits["gamma_gamma"].model, foreseen.horizon_weeks
        worth = forecast(foreseen.choice.model, spend, foreseen.choice.summary, horizon_weeks=weeks, level=LEVEL)
        spent = foreseen.came.spend
        told |= {
            "value_mae": mean(np.abs(worth.value - spent)),
            "value_rmse": _rmse(worth.value - spent),
            "value_bias": mean(worth.value - spent),
            f"value_coverage_at_{LEVEL * 100:.0f}": mean(((worth.low <= spent) & (spent <= worth.high)).astype(float)),
        }
    return told


def _rmse(error: np.ndarray, less: np.ndarray | None = None) -> Interval:
    """Root mean squared error; given a second one, how much less it is, paired."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1)
        first: np.ndarray = np.sqrt(weights @ error**2 / total)
        return first if less is None else first - np.sqrt(weights @ less**2 / total)

    return bootstrap(statistic, len(error))


def _print(
    name: str, foreseen: Foreseen, told: Mapping[str, Interval], published: Mapping[str, Mapping[str, float]]
) -> None:
    choice = foreseen.choice
    print(
        f"{name}: {len(choice.summary):,} customers, {foreseen.horizon_weeks:.1f} weeks ahead; the champion is "
        f"{choice.name}, {choice.weight:.0%} of its mean and the rest of its median, chosen in the first half"
    )
    for measure in ("mae", "rmse"):
        print(f"  {measure} less than {BEATEN}'s by {told[f'{measure}_gain_over_{BEATEN}']}, paired")
    print(f"  {'':28}{'mae':>28}{'rmse':>28}{'bias':>28}")
    for who in foreseen.forecasts:
        prefix = "" if who == CHAMPION else f"{who}_"
        print(f"  {who:28}" + "".join(f"{told[prefix + measure]!s:>28}" for measure in ("mae", "rmse", "bias")))
    for measure in (key for key in told if key.startswith("value_")):
        print(f"  {measure}: {told[measure]}")
    for who, found in foreseen.fits.items():
        parameters = ", ".join(
            f"{key} {value:.4g} +- {error:.2g}"
            + (f" ({published[who][key]:.4g} published of the sample)" if who in published else "")
            for (key, value), error in zip(vars(found.model).items(), found.standard_errors, strict=True)
        )
        state = "converged" if found.converged else found.message
        print(f"  {who}: {parameters}; {found.n_rows:,} rows, {foreseen.seconds[who]:.2f} s, {state}")
