"""Which forecast of purchases is best for a shop: tried on its own past, before the cutoff, and then made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from data.errors import DataError
from models.lifetime.beta_geometric import BgNbd, MbgNbd
from models.lifetime.forecasts import Frequency
from models.lifetime.likelihood import Fit, fit
from models.lifetime.pareto_nbd import ParetoNbd, ParetoNbdFirst
from models.lifetime.summary import DAYS_PER_WEEK, MONEY, Summary, by_day, outcome, summarise
from models.value import LEAST, Value

PLAIN: tuple[type[Frequency], ...] = (BgNbd, MbgNbd, ParetoNbd)
CORRECTED = "corrected_"
TRIED_AT = 1 / 2
"""Of the history: the candidates are tried on the second half of it, the longest horizon that leaves as much before."""
TAUGHT_AT = (1 / 2, 2 / 3)
"""Of the history: the cutoffs from which the trees learn."""
SOFTER = np.linspace(0.95, 0.5, 10)
"""Shares of the mean that are tried beside the median, from the mean downwards."""
SQUARED_COST = 1.005
"""What a smaller absolute error may cost: by so much the mean squared error may grow."""
N_DRAWS = 200
RECENT_DAYS = (28, 56)
SHORTEST_DAYS = 56


@dataclass(frozen=True)
class Tried:
    """How a candidate did on the shop's own past.

    Attributes:
        mae: Mean absolute error, in purchases.
        rmse: Root mean squared error.
    """

    mae: float
    rmse: float


@dataclass(frozen=True, eq=False)
class Choice:
    """The chosen forecast, beside those that were not.

    Attributes:
        name: Of the chosen candidate.
        weight: Of its mean in `purchases`; the rest is its median.
        purchases: The chosen forecast, shape (n,): near to most customers, so its sum falls short of what the shop
            will sell. Where sums matter take `forecasts[name]`.
        forecasts: Expected purchases (means) by every candidate, shape (n,) each.
        fits: Of the probabilistic models.
        summary: Whom they are of.
        tried: How the candidates did before the cutoff, which is what they were chosen by.
    """

    name: str
    weight: float
    purchases: np.ndarray
    forecasts: Mapping[str, np.ndarray]
    fits: Mapping[str, Fit[Frequency]]
    summary: Summary
    tried: Mapping[str, Tried]

    @property
    def model(self) -> Frequency:
        """The fitted model beneath the chosen candidate."""
        return self.fits[self.name.removeprefix(CORRECTED)].model


def choose(purchases: pd.DataFrame, *, until: date, horizon_weeks: float, seed: int = 0) -> Choice:
    """Forecast purchases after a cutoff by the model that explains those before it best, where it helps corrected.

    - Of BG/NBD, MBG/NBD, Pareto/NBD and, where there is money, Pareto/NBD that knows the first purchase, the one with
      the smallest AIC (Akaike 1974) is chosen: every customer's whole history speaks, and none of what came after.
    - Trees that learnt on earlier cutoffs correct it (`models.value`) if they lessen the squared error of a forecast
      made at half of the history for the other half.
    - A mean makes the squared error small, a median the absolute one. The forecast moves from the mean towards the
      median until its squared error there has grown by half a percent.

    Args:
        purchases: As `summarise` takes them. What lies at or after `until` is not looked at.
        until: The cutoff.
        horizon_weeks: From there.
        seed: Of the trees.

    Raises:
        DataError: purchases that cannot be used, too few of them, or under eight weeks.
    """
    daily = by_day(purchases)
    daily = daily[daily["date"] < pd.Timestamp(until)]
    start = daily["date"].min().date() if len(daily) else until
    if (until - start).days < SHORTEST_DAYS:
        raise DataError(
            f"purchases before {until} span {(until - start).days} days; at least {SHORTEST_DAYS} are needed to choose "
            "a forecast on. Bring a longer history, or choose a later cutoff."
        )
    if MONEY not in purchases:
        daily = daily.drop(columns=MONEY)
    half = _share(start, until, TRIED_AT)
    horizon = _weeks(half, until)
    known, forecasts = _forecasts(daily, start, half, horizon, seed)
    came = outcome(daily, known.summary.customers, start=half, until=until).purchases
    tried = {name: _error(mean, came) for name, mean in forecasts.items()}
    then = _forecasts(daily, start, until, horizon_weeks, seed)
    plain = min(then[0].fits, key=lambda one: then[0].fits[one].aic)
    name = min(plain, CORRECTED + plain, key=lambda one: tried[one].rmse)
    median = _median(known, plain, horizon, seed) * forecasts[name] / np.maximum(forecasts[plain], LEAST)
    weight = 1.0
    for softer in SOFTER:
        if _error(softer * forecasts[name] + (1 - softer) * median, came).rmse > SQUARED_COST**0.5 * tried[name].rmse:
            break
        weight = float(softer)
    known, forecasts = then
    median = _median(known, plain, horizon_weeks, seed) * forecasts[name] / np.maximum(forecasts[plain], LEAST)
    purchased = weight * forecasts[name] + (1 - weight) * median
    return Choice(name, weight, purchased, forecasts, known.fits, known.summary, tried)


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known at a cutoff, whatever the horizon."""

    summary: Summary
    fits: Mapping[str, Fit[Frequency]]
    features: pd.DataFrame

    @classmethod
    def at(cls, daily: pd.DataFrame, cutoff: date) -> _Known:
        summary = summarise(daily, until=cutoff)
        kinds = (*PLAIN, ParetoNbdFirst) if MONEY in daily else PLAIN
        fits: dict[str, Fit[Frequency]] = {kind.name: fit(kind, summary) for kind in kinds}
        return cls(summary, fits, _features(daily, cutoff, summary, fits))


def _forecasts(
    daily: pd.DataFrame, start: date, cutoff: date, horizon_weeks: float, seed: int
) -> tuple[_Known, dict[str, np.ndarray]]:
    """Every candidate's forecast from a cutoff, by models and trees that learnt on what lies before it."""
    known = _Known.at(daily, cutoff)
    earlier = [_share(start, cutoff, share) for share in TAUGHT_AT]
    taught = [_Known.at(daily, at) for at in earlier]
    features = pd.concat([rows.features for rows in taught], ignore_index=True)
    came = [
        outcome(daily, rows.summary.customers, start=at, until=cutoff).purchases
        for rows, at in zip(taught, earlier, strict=True)
    ]
    forecasts = {}
    for name, found in known.fits.items():
        expected = [
            rows.fits[name].model.purchases(rows.summary, _weeks(at, cutoff))
            for rows, at in zip(taught, earlier, strict=True)
        ]
        trees = Value(kind="purchases").fit(features, np.concatenate(came), np.concatenate(expected), seed=seed)
        forecasts[name] = found.model.purchases(known.summary, horizon_weeks)
        forecasts[CORRECTED + name] = trees.predict(known.features, forecasts[name])
    return known, forecasts


def _median(known: _Known, name: str, horizon_weeks: float, seed: int) -> np.ndarray:
    """Of what a model holds possible of each customer."""
    model, rng = known.fits[name].model, np.random.default_rng(seed)
    median: np.ndarray = np.median(model.draws(known.summary, horizon_weeks, rng, n_draws=N_DRAWS), axis=0)
    return median


def _error(forecast: np.ndarray, came: np.ndarray) -> Tried:
    off = forecast - came
    return Tried(float(np.abs(off).mean()), float(np.sqrt((off**2).mean())))


def _features(daily: pd.DataFrame, cutoff: date, summary: Summary, fits: Mapping[str, Fit[Frequency]]) -> pd.DataFrame:
    """What may tell more than frequency and recency: amounts, the latest weeks, and where the models disagree."""
    past = daily[daily["date"] < pd.Timestamp(cutoff)]
    columns = {
        "frequency": summary.frequency,
        "recency_share": summary.recency_weeks / np.maximum(summary.age_weeks, 1),
        "weeks_since_purchase": summary.age_weeks - summary.recency_weeks,
        "age_weeks": summary.age_weeks,
    }
    for name, found in fits.items():
        columns[f"{name}_a_week"] = found.model.purchases(summary, 1.0)
        columns[f"{name}_alive"] = found.model.alive(summary)
    for days in RECENT_DAYS:
        recent = past[past["date"] >= pd.Timestamp(cutoff - timedelta(days=days))].groupby("customer").size()
        columns[f"purchases_{days}d"] = recent.reindex(summary.customers, fill_value=0).to_numpy()
    if MONEY in past:
        amounts = past.groupby("customer")[MONEY]
        columns |= {
            "first_spend": summary.first_spend,
            "last_spend": amounts.last().to_numpy(),
            "spend_a_purchase": amounts.mean().to_numpy(),
        }
    return pd.DataFrame(columns)


def _share(start: date, until: date, share: float) -> date:
    return start + timedelta(days=round((until - start).days * share))


def _weeks(start: date, until: date) -> float:
    return (until - start).days / DAYS_PER_WEEK
