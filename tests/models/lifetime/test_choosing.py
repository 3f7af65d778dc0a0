"""The choice of a forecast looks at nothing after the cutoff, and is worth making."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from models.lifetime import ParetoNbd, ParetoNbdFirst, choose, fit, outcome, summarise

UNTIL, END = date(2026, 7, 1), date(2027, 1, 1)


@pytest.fixture(scope="module")
def purchases() -> pd.DataFrame:
    """900 customers who buy the more often the more their first purchase cost, and leave at some moment."""
    rng, lines = np.random.default_rng(0), []
    for customer in range(900):
        usual = rng.lognormal(3, 0.7)
        rate = rng.gamma(0.8, 0.004 * usual**0.5)
        day, leaves = rng.uniform(0, 60), rng.exponential(250)
        first = day
        while day < 365 and day - first <= leaves:
            lines.append((customer, day, usual))
            day += rng.exponential(1 / rate)
    frame = pd.DataFrame(lines, columns=["customer", "day", "amount"])
    return frame.assign(date=pd.Timestamp("2026-01-01") + pd.to_timedelta(frame.pop("day"), unit="D"))


@pytest.fixture(scope="module")
def chosen(purchases):
    return choose(purchases, until=UNTIL, horizon_weeks=26)


def test_who_begins_big_is_known_to_buy_more_often(purchases, chosen):
    fitted = fit(ParetoNbdFirst, summarise(purchases, until=UNTIL))
    assert fitted.converged
    assert fitted.model.faster > 1 + 2 * fitted.standard_errors[4]
    assert chosen.name.endswith("pareto_nbd_first")
    assert chosen.model == fitted.model


def test_the_choice_is_nearer_to_most_customers_than_pareto_nbd_for_hardly_more_squared_error(purchases, chosen):
    came = outcome(purchases, chosen.summary.customers, start=UNTIL, until=END).purchases
    off, plain = chosen.purchases - came, chosen.forecasts["pareto_nbd"] - came
    assert np.abs(off).mean() < np.abs(plain).mean()
    assert (off**2).mean() < 1.06 * (plain**2).mean()  # 1.03 or 1.05, as the processor rounds


def test_what_comes_after_the_cutoff_changes_nothing(purchases, chosen):
    after = purchases["date"] >= pd.Timestamp(UNTIL)
    other = choose(purchases[~after], until=UNTIL, horizon_weeks=26)
    assert other.name == chosen.name
    assert other.weight == chosen.weight
    assert (other.purchases == chosen.purchases).all()


def test_without_money_there_are_fewer_candidates(purchases):
    chosen = choose(purchases.drop(columns="amount"), until=UNTIL, horizon_weeks=26)
    assert "pareto_nbd_first" not in chosen.forecasts
    assert np.isfinite(chosen.purchases).all()


def test_a_short_history_is_refused(purchases):
    with pytest.raises(DataError, match="span 30 days; at least 56"):
        choose(purchases, until=date(2026, 1, 31), horizon_weeks=4)


def test_without_a_difference_it_is_pareto_nbd(purchases):
    told = summarise(purchases, until=UNTIL)
    plain = ParetoNbd(r=0.6, alpha=11.0, s=0.6, beta=12.0)
    same = ParetoNbdFirst(r=0.6, alpha=11.0, s=0.6, beta=12.0, faster=1.0, leaving=1.0)
    assert same.purchases(told, 26) == pytest.approx(plain.purchases(told, 26))
    assert same.alive(told) == pytest.approx(plain.alive(told))


def test_the_slopes_of_the_first_purchase_are_those_of_the_log_likelihood():
    data = np.array([[0, 0, 39, 2.0], [3, 20, 39, 3.5], [40, 38, 39, 0.0]])
    at = np.array([0.6, 30.0, 0.6, 12.0, 1.4, 0.8])
    _, slopes = ParetoNbdFirst.log_likelihood(at, data)
    for which, value in enumerate(at):
        step = np.eye(6)[which] * 1e-5 * value
        up, down = (ParetoNbdFirst.log_likelihood(at + sign * step, data)[0] for sign in (1, -1))
        assert slopes[which] == pytest.approx((up - down) / (2e-5 * value), rel=2e-4, abs=1e-7)
