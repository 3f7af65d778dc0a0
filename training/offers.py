"""Train what each offer brings of whom, from offers that chance dealt, and judge it by what people brought later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

import mlflow
import numpy as np
import pandas as pd

from data.chance import some_rows
from data.errors import DataError, WorkspaceError
from data.progress import timed
from data.workspace import Workspace
from evaluation.experiments.checks import Check, assignment_foreseen, leak, sample_ratio
from evaluation.off_policy import action_values, deterministic
from evaluation.policies import PolicyComparison, compare_policies
from features.rules import Rule, parse_rule
from models.offers import BEST, NOTHING, USUAL, OfferModel, OfferProfit, own_counts, unless_usual
from models.uplift import PooledEffects, best_arms, fit_policy_tree
from models.uplift.model import MIN_ARM, ArmEffect
from training import cards, uplift
from training.examples import write_feature_examples
from training.offer_rows import OfferRows, offer_rows
from training.results import Comparison, Judged, TrainingResult
from training.tracking import child_run, log_comparison, training
from training.uplift import CrossFitted, Experiment

NAME = "offers"
METRIC = "profit"
TEST_SHARE = 0.25
"""The newest decisions are judged on, at least this share of all."""
NOBODY = "nobody"
LEVEL = 0.95
FOLDS = 5
MOST_LEARNT = 100_000
"""Decisions that are learnt from, a draw of more: it takes a second for each ten thousand, and a kilobyte for each."""
MOST_FOR_TREE = 10_000


@dataclass(frozen=True)
class Card(cards.Card):
    """Of a version of the offers: how long what people brought counted is its horizon.

    Attributes:
        definitions_hash: Of the features it reads.
    """

    retrain = NAME
    definitions_hash: str


@dataclass(frozen=True, eq=False)
class Judging:
    """Decisions to judge policies on, and what models that did not see them say of these people.

    Attributes:
        rows: All decisions.
        fitted: What is said of those to judge on.
        found: What each offer is expected to bring of these, with intervals.
        since: From when on they are later than all that was learnt from; None where models were cross-fitted.
    """

    rows: OfferRows
    fitted: CrossFitted
    found: OfferProfit
    since: datetime | None


def train_offers(workspace: Workspace, *, seed: int | None = None) -> TrainingResult:
    """Learn on earlier decisions, judge on later ones, refit on all and register.

    Where each person's best offer is not surely better than the best simple policy (nobody, one offer for all, the
    shop's usual rule), a simple policy is the challenger: of those that are surely better than the usual rule the one
    that earned most, else that rule. A shop without one gives no offer.

    Raises:
        DataError: too few decisions by chance, probabilities that are not those of the choices, or a failed check.
        WorkspaceError: `[offers].usual` cannot be read.
    """
    seed = workspace.settings.training.seed if seed is None else seed
    rows = offer_rows(workspace)
    params = {
        "decisions": len(rows.at),
        "offers": " ".join(rows.arms[1:]),
        "horizon_days": rows.horizon_days,
        "definitions_hash": rows.definitions_hash,
    }
    with training(workspace, NAME, seed=seed, params=params) as run:
        with timed("learning and judging offers"):
            judging = judge(rows, seed=seed)
            test = compared(workspace, judging, {BEST: BEST})
            policy = chosen(workspace, judging, test)
            if policy != BEST:
                test = compared(workspace, judging, {_names(workspace, rows)[policy]: policy, BEST: BEST})
        for row in test.rows:
            child_run(row.name, params={}, metrics=row.metrics)
        log_comparison(test)
        mlflow.log_params({"policy": policy, "judged": "later decisions" if judging.since else "cross-fitted"})
        with timed("refitting offers on all decisions"):
            final = fit(rows, policy=policy, seed=seed)
            if final.uplift is not None and final.uplift.shape is not None:
                mlflow.log_param("own_answers_shape", final.uplift.shape)
            final.save(run.folder)
            Card(seed, rows.end, rows.horizon_days, rows.definitions_hash).save(run.folder)
            write_feature_examples(NAME, final, rows.table, run.folder)
        return run.challenger(
            test,
            chosen=test.rows[0].recipe,
            pyfunc="offers.py",
            packages=("lightgbm", "mlflow", "numpy", "pandas", "scipy"),
            tags={"policy": policy, "definitions_hash": rows.definitions_hash},
        )


def fit(rows: OfferRows, *, policy: str = BEST, seed: int = 0) -> OfferModel:
    """What all decisions say, or a draw of very many. A policy that is the same for all keeps the averages only."""
    some = some_rows(len(rows.arm), MOST_LEARNT, seed=seed)
    model = PooledEffects().fit(
        rows.table[list(rows.steady)].iloc[some],
        rows.arm[some],
        rows.before_contact[some],
        brought=rows.orders[some],
        by_message=rows.by_message[some],
        arms=rows.arms,
        about=rows.about,
        own=own_counts(rows.table.iloc[some], rows.arms),
        seed=seed,
    )
    contact_cost = float(rows.contact_cost[rows.arm > 0].mean())
    effects = [replace(effect, average=effect.average - contact_cost) for effect in model.effects]
    apart = model if policy == BEST else None
    return OfferModel(rows.arms, effects, policy=policy, contact_cost=contact_cost, uplift=apart)


def judge(rows: OfferRows, *, seed: int = 0) -> Judging:
    """Models for judging: learnt on decisions whose outcomes were known before the newest quarter was made.

    Where the history is too short for that, people are cross-fitted in folds, each person's first decision only.

    Raises:
        DataError: a check failed, or an arm is too small.
    """
    _check(rows, seed)
    start = _test_start(rows)
    if start is None:
        rows = rows.of(~pd.Series(rows.user).duplicated().to_numpy())
        fold = np.random.default_rng(seed).permutation(len(rows.arm)) % FOLDS
        parts = [_asked(rows.of(fold != one), rows.of(fold == one), seed) for one in range(FOLDS)]
        return Judging(rows, *_joined(experiment(rows, seed), fold, parts), None)
    horizon = timedelta(days=rows.horizon_days)
    early, late = rows.of((rows.at + horizon <= start).to_numpy()), rows.of((rows.at >= start).to_numpy())
    fold = np.zeros(len(late.arm), dtype=np.int64)
    return Judging(rows, *_joined(experiment(late, seed), fold, [_asked(early, late, seed)]), start)


def experiment(rows: OfferRows, seed: int = 0) -> Experiment:
    """The decisions as one experiment, checked."""
    names = np.asarray(rows.arms, dtype=object)[rows.arm]
    found = uplift.experiment(
        rows.table, names, rows.before_contact, control=NOTHING, probabilities=rows.probabilities, seed=seed
    )
    if found.arms != rows.arms:
        raise DataError(f"of {', '.join(rows.arms)} only {', '.join(found.arms)} were given: log more by chance.")
    return replace(found, outcome=rows.outcome)


def compared(workspace: Workspace, judging: Judging, contestants: Mapping[str, str | np.ndarray]) -> Comparison:
    """Contestants beside every simple policy on the same decisions, the first against each other one, paired.

    Args:
        workspace: Whose usual rule is one of them.
        judging: The decisions.
        contestants: Name -> policy (`BEST`, or an arm for all), or the arms that a stored version gives, codes (n,).

    Where the first is itself a simple policy, only those others count as baselines that are surely better than the
    usual rule, or than no offer in a shop without one: of ten offers that do nothing one looks good. Where the arm
    `model` explores, only those count against the best offer for each that are surely better than it, see `chosen`; and
    a champion that is a simple policy makes way for it where none is.
    """
    fitted, rows = judging.fitted, judging.rows
    of = fitted.experiment
    n, K = fitted.effects.shape
    rule, note = _usual(workspace, rows)
    names = _names(workspace, rows)
    simple = {name for policy, name in names.items() if policy != BEST}
    others = uplift.policies(fitted, rule=rule)
    others.pop("model")
    best = deterministic(_best(judging.found, of.table, rule, rows.arms), K)
    policies, recipes = {}, {}
    for name, policy in contestants.items():
        if isinstance(policy, str):
            recipes[name] = names.get(policy, NOBODY)
            policies[name] = best if policy == BEST else others[recipes[name]]
        else:
            policies[name], recipes[name] = deterministic(policy, K), BEST
    policies = {**policies, **{name: policy for name, policy in others.items() if name not in policies}}
    first = next(iter(policies))
    found = _values(of, policies, fitted)
    gains = {gain.against: gain.gain for gain in found.gains}
    proven = set(_proven(judging, others, names))
    yielding: tuple[str, ...] = ()
    if recipes[first] in simple:
        counted = {*proven, recipes[first]}
    elif workspace.settings.offers.explore and not all(gains[name].low > 0 for name in simple):
        counted = {BEST, *(name for name in {names.get(USUAL, NOBODY), *proven} if gains[name].high < 0)}
        yielding = tuple(sorted(simple)) if counted == {BEST} else ()
    else:
        counted = simple
    judged = tuple(
        Judged(
            row.name,
            recipes.get(row.name, row.name),
            recipes.get(row.name, row.name) in counted,
            {METRIC: row.value},
            gains.get(row.name),
        )
        for row in found.rows
    )
    currency = workspace.settings.shop.currency
    when = f"later decisions, from {judging.since:%Y-%m-%d}" if judging.since else "people left out in turn"
    notes = [
        f"{currency} per decision over {rows.horizon_days} days after all costs, doubly robust, on {when}",
        *(f"{row.name} cannot be judged: {row.weights.refused}" for row in found.rows if row.weights.refused),
        *rows.notes,
        *note,
    ]
    return Comparison(NAME, METRIC, n, judged, tuple(notes), yielding=yielding)


def chosen(workspace: Workspace, judging: Judging, test: Comparison) -> str:
    """The policy that goes on: the best offer for each, of which `test` tells how it was judged, or `best_simple`.

    The best offer for each must be surely better than every simple policy. Where the arm `model` explores it is enough
    that none is surely better: what offers bring is shrunk as far as it is not known, so that the best by it is the
    best guess there is, it is measured while it decides, and a mistake lasts until the next training.
    """
    return BEST if test.beats_baselines or test.best_baseline is test.rows[0] else best_simple(workspace, judging)


def best_simple(workspace: Workspace, judging: Judging) -> str:
    """Of the arms for all that are surely better than the usual rule, or than no offer, the one that earned most.

    Else the usual rule, `models.offers.USUAL`, or no offer in a shop without one.
    """
    rule, _ = _usual(workspace, judging.rows)
    names = _names(workspace, judging.rows)
    proven = _proven(judging, uplift.policies(judging.fitted, rule=rule), names)
    best = {policy: proven[name] for policy, name in names.items() if name in proven}
    return max(best, key=lambda policy: best[policy]) if best else USUAL if rule else NOTHING


def again(workspace: Workspace, judging: Judging, model: OfferModel, card: Card) -> str | np.ndarray:
    """What stands for a stored version: itself where it has not seen the decisions, else its policy learnt anew."""
    seen = judging.since is None or card.fitted_until > judging.since
    if model.policy != BEST:
        return model.policy
    if seen or model.arms != judging.rows.arms:
        return BEST
    rule, _ = _usual(workspace, judging.rows)
    table = judging.fitted.experiment.table
    return _best(model.predict(table), table, rule, model.arms)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a model says of people whom it did not see: effects, outcomes, (n, K), and a tree's arms, (n,)."""

    told: OfferProfit
    expected: np.ndarray
    tree: np.ndarray
    found: tuple[ArmEffect, ...]


def _asked(early: OfferRows, late: OfferRows, seed: int) -> _Asked:
    """What is learnt from the early decisions, said of the late."""
    learnt, model = experiment(early, seed), fit(early, seed=seed)
    assert isinstance(model.uplift, PooledEffects)  # noqa: S101 - `BEST` tells people apart
    values = action_values(learnt.logged, learnt.probabilities, model.uplift.expected(learnt.table))
    some = some_rows(len(values), MOST_FOR_TREE, seed=seed)
    tree = fit_policy_tree(learnt.table.iloc[some], values[some], names=learnt.arms, seed=seed)
    told = model.predict(late.table)
    return _Asked(told, model.uplift.expected(late.table), tree(late.table), tuple(model.effects))


def _joined(of: Experiment, fold: np.ndarray, parts: Sequence[_Asked]) -> tuple[CrossFitted, OfferProfit]:
    """What each part says, at the places of its fold."""
    order = np.argsort(np.argsort(fold, kind="stable"))

    def placed(values: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate(list(values))[order]

    names = (field.name for field in fields(OfferProfit))
    told = OfferProfit(*(placed(getattr(part.told, name) for part in parts) for name in names))
    expected, tree = placed(part.expected for part in parts), placed(part.tree for part in parts)
    return CrossFitted(of, told.profit, expected, tree, fold, tuple(part.found for part in parts), ()), told


def _check(rows: OfferRows, seed: int) -> None:
    """What must hold of decisions that chance made evenly.

    Raises:
        DataError: what does not, and what to do.
    """
    even = rows.even
    checks: list[Check] = []
    if even.any():
        counts = np.bincount(rows.arm[even], minlength=len(rows.arms)).tolist()
        checks.append(sample_ratio(dict(zip(rows.arms, counts, strict=True)), [1 / len(counts)] * len(counts)))
        checks.append(assignment_foreseen(rows.arm[even], rows.table[even], seed=seed))
    checks.append(leak(rows.arm, rows.before_contact, rows.arms, metric=METRIC))
    if failed := [check for check in checks if check.status == "failed"]:
        raise DataError(" ".join(f"{check.name}: it does not hold. {check.finding} {check.remedy}" for check in failed))


def _test_start(rows: OfferRows) -> datetime | None:
    """The latest day that leaves enough decisions after it, and enough of every arm known before it; None = none."""
    horizon, K = timedelta(days=rows.horizon_days), len(rows.arms)
    for day in sorted(set(rows.at.dt.floor("D")), reverse=True):
        late, early = (rows.at >= day).to_numpy(), (rows.at + horizon <= day).to_numpy()
        if late.mean() < TEST_SHARE:
            continue
        counts = [np.bincount(rows.arm[part], minlength=K).min() for part in (early, late)]
        if min(counts) >= MIN_ARM:
            return pd.Timestamp(day).to_pydatetime()
    return None


def _usual(workspace: Workspace, rows: OfferRows) -> tuple[Rule | None, list[str]]:
    """The shop's rule, or why it cannot be held against the model.

    Raises:
        WorkspaceError: it cannot be read.
    """
    text = workspace.settings.offers.usual
    if not text:
        return None, []
    rule = parse_rule(text)
    try:
        rule.codes(rows.table, rows.arms)
    except WorkspaceError as error:
        return None, [f"the usual rule is not judged: {error}"]
    return rule, []


def _proven(judging: Judging, policies: Mapping[str, np.ndarray], names: Mapping[str, str]) -> dict[str, float]:
    """What each simple policy earns, of those that surely earn more than the usual rule, or than no offer without one.

    All of them are counted (Bonferroni).
    """
    fitted, base = judging.fitted, names.get(USUAL, NOBODY)
    simple = {name: policies[name] for policy, name in names.items() if policy != BEST and name != base}
    level = 1 - (1 - LEVEL) / max(len(simple), 1)
    found = _values(fitted.experiment, {base: policies[base], **simple}, fitted, level=level)
    earned = {row.name: row.value.estimate for row in found.rows}
    return {gain.against: earned[gain.against] for gain in found.gains if gain.gain.high < 0}


def _values(
    of: Experiment, policies: Mapping[str, np.ndarray], fitted: CrossFitted, *, level: float = LEVEL
) -> PolicyComparison:
    return compare_policies(
        of.logged, policies, fitted.expected, arms=of.arms, probabilities=of.probabilities, level=level
    )


def _best(found: OfferProfit, table: pd.DataFrame, rule: Rule | None, arms: Sequence[str]) -> np.ndarray:
    """What the best offer for each gives, as it is served, codes (n,)."""
    return best_arms(found.profit) if rule is None else unless_usual(found, rule.codes(table, arms))


def _names(workspace: Workspace, rows: OfferRows) -> dict[str, str]:
    """What comparisons call each policy that a version may follow."""
    rule, _ = _usual(workspace, rows)
    names = {BEST: BEST, NOTHING: NOBODY, **{arm: f"{arm} to all" for arm in rows.arms[1:]}}
    return names | ({USUAL: rule.text} if rule else {})
