"""How often 95 % intervals hold the truth, and how often something is found where nothing is: simulated experiments.

2,000 experiments of each kind (1,000 where the interval is a bootstrap), each with a truth that is known.

- `coverage_mean`: the difference of a yes or no, 4 % against 5 %, 5,000 people an arm;
- `coverage_money`: of money that 2 % have, lognormal with a standard deviation of 1 of the logarithm, 10,000 people an
  arm; beside it arms of 45,000 and 5,000, and of 18,000 and 2,000 with a standard deviation of 1.4;
- `coverage_ratio`: of money per order, orders per person being unequal and larger baskets going with more orders;
- `coverage_cuped`: of amounts that last month's foresee;
- `coverage_policy`: the doubly robust value of a policy over three arms, by a model that is wrong;
- `coverage_qini`: the Qini coefficient of a ranking;
- `coverage_always_valid`: at all of 20 looks at once, on money;
- `false_verdicts`: no effect, money; a verdict to act or not to, read once;
- `false_verdicts_peeking`: the same, read 20 times as people come, the first verdict kept;
- `false_verdicts_segments`: no effect, 50 groups of people, anything found in any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.result import Result
from data.errors import DataError
from data.progress import track
from evaluation.experiments import (
    always_valid,
    decide,
    difference_adjusted,
    difference_of_means,
    difference_of_ratios,
    segment_effects,
)
from evaluation.intervals import Interval, wilson
from evaluation.off_policy import Logged, doubly_robust
from evaluation.uplift import contrast, qini

EXPERIMENTS, BOOTSTRAPPED = 2_000, 1_000
LOOKS = 20
GROUPS = 50
BUYERS = 0.02
TRUE_QINI_PEOPLE = 2_000_000

Draw = Callable[[np.random.Generator], bool]
"""One experiment: whether it went as it is counted."""


def run(*, data: Path | None, size: str | None = None) -> Result:
    """Simulate; `size` is how many experiments of each kind, by default 2,000.

    Raises:
        DataError: a folder of data, or a size that is no number: only of made experiments the truth is known.
    """
    if data is not None or (size is not None and not size.isdigit()):
        raise DataError("coverage makes its own data: leave --data out; --size is a number of experiments.")
    experiments = int(size or EXPERIMENTS)
    metrics: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    print(f"{experiments:,} experiments of each kind; how often, and how sure that is")
    for number, (name, draw) in enumerate(DRAWS.items()):
        times = min(experiments, BOOTSTRAPPED) if name == "coverage_qini" else experiments
        rng = np.random.default_rng([number, 5])
        counted = sum(draw(rng) for _ in track(range(times), name))
        intervals[name] = wilson(counted, times)
        metrics[name] = counted / times
        print(f"{name:<36}{intervals[name]}   held to {_limit(name)}")
    return Result(metrics=metrics, intervals=intervals, peers={"limits": {name: _limit(name) for name in metrics}})


def _limit(name: str) -> str:
    if name.startswith("false"):
        return "at most .06"
    return "at least .93" if name == "coverage_always_valid" else ".93 to .97"


def _money(rng: np.random.Generator, n: int, *, buyers: float = BUYERS, spread: float = 1.0) -> np.ndarray:
    """What n people spend: nothing, or exp(3 + spread z)."""
    y = np.zeros(n)
    bought = rng.choice(n, rng.binomial(n, buyers), replace=False)
    y[bought] = np.exp(3 + spread * rng.standard_normal(len(bought)))
    return y


def _mean_money(buyers: float, spread: float = 1.0) -> float:
    return float(buyers * np.exp(3 + spread**2 / 2))


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def _mean(rng: np.random.Generator) -> bool:
    treated, control = ((rng.random(5_000) < p).astype(float) for p in (0.05, 0.04))
    return _holds(difference_of_means(treated, control).interval, 0.01)


def _unequal_money(treated: int, control: int, spread: float) -> Draw:
    def draw(rng: np.random.Generator) -> bool:
        y = _money(rng, treated, buyers=1.2 * BUYERS, spread=spread)
        found = difference_of_means(y, _money(rng, control, spread=spread))
        return _holds(found.interval, _mean_money(0.2 * BUYERS, spread))

    return draw


def _ratio(rng: np.random.Generator) -> bool:
    """A person has Poisson(l) orders, l ~ gamma(2, 1/2), each of mean price 20 (1 + l): 20 (1 + E l^2 / E l) = 50."""

    def arm(price: float) -> tuple[np.ndarray, np.ndarray]:
        rate = rng.gamma(2, 0.5, 3_000)
        orders = rng.poisson(rate)
        return price * (1 + rate) * rng.gamma(np.maximum(orders, 1) * 2.0, 0.5) * (orders > 0), orders

    treated, control = arm(22), arm(20)
    return _holds(difference_of_ratios(*treated, *control).interval, 2 * 2.5)


def _cuped(rng: np.random.Generator) -> bool:
    before = rng.gamma(1, 30, (2, 2_000))
    after = 0.8 * before + rng.gamma(1, 10, (2, 2_000)) + np.array([[1.0], [0.0]])
    before[rng.random(before.shape) < 0.1] = np.nan  # came after last month
    return _holds(difference_adjusted(*after, *before).interval, 1.0)


def _policy(rng: np.random.Generator) -> bool:
    """Three arms, chances .5, .3, .2; arm k brings k x + noise, x uniform on [-1, 1]: best arm by sign earns E max."""
    n, shares = 3_000, np.array([0.5, 0.3, 0.2])
    x = rng.uniform(-1, 1, n)
    arm = rng.choice(3, n, p=shares)
    reward = arm * x + rng.gamma(1, 1, n)
    policy = np.eye(3)[np.where(x > 0, 2, 0)]
    predicted = 1 + 0.5 * np.arange(3) * x[:, None] + 0.3  # half the slope, and too high
    found = doubly_robust(Logged(arm, reward, shares[arm]), policy, predicted)
    return _holds(found.value, 1.5)


def _ranked(rng: np.random.Generator, n: int) -> tuple[Logged, np.ndarray]:
    """An e-mail that brings 5 to 15 % of people more, and a score that knows half of it."""
    x, noise = rng.random((2, n))
    arm = rng.integers(2, size=n)
    visit = rng.random(n) < 0.1 + arm * (0.05 + 0.1 * x)
    return Logged(arm, visit.astype(float), np.full(n, 0.5)), x + noise


def _qini_of(logged: Logged, score: np.ndarray, resamples: int) -> Interval:
    people = contrast(logged, np.full((len(logged), 2), 0.5))
    return qini(people, score, resamples=resamples).value


def _qini() -> Draw:
    truth: list[float] = []

    def draw(rng: np.random.Generator) -> bool:
        if not truth:
            logged, score = _ranked(np.random.default_rng(1), TRUE_QINI_PEOPLE)
            truth.append(_qini_of(logged, score, 2).estimate)
        return _holds(_qini_of(*_ranked(rng, 10_000), 400), truth[0])

    return draw


def _always_valid(rng: np.random.Generator) -> bool:
    truth = _mean_money(0.2 * BUYERS)
    treated, control = _money(rng, 10_000, buyers=1.2 * BUYERS), _money(rng, 10_000)
    return all(_holds(interval, truth) for interval in _looks(treated, control))


def _looks(treated: np.ndarray, control: np.ndarray) -> Iterator[Interval]:
    """Always-valid intervals at 20 looks as people come."""
    for look in range(1, LOOKS + 1):
        here = look * len(treated) // LOOKS
        found = difference_of_means(treated[:here], control[:here])
        yield always_valid(found, planned_people=2 * len(treated)).interval


def _false_verdict(rng: np.random.Generator) -> bool:
    found = difference_of_means(_money(rng, 10_000), _money(rng, 10_000))
    return decide(found.interval, people=20_000, enough=found.enough).decided


def _false_when_peeking(rng: np.random.Generator) -> bool:
    looks = _looks(_money(rng, 10_000), _money(rng, 10_000))
    return any(decide(interval, people=20_000).decided for interval in looks)


def _false_in_segments(rng: np.random.Generator) -> bool:
    n = 25_000
    groups = [pd.DataFrame({"group": rng.integers(GROUPS, size=n)}) for _ in range(2)]
    outcomes = [(rng.random(n) < 0.05).astype(float) for _ in range(2)]
    return any(effect.found for effect in segment_effects(*outcomes, *groups).effects)


DRAWS: dict[str, Draw] = {
    "coverage_mean": _mean,
    "coverage_money": _unequal_money(10_000, 10_000, 1.0),
    "coverage_money_of_10_percent": _unequal_money(45_000, 5_000, 1.0),
    "coverage_money_heavy": _unequal_money(18_000, 2_000, 1.4),
    "coverage_ratio": _ratio,
    "coverage_cuped": _cuped,
    "coverage_policy": _policy,
    "coverage_qini": _qini(),
    "coverage_always_valid": _always_valid,
    "false_verdicts": _false_verdict,
    "false_verdicts_peeking": _false_when_peeking,
    "false_verdicts_segments": _false_in_segments,
}
