"""BG/NBD, MBG/NBD and Pareto/NBD: published parameters, second ways to the same numbers, and customers at the edge."""

from __future__ import annotations

from datetime import date

import mpmath
import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from models.lifetime import BgNbd, MbgNbd, ParetoNbd, Summary, fit, outcome, summarise

FITTED = {
    "bg_nbd": BgNbd(r=0.243, alpha=4.414, a=0.793, b=2.426),
    "mbg_nbd": MbgNbd(r=0.525, alpha=6.183, a=0.891, b=1.614),
    "pareto_nbd": ParetoNbd(r=0.553, alpha=10.58, s=0.606, beta=11.67),
}
EVERY = pytest.mark.parametrize("model", FITTED.values(), ids=FITTED)
START, CUTOFF, END = date(1997, 1, 1), date(1997, 10, 1), date(1998, 7, 1)


def customers(x, t_x, age) -> Summary:
    x, t_x, age = (np.atleast_1d(np.asarray(column, dtype=float)) for column in (x, t_x, age))
    return Summary(np.arange(len(x)), x, t_x, age, np.full(len(x), np.nan), 20.0 + 10 * (np.arange(len(x)) % 7))


def simulated(model, n: int, *, weeks: float, horizon: float, seed: int = 0) -> tuple[Summary, np.ndarray]:
    """Customers from the model's own story, purchase by purchase, and how often they buy in the horizon."""
    rng = np.random.default_rng(seed)
    told, later = [], []
    for _ in range(n):
        rate = rng.gamma(model.r, 1 / model.alpha)
        if isinstance(model, ParetoNbd):
            leaves_at, chance = rng.exponential(1 / rng.gamma(model.s, 1 / model.beta)), 0.0
        else:
            leaves_at, chance = np.inf, rng.beta(model.a, model.b)
        times, now = [], 0.0
        active = not (isinstance(model, MbgNbd) and rng.random() < chance)
        while active and now < weeks + horizon:
            now += rng.exponential(1 / rate)
            active = now < leaves_at
            if active:
                times.append(now)
                active = rng.random() >= chance
        seen = [at for at in times if at <= weeks]
        told.append((len(seen), seen[-1] if seen else 0.0, weeks))
        later.append(sum(weeks < at <= weeks + horizon for at in times))
    return customers(*zip(*told, strict=True)), np.array(later, dtype=float)


@pytest.fixture(scope="module")
def cdnow(shared_data):
    purchases = pd.read_parquet(shared_data / "cdnow" / "sample_purchases.parquet")
    told = summarise(purchases, until=CUTOFF)
    return told, outcome(purchases, told.customers, start=CUTOFF, until=END)


@pytest.mark.parametrize(
    ("kind", "published", "log_likelihood", "errors"),
    [
        (BgNbd, (0.243, 4.414, 0.793, 2.426), -9582.4, (0.7855, 1.608)),
        (MbgNbd, (0.525, 6.183, 0.891, 1.614), -9582.1, (0.7648, 1.607)),
        (ParetoNbd, (0.553, 10.58, 0.606, 11.67), -9595.0, (0.7545, 1.603)),
    ],
)
def test_the_published_figures_of_cdnow(cdnow, kind, published, log_likelihood, errors):
    summary, later = cdnow
    fitted = fit(kind, summary)
    assert fitted.converged, fitted.message
    assert list(vars(fitted.model).values()) == pytest.approx(published, rel=1.7e-3)  # published to three digits
    assert fitted.log_likelihood == pytest.approx(log_likelihood, abs=0.06)
    assert fitted.n_customers == 2357
    error = fitted.model.purchases(summary, 39) - later.purchases
    assert np.abs(error).mean() == pytest.approx(errors[0], abs=6e-5)
    assert np.sqrt((error**2).mean()) == pytest.approx(errors[1], abs=6e-4)


@EVERY
def test_the_slopes_are_those_of_the_log_likelihood(model):
    data = model.data(customers([0, 0, 1, 4, 40, 300], [0, 0, 5, 30, 38, 100], [0, 39, 10, 39, 38.5, 900]))
    at = np.array(list(vars(model).values()))
    _, slopes = model.log_likelihood(at, data)
    for which, value in enumerate(at):
        step = np.zeros_like(at)
        step[which] = 1e-5 * value
        up, down = (model.log_likelihood(at + sign * step, data)[0] for sign in (1, -1))
        assert slopes[which] == pytest.approx((up - down) / (2e-5 * value), rel=2e-4, abs=1e-7)


@pytest.mark.parametrize(("alpha", "beta"), [(10.58, 11.67), (11.67, 10.58), (0.05, 40.0), (200.0, 0.1)])
@pytest.mark.parametrize(
    ("x", "t_x", "age"), [(0, 0, 39), (2, 30.4, 38.9), (29, 38, 39), (500, 37.9, 39), (40, 1, 500)]
)
def test_pareto_nbd_is_that_of_fader_and_hardies_2f1(alpha, beta, x, t_x, age):
    r, s = 0.553, 0.606
    model = ParetoNbd(r=r, alpha=alpha, s=s, beta=beta)
    mpmath.mp.dps = 40
    larger, second = max(alpha, beta), s + 1 if alpha >= beta else r + x

    def part(t: float) -> mpmath.mpf:
        z = mpmath.mpf(abs(alpha - beta)) / (larger + t)
        return mpmath.hyp2f1(r + s + x, second, r + s + x + 1, z) / mpmath.mpf(larger + t) ** (r + s + x)

    stayed = mpmath.mpf(alpha + age) ** -(r + x) * mpmath.mpf(beta + age) ** -s
    total = stayed + s / (r + s + x) * (part(t_x) - part(age))
    expected = mpmath.loggamma(r + x) - mpmath.loggamma(r) + r * mpmath.log(alpha) + s * mpmath.log(beta)
    found, _ = model.log_likelihood(np.array([r, alpha, s, beta]), np.array([[x, t_x, age]], dtype=float))
    assert found[0] == pytest.approx(float(expected + mpmath.log(total)), rel=1e-9)
    assert model.alive(customers(x, t_x, age))[0] == pytest.approx(float(stayed / total), rel=1e-7, abs=1e-12)


@EVERY
def test_the_expectation_is_the_mean_of_the_draws(model):
    told = customers([0, 0, 2, 8, 60], [0, 0, 30, 20, 38], [5, 39, 39, 39, 39])
    drawn = model.draws(told, 39, np.random.default_rng(0), n_draws=200_000)
    off = drawn.mean(axis=0) - model.purchases(told, 39)
    assert (np.abs(off) < 4.5 * drawn.std(axis=0) / np.sqrt(len(drawn)) + 1e-9).all()


@EVERY
def test_simulated_customers_are_foreseen_and_their_parameters_found(model):
    told, later = simulated(model, 6_000, weeks=52.0, horizon=26.0)
    fitted = fit(type(model), told)
    assert fitted.converged
    truth, found, errors = vars(model).values(), vars(fitted.model).values(), fitted.standard_errors
    assert all(abs(t - f) < 3.5 * e for t, f, e in zip(truth, found, errors, strict=True))
    assert model.purchases(told, 26).mean() == pytest.approx(later.mean(), abs=3.5 * later.std() / np.sqrt(len(later)))


@EVERY
def test_customers_at_the_edge_have_numbers(model):
    told = customers([0, 0, 5, 2_000, 10_000], [0, 0, 0, 39, 0.1], [0, 1e4, 0, 39, 1e4])
    with np.errstate(all="raise", under="ignore"):
        alive, expected = model.alive(told), model.purchases(told, 39)
    assert np.isfinite(expected).all()
    assert (expected >= 0).all()
    assert ((alive >= 0) & (alive <= 1)).all()
    assert alive[0] == pytest.approx(1 if not isinstance(model, MbgNbd) else model.b / (model.a + model.b))
    assert expected[4] < 1e-3  # bought 10,000 times in a day, and then not for 200 years


@pytest.mark.parametrize("kind", [BgNbd, MbgNbd])
def test_the_gap_of_the_expectation_at_one_is_none(kind):
    told = customers([0, 3], [0, 20], [39, 39])
    at, below, above = (kind(r=0.5, alpha=6.0, a=a, b=2.0).purchases(told, 39) for a in (1.0, 0.999, 1.001))
    assert at == pytest.approx((below + above) / 2, rel=1e-5)


@pytest.mark.parametrize("kind", [BgNbd, MbgNbd])
def test_customers_who_leave_alike_are_foreseen_as_with_one_chance_for_all(kind):
    told, (r, alpha, chance, horizon) = customers([0, 3, 40], [0, 20, 38], [39, 39, 39]), (0.5, 6.0, 0.2, 39)
    alike = kind(r=r, alpha=alpha, a=1e5 * chance, b=1e5 * (1 - chance))
    bought = 1 - (1 + chance * horizon / (alpha + 39)) ** -(r + np.array([0, 3, 40]))
    assert alike.purchases(told, horizon) == pytest.approx(bought / chance * alike.alive(told), rel=1e-3)


@pytest.mark.parametrize("kind", [BgNbd, MbgNbd])
@pytest.mark.parametrize("parameters", [(38_405.0, 155_143.0, 3.7e-5, 1.4e-5), (13_957.0, 162_754.0, 0.0423, 2_122.0)])
def test_customers_who_buy_alike_are_foreseen_as_they_are_drawn(kind, parameters):
    model, told = kind(*parameters), customers([0, 1, 3, 20], [0, 10, 29, 39], [5, 20, 30, 40])
    drawn = model.draws(told, 5.0, np.random.default_rng(0), n_draws=20_000).mean(axis=0)
    assert model.purchases(told, 5.0) == pytest.approx(drawn, abs=0.03)


def test_more_weeks_bring_more_purchases_and_none_none():
    told = customers([0, 3, 12], [0, 20, 38], [39, 39, 39])
    for model in FITTED.values():
        assert model.purchases(told, 0) == pytest.approx(0)
        assert (np.diff([model.purchases(told, weeks) for weeks in (1, 13, 39, 400)], axis=0) > 0).all()


@pytest.mark.parametrize("kind", [type(model) for model in FITTED.values()], ids=FITTED)
def test_customers_who_all_bought_once_are_refused(kind):
    with pytest.raises(DataError, match="none of 50 customers bought again"):
        fit(kind, customers(np.zeros(50), np.zeros(50), np.arange(50)))


def test_a_parameter_that_the_data_do_not_tell_is_named():
    nobody_leaves = customers([10] * 20 + [11], [38.9] * 21, [39] * 21)
    fitted = fit(ParetoNbd, nobody_leaves)
    assert not fitted.converged
    assert "ran to the bound" in fitted.message


@pytest.mark.parametrize("kind", [type(model) for model in FITTED.values()], ids=FITTED)
def test_customers_who_are_all_one_row_are_refused(kind):
    with pytest.raises(DataError, match="at least 2 are needed"):
        fit(kind, customers(np.ones(5), np.ones(5), np.full(5, 39.0)))


@pytest.mark.parametrize("kind", [type(model) for model in FITTED.values()], ids=FITTED)
def test_rows_are_counted_not_repeated(kind):
    told, _ = simulated(FITTED[kind.name], 300, weeks=40.0, horizon=1.0)
    once, twice = fit(kind, told), fit(kind, told.take(np.tile(np.arange(300), 2)))
    assert twice.n_rows == once.n_rows
    assert twice.log_likelihood == pytest.approx(2 * once.log_likelihood)
    assert list(vars(twice.model).values()) == pytest.approx(list(vars(once.model).values()), rel=1e-3)
