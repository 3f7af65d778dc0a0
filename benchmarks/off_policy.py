"""What a policy would have earned, from another's log: where the truth is known, by how much each estimate misses.

`python -m benchmarks off-policy [--data ../shared/data/open_bandit_men] [--trials SEEDS]`.

**Digits.** scikit-learn's 1,797 digits as a logged bandit (Dudik, Langford, Li 2011, section 5.1): an action is a
label, the reward 1 where it is right. For each of 100 seeds half of the digits, drawn at random, teach two classifiers
and the other half is logged and judged: the behaviour policy takes logistic regression's label with .9 and a uniform
one with .1, the evaluated policy a random forest's (100 trees) with .8 and a uniform one with .2. The truth is the
evaluated policy's expected reward on the judged half. The reward model is Attune's own, cross-fitted on the log.
Relative error is |estimate - truth| / truth, averaged over the seeds; refusals are counted and their estimates still
taken.

**Open Bandit.** Each of two logs of one shop at one time, of a random and of a Thompson policy, judges the other
policy; the truth is the other log's own click rate. Of the Thompson policy, whose chances move from hour to hour, its
share of choices at each position stands for it; its clicks are never looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from benchmarks.result import Result
from data.files import read_rows
from data.progress import track
from evaluation.intervals import Interval, normal_mean
from evaluation.off_policy import (
    Logged,
    PolicyValue,
    direct_method,
    doubly_robust,
    doubly_robust_shrunk,
    inverse_probability,
    self_normalised,
)
from models.uplift.rewards import expected_rewards

SEEDS = 100
N_LABELS = 10
Estimator = Callable[[Logged, np.ndarray, np.ndarray], PolicyValue]
ESTIMATORS: Mapping[str, Estimator] = {
    "direct_method": direct_method,
    "inverse_probability": lambda log, policy, _: inverse_probability(log, policy),
    "self_normalised": lambda log, policy, _: self_normalised(log, policy),
    "doubly_robust": doubly_robust,
    "doubly_robust_shrunk": doubly_robust_shrunk,
}


def run(*, data: Path | None, trials: int | None = None) -> Result:
    """Measure on digits and, where `data` holds the two logs, on them."""
    errors, covered, refused = digits(SEEDS if trials is None else trials)
    metrics = {f"{name}_relative_error": float(np.mean(missed)) for name, missed in errors.items()}
    intervals = {f"{name}_relative_error": normal_mean(np.array(missed)) for name, missed in errors.items()}
    print(f"digits, {len(errors['doubly_robust'])} seeds, {refused} logs refused")
    print(f"  {'':24}{'relative error':>28}{'95 % intervals that cover':>28}")
    for name in ESTIMATORS:
        print(f"  {name:24}{intervals[f'{name}_relative_error']!s:>28}{np.mean(covered[name]):>28.2f}")
    for name in ("direct_method", "inverse_probability", "self_normalised"):
        less = normal_mean(np.array(errors[name]) - np.array(errors["doubly_robust"]))
        intervals[f"doubly_robust_less_than_{name}"] = less
        metrics[f"doubly_robust_less_than_{name}"] = less.estimate
        print(f"  doubly_robust misses less than {name} by {less}, paired by seed")
    if data is not None:
        for direction, (found, truth) in open_bandit(data).items():
            print(f"{direction}: the other log's own click rate {truth}")
            for name, value in found.items():
                told = value.value if not value.weights.refused else f"refused: {value.weights.refused}"
                print(f"  {name:24}{told!s:>28}   worth {value.weights.effective:,.0f} decisions")
            best = found["doubly_robust"].value
            metrics |= {f"{direction}": best.estimate, f"{direction}_truth": truth.estimate}
            metrics[f"{direction}_covered"] = float(best.low <= truth.estimate <= best.high)
            intervals |= {direction: best, f"{direction}_truth": truth}
    return Result(metrics, intervals)


def digits(seeds: int) -> tuple[dict[str, list[float]], dict[str, list[bool]], int]:
    """Relative errors and whether the interval covers, by estimator and seed; and how many logs were refused."""
    images, labels = load_digits(return_X_y=True)
    errors: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    covered: dict[str, list[bool]] = {name: [] for name in ESTIMATORS}
    refused = 0
    for seed in track(range(seeds), "digits"):
        learn, judge = train_test_split(np.arange(len(labels)), test_size=0.5, random_state=seed)
        logging = LogisticRegression(max_iter=1000).fit(images[learn] / 16, labels[learn])
        evaluated = RandomForestClassifier(random_state=seed).fit(images[learn], labels[learn])
        behaviour = 0.9 * np.eye(N_LABELS)[logging.predict(images[judge] / 16)] + 0.1 / N_LABELS
        policy = 0.8 * np.eye(N_LABELS)[evaluated.predict(images[judge])] + 0.2 / N_LABELS
        rows, rng = np.arange(len(judge)), np.random.default_rng(seed)
        action = (rng.random(len(judge))[:, None] > behaviour.cumsum(axis=1)).sum(axis=1).clip(0, N_LABELS - 1)
        reward = (action == labels[judge]).astype(float)
        log, truth = Logged(action, reward, behaviour[rows, action]), policy[rows, labels[judge]].mean()
        context = pd.DataFrame(images[judge]).add_prefix("pixel_")
        predicted = expected_rewards(
            context, action, reward, n_actions=N_LABELS, probability=log.probability, seed=seed
        )
        for name, estimator in ESTIMATORS.items():
            value = estimator(log, policy, predicted)
            around = normal_mean(value.contributions)
            errors[name].append(abs(around.estimate - truth) / truth)
            covered[name].append(around.low <= truth <= around.high)
        refused += bool(value.weights.refused)
    return errors, covered, refused


def open_bandit(folder: Path) -> dict[str, tuple[dict[str, PolicyValue], Interval]]:
    """Every estimate of each policy from the other's log, and the truth from its own."""
    needed = ("item_id", "position", "click", "propensity_score")
    logs = {name: read_rows(folder / f"{name}.parquet", needed) for name in ("random", "bts")}
    n_items = 1 + max(int(log["item_id"].max()) for log in logs.values())
    shares = {
        name: pd.crosstab(log["position"], log["item_id"], normalize="index").reindex(
            columns=range(n_items), fill_value=0.0
        )
        for name, log in logs.items()
    }
    shares["random"].loc[:] = 1 / n_items
    found = {}
    for name, other in (("random", "bts"), ("bts", "random")):
        rows = logs[name]
        log = Logged(
            rows["item_id"].to_numpy(),
            rows["click"].to_numpy(np.float64),
            rows["propensity_score"].to_numpy(np.float64),
        )
        policy = shares[other].loc[rows["position"]].to_numpy()
        context = rows[["position", *(column for column in rows if column.startswith("user_feature"))]]
        predicted = expected_rewards(context, log.action, log.reward, n_actions=n_items, probability=log.probability)
        judged = {method: estimator(log, policy, predicted) for method, estimator in ESTIMATORS.items()}
        found[f"{other}_from_{name}"] = (judged, normal_mean(logs[other]["click"].to_numpy(np.float64)))
    return found
