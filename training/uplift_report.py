"""From a table of any experiment to its report: what is checked and measured, and models that judge nobody they saw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from data.chance import some_rows
from data.errors import DataError
from evaluation.experiments import (
    Analysis,
    Check,
    Experiment,
    Metric,
    Period,
    Plan,
    aa_simulation,
    analyse,
    difference_of_means,
    over_time,
    plan,
    read_experiment,
)
from evaluation.experiments.means import as_numbers
from evaluation.off_policy import Logged
from evaluation.policies import compare_policies
from evaluation.units import Unit
from evaluation.uplift import comparable, contrast
from evaluation.uplift_report import Offers, Profit, Run, UpliftReport, Who, arm_name, who
from features.rules import Rule
from models.columns import Columns
from models.uplift import fit_policy_tree
from models.uplift.model import people_to_learn_from
from training import uplift
from training.uplift import CrossFitted

MOST_LEARNT = 50_000
"""People that models learn from and are judged on, a seeded draw of more; everything else is of everybody."""
MOST_GROUPS = 8
"""Columns of words, or of few numbers, known before are looked at group by group, if they have so few."""
SPLITS, MOST_SPLIT, TOO_OFTEN = 200, 20_000, 0.07
"""Random splits of an arm, of how many people at the most; a share of effects found that is too often."""
NOT_TRUSTED = "Left out: a check failed, so nothing can be learnt from it."
"""Said in the place of who gains."""
LIMITS = (
    "It tells what happened to these people at that time; another season, list or mail may do otherwise.",
    "Effects beyond the time in which outcomes were counted are not in it.",
)


@dataclass(frozen=True, eq=False)
class _Learnt:
    """Who gains, what policies earn, and the tree; or why nothing is told of that."""

    who: Who | None = None
    offers: tuple[Offers, ...] = ()
    tree: str = ""
    left_out: str = ""


def uplift_report(
    rows: pd.DataFrame,
    *,
    treatment: str,
    outcome: str,
    control: str | None = None,
    money: str | None = None,
    margin: float = 1.0,
    costs: Mapping[str, float] | float | None = None,
    shares: Mapping[str, float] | None = None,
    before: Sequence[str] = (),
    user: str | None = None,
    date: str | None = None,
    rule: Rule | None = None,
    currency: str = "",
    run: Run,
    seed: int = 0,
) -> UpliftReport:
    """Analyse an experiment; where it can be trusted and enough was known before of enough people, learn who gains.

    The outcome decides. With costs, money after cost decides: the money's effect must be worth cost / margin, or, where
    there is no money, the outcome's, `margin` then being what one is worth.

    Args:
        rows: A row per person.
        treatment: Column of arms.
        outcome: Column, a yes or a no or an amount.
        control: Which arm was left alone.
        money: Column of what each spent.
        margin: Share of the money that is earned, or what one outcome is worth.
        costs: Of one contact and its offer, of each arm or of all.
        shares: Planned, of each arm.
        before: Columns known before; those of numbers correct the effects, those of few values are segments.
        user: Column of ids, as `read_experiment` takes it.
        date: Column of when each joined.
        rule: Who would get which arm, to hold against the model.
        currency: Of the money.
        run: What the rows are.
        seed: Of all that is drawn.

    Raises:
        DataError: a column that is not there, no control, nobody treated, a margin or a cost that is none, or is of an
            arm that is not there.
    """
    if not 0 < margin < np.inf:
        raise DataError(f"margin is {margin:g}; give what is earned of 1, above 0.")
    if late := set(before) & {treatment, outcome, money, date}:
        raise DataError(f"{min(map(str, late))} is part of the experiment, not known before; leave it out of --before.")
    before = list(dict.fromkeys(before))
    experiment = read_experiment(rows, treatment=treatment, control=control, shares=shares, user=user, before=before)
    known = _numbers_read(experiment.rows, before)
    numbers = tuple(name for name in before if pd.api.types.is_numeric_dtype(known[name]))
    segments = tuple(name for name in before if 2 <= known[name].nunique() <= MOST_GROUPS)
    experiment = replace(experiment, rows=known, segments=segments)
    if rule is not None:
        for condition, _ in rule.parts:
            condition.check(before, called="column known before")
        rule.codes(known, experiment.arms)
    by_arm = _costs(costs, experiment.arms)
    names = list(dict.fromkeys([outcome, *([money] if money else [])]))
    if by_arm is not None and money:
        names.reverse()
    metrics = [Metric(name, before=numbers) for name in names]
    for name in (*names, *([date] if date else [])):
        if name not in experiment.rows:
            raise DataError(f"no column {name!r}; there are {', '.join(map(str, experiment.rows.columns))}.")
    values = {name: as_numbers(experiment.rows[name], name=name) for name in names}
    units = {name: _unit_of(values[name], currency if name == money else "", is_money=name == money) for name in names}
    first, at = values[names[0]], None if date is None else _times(experiment, date)
    worth = {arm: cost / margin for arm, cost in (by_arm or {}).items()}
    per_day = None if at is None else people_per_day(at)
    analysis = analysed(
        experiment,
        metrics,
        first,
        units[names[0]],
        worth=worth or 0.0,
        people_per_day=per_day,
        actions={arm: f"send {arm_name(arm, treatment)}" for arm in experiment.arms[1:]},
        seed=seed,
    )
    promising = next(arm for arm, verdict in analysis.verdicts.items() if verdict is analysis.verdict)
    doubts = {c.metric.outcome: c.doubt for c in analysis.comparisons if c.arm == promising}
    if analysis.verdict.kind == "not to be trusted":
        learnt = _Learnt(left_out=NOT_TRUSTED)
    elif not before:
        learnt = _Learnt(left_out="Left out: name columns known before (--before) to learn who gains.")
    elif doubts[names[0]]:
        few = f"too few people stand behind {names[0]} to learn from" if np.ptp(first) else f"{names[0]} never changes"
        learnt = _Learnt(left_out=f"Left out: {few}.")
    else:
        earned = {} if by_arm is None else {"margin": margin, "costs": by_arm}
        unit = units[names[0]] if by_arm is None else Unit("money", currency)
        outcomes = {name: (values[name], units[name]) for name in names if not doubts[name]}
        called = tuple(arm_name(arm, treatment) for arm in experiment.arms)
        learnt = _learnt(experiment, outcomes, promising, unit, called=called, earned=earned, rule=rule, seed=seed)
    return UpliftReport(
        analysis=analysis,
        units=units,
        plans=plans_of(analysis, promising, worth=worth.get(promising, 0.0), people_per_day=per_day),
        profits=() if by_arm is None else profits_of(analysis, by_arm, margin=margin),
        who=learnt.who,
        offers=learnt.offers,
        tree=learnt.tree,
        periods={} if at is None else _periods(experiment, first, at),
        left_out=learnt.left_out,
        notes=(
            *_notes(experiment, learnt.who is not None, by_arm is not None, at),
            *(
                f"Which offer is not told by {name}: {doubts[name]}."
                for name in names
                if learnt.offers and doubts[name]
            ),
        ),
        run=run,
        currency=currency,
    )


def run_of(path: Path, rows: int, options: Mapping[str, str]) -> Run:
    """The fingerprint of a report made from a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Run(path.name, digest, rows, version("attune"), options)


def learn(
    experiment: Experiment,
    drawn: np.ndarray,
    outcome: np.ndarray,
    before: Sequence[str],
    *,
    earned: Mapping[str, Any] | None = None,
    seed: int,
) -> CrossFitted:
    """What models that did not see a person say of them.

    Args:
        experiment: Whose.
        drawn: Rows to learn from and to be asked about.
        outcome: Of everybody, (n,).
        before: Columns known before.
        earned: `margin` and `costs`, where there are any.
        seed: Of all that is drawn.

    Raises:
        DataError: as `training.uplift.experiment` and `cross_fit`.
    """
    table = experiment.rows.loc[drawn, list(before)].reset_index(drop=True)
    arm = np.asarray(experiment.arms, dtype=object)[experiment.arm[drawn]]
    of = uplift.experiment(table, arm, outcome[drawn], control=experiment.arms[0], **(earned or {}), seed=seed)
    return uplift.cross_fit(of, seed=seed)


def judge_who(fitted: CrossFitted, arm: str, unit: Unit, *, rule: Rule | None = None, seed: int = 0) -> Who:
    """Who gains from an arm, and how well that is known.

    Args:
        fitted: What models say of people whom they did not see.
        arm: Which.
        unit: Of the gains.
        rule: To be held against the model.
        seed: Of the resamples.
    """
    of = fitted.experiment
    code = of.arms.index(arm)
    score, response = (comparable(told[:, code], fitted.fold) for told in (fitted.effects, fitted.expected))
    others = {"the response model": response}
    if rule is not None:
        others[rule.text] = (rule.codes(of.table, of.arms) == code).astype(np.float64)
    people = contrast(of.logged, of.probabilities, arm=code, predicted=fitted.expected)
    return who(people, score, arm=arm, unit=unit, others=others, seed=seed)


def analysed(
    experiment: Experiment, metrics: Sequence[Metric], outcome: np.ndarray, unit: Unit, *, seed: int, **how: Any
) -> Analysis:
    """The analysis of an experiment, and one more check.

    Args:
        experiment: Whose.
        metrics: The first decides.
        outcome: Of the first, (n,).
        unit: Of that.
        seed: Of all that is drawn.
        how: As `evaluation.experiments.analyse` has it.
    """
    found = analyse(experiment, metrics, show=unit.amount, seed=seed, **how)
    return replace(found, checks=(*found.checks, _nothing_done(outcome, experiment.arm, seed)))


def _nothing_done(outcome: np.ndarray, arm: np.ndarray, seed: int) -> Check:
    """The largest arm split at random again and again, as unequally as the arms are.

    All of them were treated alike, so an effect should be found in one of twenty splits. Where it is found far more
    often, intervals on these amounts are too narrow; it warns, and changes no verdict.
    """
    sizes = np.bincount(arm)
    alike = outcome[arm == sizes.argmax()]
    alike = alike[some_rows(len(alike), MOST_SPLIT, seed=seed)]
    share = float(np.clip(sizes.min() / (sizes.min() + sizes.max()), 0.1, 0.5))
    name = "nothing done, nothing found"
    first, second = np.split(np.random.default_rng(seed).permutation(alike), [round(share * len(alike))])
    if len(first) < 2 or not difference_of_means(first, second).enough:
        return Check(name, "not checked", "Too few people alike have the outcome.")
    found = aa_simulation(alike, treated_share=share, draws=SPLITS, seed=seed).found
    wrongly, low, high = (f"{100 * part:.1f}" for part in (found.estimate, found.low, found.high))
    told = (
        f"People of one arm were split at random {SPLITS} times, with nothing done to either part; an effect was "
        f"found in {wrongly} % of the splits ({low} to {high} %), and 5 % is right."
    )
    often = found.low > TOO_OFTEN
    remedy = "Intervals on these amounts are too narrow: wait for more people, or look at the capped numbers."
    return Check(name, "warning" if often else "passed", told, remedy if often else "", value=found.estimate)


def plans_of(
    analysis: Analysis, arm: str, *, worth: float = 0.0, people_per_day: float | None = None
) -> tuple[Plan, ...]:
    """How many people, both arms together, it takes to be as sure as the verdict of the effect seen, and of half of it.

    What they differ in is told by the verdict's interval: one that holds at every look asks for more people. None where
    the data decided, or nothing can be said.

    Args:
        analysis: Of the experiment.
        arm: Whose effect on the first metric is in question.
        worth: What an effect must be worth.
        people_per_day: How many come, to all arms.
    """
    found = next(comparison for comparison in analysis.comparisons if comparison.arm == arm).decisive
    gap, interval = abs(found.interval.estimate - worth), analysis.verdict.interval
    undecided = analysis.verdict.kind in ("keep testing", "cannot tell") and found.enough
    if not (undecided and gap > 0):
        return ()
    people, treated = found.n_treated + found.n_control, found.n_treated / (found.n_treated + found.n_control)
    error = (interval.high - interval.low) / 2 / ndtri((1 + interval.level) / 2)
    spread = error * np.sqrt(people * treated * (1 - treated))
    per_day = np.nan if people_per_day is None else people_per_day * people / sum(analysis.arms.values())
    return tuple(
        plan(float(spread), gap * part, treated_share=treated, people_per_day=per_day, level=interval.level)
        for part in (1.0, 0.5)
    )


def _unit_of(y: np.ndarray, currency: str, *, is_money: bool) -> Unit:
    """How numbers of an outcome are written."""
    if is_money:
        return Unit("money", currency)
    return Unit("share" if np.isin(y, (0, 1)).all() else "amount")


def _learnt(
    experiment: Experiment,
    outcomes: Mapping[str, tuple[np.ndarray, Unit]],
    arm: str,
    unit: Unit,
    *,
    called: Sequence[str],
    earned: Mapping[str, Any],
    rule: Rule | None,
    seed: int,
) -> _Learnt:
    """What models say of people they did not see; of the outcomes, with their units, the first is learnt.

    `called` is what readers call the arms.
    """
    drawn = some_rows(len(experiment.rows), MOST_LEARNT, seed=seed)
    (values, _), *_ = outcomes.values()
    judged = {name: (y[drawn], its_unit) for name, (y, its_unit) in outcomes.items()}
    try:
        people_to_learn_from(experiment.arm[drawn], experiment.arms)  # of an arm that has none `learn` knows nothing
        fitted = learn(experiment, drawn, values, experiment.before, earned=earned, seed=seed)
        found = judge_who(fitted, arm, unit, rule=rule, seed=seed)
        offers = _offers(fitted, unit, judged, rule, called=called, after_cost=bool(earned))
        return _Learnt(
            replace(found, arm=called[experiment.arms.index(arm)], choice_pays=offers[0].pays),
            offers,
            str(fit_policy_tree(fitted.experiment.table, fitted.values, names=called, seed=seed)),
        )
    except DataError as error:
        return _Learnt(left_out=f"Left out: {error}")


def _offers(
    fitted: CrossFitted,
    unit: Unit,
    judged: Mapping[str, tuple[np.ndarray, Unit]],
    rule: Rule | None,
    *,
    called: Sequence[str],
    after_cost: bool,
) -> tuple[Offers, ...]:
    """The policies by what was learnt, then by the other outcomes, whose arms' means stand in for a model."""
    of = fitted.experiment
    names = {f"{arm} to all": f"{name} to all" for arm, name in zip(of.arms, called, strict=True)}
    chosen = {names.get(name, name): shares for name, shares in uplift.policies(fitted, rule=rule).items()}
    first, *others = judged
    name = "profit after cost" if after_cost else first
    found = compare_policies(of.logged, chosen, fitted.expected, arms=called, probabilities=of.probabilities)
    told = [Offers(name, unit, found)]
    for other in others:
        y, its_unit = judged[other]
        means = np.bincount(of.arm, y) / np.bincount(of.arm)
        log, predicted = Logged(of.arm, y, of.logged.probability), np.tile(means, (len(y), 1))
        found = compare_policies(log, chosen, predicted, arms=called, probabilities=of.probabilities)
        told.append(Offers(other, its_unit, found))
    return tuple(told)


def _costs(costs: Mapping[str, float] | float | None, arms: Sequence[str]) -> dict[str, float] | None:
    if costs is None:
        return None
    if not isinstance(costs, Mapping):
        costs = dict.fromkeys(arms[1:], costs)
    if unknown := set(costs) - set(arms[1:]):
        raise DataError(f"a cost is given for {min(unknown)!r}; the treated arms are {', '.join(arms[1:])}.")
    if wrong := {arm: cost for arm, cost in costs.items() if not 0 <= cost < np.inf}:
        arm, cost = next(iter(wrong.items()))
        raise DataError(f"the cost of {arm} is {cost:g}; give what one contact costs, 0 or more.")
    return {arm: costs.get(arm, 0.0) for arm in arms[1:]}


def profits_of(analysis: Analysis, costs: Mapping[str, float], *, margin: float = 1.0) -> tuple[Profit, ...]:
    """What each arm earns after cost: margin times the effect that its verdict follows, less the cost.

    Args:
        analysis: Of the experiment.
        costs: Per person, of every treated arm.
        margin: What is earned of 1.
    """
    return tuple(
        Profit(arm, margin, costs[arm], verdict.interval.scaled(margin, less=costs[arm]))
        for arm, verdict in analysis.verdicts.items()
        if arm in costs
    )


def people_per_day(at: pd.Series) -> float | None:
    """How many joined a day; None where all did on one."""
    days = (at.max() - at.min()).days + 1
    return float(at.notna().sum()) / days if days > 1 else None


def _times(experiment: Experiment, date: str) -> pd.Series:
    told = experiment.rows[date]
    if pd.api.types.is_numeric_dtype(told):  # 20260131, and 20260131.0 where others have none
        told = told.map("{:.15g}".format, na_action="ignore")
    at = pd.to_datetime(told, format="ISO8601", errors="coerce", utc=True)
    if (wrong := at.isna() & told.notna()).any():
        raise DataError(
            f"{date}: {wrong.sum()} values are no dates (first: {str(told[wrong].iloc[0])!r}). "
            "Write them like 2026-01-31."
        )
    if at.isna().all():
        raise DataError(f"{date} is empty. Leave out --date, or name another column.")
    return at


def _periods(experiment: Experiment, y: np.ndarray, at: pd.Series) -> dict[str, tuple[Period, ...]]:
    dated = at.notna().to_numpy()
    control, found = dated & (experiment.arm == 0), {}
    for code, arm in enumerate(experiment.arms[1:], start=1):
        treated = dated & (experiment.arm == code)
        if control.any() and treated.any():
            found[arm] = over_time(y[treated], y[control], at[treated], at[control])
    return found


def _numbers_read(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The rows; columns of text that is numbers of more than a few values, such as `"1.234,50"`, are numbers."""
    text = [
        name
        for name in names
        if not pd.api.types.is_numeric_dtype(rows[name])
        and not pd.api.types.is_datetime64_any_dtype(rows[name])
        and rows[name].nunique() > MOST_GROUPS
    ]
    try:
        columns = Columns.learn(rows[text])
    except DataError:  # not one of them says anything
        return rows
    read = columns(rows[text])
    return rows.assign(**{name: read[name] for name, how in columns.read.items() if how.kind == "number"})


def _notes(experiment: Experiment, learnt: bool, costs: bool, at: pd.Series | None) -> list[str]:
    notes = list(LIMITS)
    if at is not None and at.isna().any():
        notes.append(f"{at.isna().sum():,} people without a date are left out of what is told over time.")
    if not costs:
        notes.append("No cost was given (--cost): an effect above zero may still not pay.")
    if learnt:
        notes.append("Models judge only people they did not see; on next month's people they may do a little worse.")
        if len(experiment.rows) > MOST_LEARNT:
            notes.append(f"Who, how many and which offer are from {MOST_LEARNT:,} people drawn at random.")
    return notes
