"""From a table of any experiment to its report: what is checked and measured, and models that judge nobody they saw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.chance import some_rows
from data.errors import DataError
from evaluation.experiments import Analysis, Experiment, Metric, Period, analyse, over_time, read_experiment
from evaluation.experiments.means import as_numbers
from evaluation.intervals import Interval
from evaluation.off_policy import Logged
from evaluation.policies import compare_policies
from evaluation.uplift import contrast
from evaluation.uplift_report import Offers, Profit, Run, Unit, UpliftReport, Who, who
from features.rules import Rule
from models.uplift import fit_policy_tree
from training import uplift
from training.uplift import CrossFitted

MOST_LEARNT = 50_000
"""People that models learn from and are judged on, a seeded draw of more; everything else is of everybody."""
MOST_GROUPS = 8
"""Columns of words, or of few numbers, known before are looked at group by group, if they have so few."""
LIMITS = (
    "It tells what happened to these people at that time; another season, list or mail may do otherwise.",
    "Effects beyond the time in which outcomes were counted are not in it.",
)


def uplift_report(
    rows: pd.DataFrame,
    *,
    treatment: str,
    outcome: str,
    control: str | None = None,
    money: str | None = None,
    margin: float = 1.0,
    costs: Mapping[str, float] | float | None = None,
    before: Sequence[str] = (),
    date: str | None = None,
    rule: Rule | None = None,
    currency: str = "",
    run: Run,
    seed: int = 0,
) -> UpliftReport:
    """Analyse an experiment; where it can be trusted and something was known before, also learn who gains.

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
        before: Columns known before; those of numbers correct the effects, those of few words are segments.
        date: Column of when each joined.
        rule: Who would get which arm, to hold against the model.
        currency: Of the money.
        run: What the rows are.
        seed: Of all that is drawn.

    Raises:
        DataError: a column that is not there, no control, nobody treated, a cost of an arm that is not there.
    """
    if not margin > 0:
        raise DataError(f"margin is {margin:g}; give what is earned of 1, above 0.")
    if late := set(before) & {treatment, outcome, money, date}:
        raise DataError(f"{min(map(str, late))} is part of the experiment, not known before; leave it out of --before.")
    numbers = tuple(name for name in before if name in rows and pd.api.types.is_numeric_dtype(rows[name]))
    segments = tuple(name for name in before if name in rows and 2 <= rows[name].nunique() <= MOST_GROUPS)
    experiment = read_experiment(rows, treatment=treatment, control=control, before=before, segments=segments)
    by_arm = _costs(costs, experiment.arms)
    names = [outcome, *([money] if money else [])]
    if by_arm is not None and money:
        names.reverse()
    metrics = [Metric(name, before=numbers) for name in names]
    for name in (*names, *([date] if date else [])):
        if name not in experiment.rows:
            raise DataError(f"no column {name!r}; there are {', '.join(map(str, experiment.rows.columns))}.")
    values = {name: as_numbers(experiment.rows[name], name=name) for name in names}
    units = {name: _unit(values[name], currency if name == money else "", is_money=name == money) for name in names}
    analysis = analyse(
        experiment,
        metrics,
        worth=0.0 if by_arm is None else {arm: cost / margin for arm, cost in by_arm.items()},
        people_per_day=_people_per_day(experiment, date),
        show=units[names[0]].shown(_width(values[names[0]], experiment.arm)),
        seed=seed,
    )
    periods = {} if date is None else _periods(experiment, values[names[0]], date)
    found: Who | None = None
    offers: tuple[Offers, ...] = ()
    tree = left_out = ""
    if analysis.verdict.kind == "not to be trusted":
        left_out = "Left out: a check failed, so nothing can be learnt from it."
    elif not before:
        left_out = "Left out: name columns known before (--before) to learn who gains."
    else:
        drawn = some_rows(len(experiment.rows), MOST_LEARNT, seed=seed)
        earned = {} if by_arm is None else {"margin": margin, "costs": by_arm}
        judged = {name: (values[name][drawn], units[name]) for name in names}
        try:
            fitted = _learn(experiment, drawn, values[names[0]], before, earned=earned, seed=seed)
            unit = units[names[0]] if by_arm is None else Unit("money", currency)
            promising = next(arm for arm, verdict in analysis.verdicts.items() if verdict is analysis.verdict)
            found = _who(fitted, promising, unit, rule, seed)
            offers = _offers(fitted, unit, judged, rule, after_cost=by_arm is not None)
            tree = str(fit_policy_tree(fitted.experiment.table, fitted.values, names=experiment.arms, seed=seed))
        except DataError as error:
            found, offers, left_out = None, (), f"Left out: {error}"
    return UpliftReport(
        analysis=analysis,
        units=units,
        profits=() if by_arm is None else _profits(analysis, margin, by_arm),
        who=found,
        offers=offers,
        tree=tree,
        periods=periods,
        left_out=left_out,
        notes=tuple(_notes(experiment, found is not None, by_arm is not None)),
        run=run,
    )


def read_rows(path: Path) -> pd.DataFrame:
    """A table of parquet or csv.

    Raises:
        DataError: no such file, or one that cannot be read.
    """
    readers = {".parquet": pd.read_parquet, ".csv": pd.read_csv}
    if not path.is_file() or path.suffix not in readers:
        raise DataError(f"{path} is no table: give a file that ends on .parquet or .csv.")
    try:
        return readers[path.suffix](path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def run_of(path: Path, rows: int, options: Mapping[str, str]) -> Run:
    """The fingerprint of a report made from a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Run(path.name, digest, rows, version("attune"), options)


def _learn(
    experiment: Experiment,
    drawn: np.ndarray,
    outcome: np.ndarray,
    before: Sequence[str],
    *,
    earned: Mapping[str, Any],
    seed: int,
) -> CrossFitted:
    table = experiment.rows.loc[drawn, list(before)].reset_index(drop=True)
    arm = np.asarray(experiment.arms, dtype=object)[experiment.arm[drawn]]
    of = uplift.experiment(table, arm, outcome[drawn], control=experiment.arms[0], **earned, seed=seed)
    return uplift.cross_fit(of, seed=seed)


def _who(fitted: CrossFitted, arm: str, unit: Unit, rule: Rule | None, seed: int) -> Who:
    of = fitted.experiment
    code = of.arms.index(arm)
    others = {"the response model": fitted.expected[:, code]}
    if rule is not None:
        others[rule.text] = (rule.codes(of.table, of.arms) == code).astype(np.float64)
    people = contrast(of.logged, of.probabilities, arm=code, predicted=fitted.expected)
    return who(people, fitted.effects[:, code], arm=arm, unit=unit, others=others, seed=seed)


def _offers(
    fitted: CrossFitted,
    unit: Unit,
    judged: Mapping[str, tuple[np.ndarray, Unit]],
    rule: Rule | None,
    *,
    after_cost: bool,
) -> tuple[Offers, ...]:
    """The policies by what was learnt, then by the other outcomes, whose arms' means stand in for a model."""
    of = fitted.experiment
    chosen = uplift.policies(fitted, rule=rule)
    first, *others = judged
    name = f"{first} after cost" if after_cost else first
    found = compare_policies(of.logged, chosen, fitted.expected, arms=of.arms, probabilities=of.probabilities)
    told = [Offers(name, unit, found)]
    for other in others:
        y, its_unit = judged[other]
        means = np.bincount(of.arm, y) / np.bincount(of.arm)
        log, predicted = Logged(of.arm, y, of.logged.probability), np.tile(means, (len(y), 1))
        found = compare_policies(log, chosen, predicted, arms=of.arms, probabilities=of.probabilities)
        told.append(Offers(other, its_unit, found))
    return tuple(told)


def _costs(costs: Mapping[str, float] | float | None, arms: Sequence[str]) -> dict[str, float] | None:
    if costs is None:
        return None
    if not isinstance(costs, Mapping):
        costs = dict.fromkeys(arms[1:], costs)
    if unknown := set(costs) - set(arms[1:]):
        raise DataError(f"a cost is given for {min(unknown)!r}; the treated arms are {', '.join(arms[1:])}.")
    return {arm: costs.get(arm, 0.0) for arm in arms[1:]}


def _unit(y: np.ndarray, currency: str, *, is_money: bool) -> Unit:
    if is_money:
        return Unit("money", currency)
    return Unit("share" if np.isin(y, (0, 1)).all() else "amount")


def _width(y: np.ndarray, arm: np.ndarray) -> float:
    """About how wide an interval of a difference is, for the digits of the verdict."""
    sizes = np.bincount(arm)
    return float(4 * y.std() * np.sqrt(1 / sizes[0] + 1 / sizes[1:].max()))


def _profits(analysis: Analysis, margin: float, costs: Mapping[str, float]) -> tuple[Profit, ...]:
    found = []
    for comparison in analysis.comparisons[: len(costs)]:
        i, cost = comparison.decisive.interval, costs[comparison.arm]
        estimate, low, high = (margin * end - cost for end in (i.estimate, i.low, i.high))
        found.append(Profit(comparison.arm, margin, cost, Interval(estimate, low, high, i.level)))
    return tuple(found)


def _people_per_day(experiment: Experiment, date: str | None) -> float | None:
    if date is None:
        return None
    at = _times(experiment, date)
    days = (at.max() - at.min()).days + 1
    return len(at) / days if days > 1 else None


def _times(experiment: Experiment, date: str) -> pd.Series:
    try:
        return pd.to_datetime(experiment.rows[date], format="ISO8601")
    except (ValueError, TypeError) as error:
        raise DataError(f"{date}: not all are dates: {error}. Write them like 2026-01-31.") from error


def _periods(experiment: Experiment, y: np.ndarray, date: str) -> dict[str, tuple[Period, ...]]:
    at = _times(experiment, date)
    control = experiment.arm == 0
    return {
        arm: over_time(y[experiment.arm == code], y[control], at[experiment.arm == code], at[control])
        for code, arm in enumerate(experiment.arms)
        if code
    }


def _notes(experiment: Experiment, learnt: bool, costs: bool) -> list[str]:
    notes = list(LIMITS)
    if not costs:
        notes.append("No cost was given (--cost): an effect above zero may still not pay.")
    if learnt:
        notes.append("Models judge only people they did not see; on next month's people they may do a little worse.")
        if len(experiment.rows) > MOST_LEARNT:
            notes.append(f"Who, how many and which offer are from {MOST_LEARNT:,} people drawn at random.")
    return notes
