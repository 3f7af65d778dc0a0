"""Gamma-Gamma against the note that it comes from, and intervals against customers whose future is known."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from models.lifetime import GammaGamma, MbgNbd, ParetoNbd, Summary, fit, forecast, summarise

SPEND = GammaGamma(p=6.25, q=3.74, gamma=15.44)


def shop(model, n: int, *, weeks: float, horizon: float) -> tuple[Summary, np.ndarray, np.ndarray]:
    """Customers of known rates: what was seen of them, and how often and for how much they buy in the horizon."""
    rng = np.random.default_rng(3)
    nu = rng.gamma(SPEND.q, 1 / SPEND.gamma, n)
    told, later = [], []
    for scale in nu:
        rate = rng.gamma(model.r, 1 / model.alpha)
        stays = rng.exponential(1 / rng.gamma(model.s, 1 / model.beta))
        times = np.sort(rng.uniform(0, weeks + horizon, rng.poisson(rate * (weeks + horizon))))
        times = times[times < stays]
        spent = rng.gamma(SPEND.p, 1 / scale, len(times))
        seen = times <= weeks
        told.append((seen.sum(), times[seen].max(initial=0), spent[seen].mean() if seen.any() else np.nan))
        later.append(((~seen).sum(), spent[~seen].sum()))
    x, t_x, mean = np.array(told).T
    return Summary(np.arange(n), x, t_x, np.full(n, weeks), mean, mean), *np.array(later).T


def test_the_published_parameters_of_cdnow(shared_data):
    purchases = pd.read_parquet(shared_data / "cdnow" / "sample_purchases.parquet")
    fitted = fit(GammaGamma, summarise(purchases, until=date(1997, 10, 1)))
    assert fitted.converged
    assert fitted.n_customers == 946
    assert list(vars(fitted.model).values()) == pytest.approx([6.25, 3.74, 15.44], abs=0.006)


def test_the_slopes_are_those_of_the_log_likelihood():
    data, at = np.array([[1, 0.5], [3, 40.0], [500, 1e5]]), np.array([6.25, 3.74, 15.44])
    _, slopes = GammaGamma.log_likelihood(at, data)
    for which in range(3):
        step = np.eye(3)[which] * 1e-5
        up, down = (GammaGamma.log_likelihood(at + sign * step, data)[0] for sign in (1, -1))
        assert slopes[which] == pytest.approx((up - down) / 2e-5, rel=1e-4)


def test_a_customers_mean_lies_between_their_own_and_the_shops():
    told = Summary(
        np.arange(3), np.array([0.0, 1, 50]), np.zeros(3), np.zeros(3), np.array([np.nan, 100, 100]), np.zeros(3)
    )
    stranger, once, often = SPEND.mean_spend(told)
    assert stranger == pytest.approx(6.25 * 15.44 / 2.74)
    assert stranger < once < often < 100


def test_the_interval_holds_what_customers_then_spend():
    model = ParetoNbd(r=0.9, alpha=4.0, s=0.6, beta=20.0)
    told, bought, spent = shop(model, 2_500, weeks=52.0, horizon=26.0)
    frequency, spend = fit(ParetoNbd, told).model, fit(GammaGamma, told).model
    for level in (0.5, 0.8, 0.95):
        found = forecast(frequency, spend, told, horizon_weeks=26, level=level)
        inside = (found.low <= spent) & (spent <= found.high)
        certain = found.low > 0  # where nothing is not among what may be, the interval is not held by zeros
        assert inside.mean() >= level - 0.02
        assert inside[certain].mean() == pytest.approx(level, abs=0.04)
    assert found.purchases.mean() == pytest.approx(bought.mean(), rel=0.05)
    assert found.value.mean() == pytest.approx(spent.mean(), rel=0.07)


def test_the_same_seed_gives_the_same_interval():
    told = Summary(
        np.arange(2), np.array([0.0, 9]), np.array([0.0, 30]), np.full(2, 39.0), np.array([np.nan, 20]), np.zeros(2)
    )
    model = MbgNbd(r=0.525, alpha=6.183, a=0.891, b=1.614)
    first, again = (forecast(model, SPEND, told, horizon_weeks=39, n_draws=50) for _ in range(2))
    assert (first.high == again.high).all()
    assert (first.low <= first.high).all()


def test_spend_without_a_mean_is_refused():
    told = Summary(np.arange(1), np.zeros(1), np.zeros(1), np.ones(1), np.array([np.nan]), np.zeros(1))
    model = MbgNbd(r=0.525, alpha=6.183, a=0.891, b=1.614)
    with pytest.raises(DataError, match="wholesale"):
        forecast(model, GammaGamma(p=6.0, q=0.9, gamma=15.0), told, horizon_weeks=39)
    with pytest.raises(DataError, match="horizon above 0"):
        forecast(model, SPEND, told, horizon_weeks=0)


def test_money_that_nobody_spent_twice_is_refused():
    once = Summary(np.arange(3), np.zeros(3), np.zeros(3), np.ones(3), np.full(3, np.nan), np.ones(3))
    with pytest.raises(DataError, match="none of 3 customers bought again"):
        fit(GammaGamma, once)
    for_nothing = Summary(np.arange(3), np.ones(3), np.ones(3), np.ones(3), np.zeros(3), np.zeros(3))
    with pytest.raises(DataError, match="of whom 0 can tell something"):
        fit(GammaGamma, for_nothing)
