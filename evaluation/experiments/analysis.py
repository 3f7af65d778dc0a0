"""An experiment from a plain table to its verdict: who was in which arm, what is checked, measured and concluded."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from data.errors import DataError
from evaluation.experiments import checks
from evaluation.experiments.checks import Balance, Check
from evaluation.experiments.means import (
    Difference,
    as_numbers,
    cap_of,
    difference_adjusted,
    difference_of_means,
    difference_of_ratios,
    largest_share,
)
from evaluation.experiments.planning import detectable
from evaluation.experiments.segments import FOUND, Segments, segment_effects
from evaluation.experiments.sequential import AlwaysValid, always_valid, planned_of
from evaluation.experiments.verdict import Verdict, decide
from evaluation.intervals import Interval

CONTROLS = ("control", "none", "no e-mail", "no email", "no offer", "holdout", "no", "false", "0", "0.0")
"""What control arms are called, where it is not said."""

USERS = ("user_id", "customer_id", "person_id", "subscriber_id", "client_id", "user", "customer", "person")
"""What columns of ids are called, where it is not said."""

PROMISING = ("not to be trusted", "act", "keep testing", "cannot tell", "do not")
"""Kinds of verdicts: the first that an arm has is the experiment's, of arms with enough people if there are any."""

MOST_ARMS = 50
"""More values are no arms but ids, amounts or dates."""

MetricKind = Literal["share", "amount", "ratio"]


@dataclass(frozen=True)
class Metric:
    """What an experiment is judged by.

    Attributes:
        outcome: Column: yes or no, or an amount per person; missing counts as 0.
        per: Column of a denominator, for a ratio of sums: revenue (outcome) per order (per).
        before: Columns of numbers known before assignment, for CUPED; not for ratios.
        name: As a marketer says it; by default the column.
        lower_is_better: As of unsubscribes.
        guardrail: Must not get worse, whatever the first metric says.
        tolerated: By how much a guardrail may.
    """

    outcome: str
    per: str | None = None
    before: tuple[str, ...] = ()
    name: str = ""
    lower_is_better: bool = False
    guardrail: bool = False
    tolerated: float = 0.0

    @property
    def told(self) -> str:
        """Its name."""
        return self.name or (f"{self.outcome} per {self.per}" if self.per else self.outcome)


@dataclass(frozen=True, eq=False)
class Experiment:
    """Who was in which arm, and what is known of them.

    Attributes:
        rows: A row per person.
        arm: Code of each person's arm, int of shape (n,); 0 is the control.
        arms: Names; the control first.
        shares: Planned share of each arm; None if not known.
        segments: Columns to look at group by group.
        before: Columns known before assignment.
        checks: Of what reading found: people in two arms, treated before they were assigned.
        left_out: Rows that are not in it, by reason.
    """

    rows: pd.DataFrame
    arm: np.ndarray
    arms: tuple[str, ...]
    shares: tuple[float, ...] | None
    segments: tuple[str, ...]
    before: tuple[str, ...]
    checks: tuple[Check, ...]
    left_out: Mapping[str, int]

    @property
    def counts(self) -> dict[str, int]:
        """People by arm."""
        return dict(zip(self.arms, np.bincount(self.arm, minlength=len(self.arms)).tolist(), strict=True))


@dataclass(frozen=True)
class Comparison:
    """One metric of one treated arm against the control.

    Attributes:
        metric: Of what.
        kind: A share of people, an amount per person or a ratio of sums.
        definition: How the number is made, in words.
        arm: The treated arm.
        control: The other.
        raw: As it is.
        capped: With amounts capped; None for shares and ratios, or where nothing is capped.
        cap: At which amount.
        adjusted: By what was known before (CUPED); None if nothing was.
        variance_reduction: Share of the raw variance that the adjustment took away; 0 without one.
        running: What may be read at any time; None if the planned number of people was not told.
        p_adjusted: Of the first metric corrected over the arms as its verdict is (Bonferroni), so that both say the
            same; of others over all metrics and arms (Benjamini and Hochberg). NaN where nothing varies.
        largest_share: Share of the outcome's sum that one person has.
        detectable: The smallest effect that an experiment as large finds in four of five cases.
    """

    metric: Metric
    kind: MetricKind
    definition: str
    arm: str
    control: str
    raw: Difference
    capped: Difference | None
    cap: float
    adjusted: Difference | None
    variance_reduction: float
    running: AlwaysValid | None
    p_adjusted: float
    largest_share: float
    detectable: float

    @property
    def decisive(self) -> Difference:
        """The one that decides, chosen before looking: adjusted where something was known before, else raw."""
        return self.adjusted or self.raw

    @property
    def interval(self) -> Interval:
        """Of the decisive difference; of an experiment that runs, the one that holds however often one looks."""
        return (self.running or self.decisive).interval

    @property
    def found(self) -> bool:
        """Whether it differs from zero for certain enough among all that was looked at."""
        return self.p_adjusted < FOUND and self.decisive.enough

    @property
    def doubt(self) -> str:
        """Why it cannot be believed; empty where it can."""
        if self.decisive.enough:
            return ""
        never = np.isnan(self.decisive.standard_error) and not self.decisive.interval.estimate
        return "the same for everybody" if never else "too few people to believe it"

    @property
    def harmful(self) -> bool:
        """Whether it was found to be worse."""
        return self.found and (self.decisive.interval.estimate > 0) == self.metric.lower_is_better


@dataclass(frozen=True)
class Analysis:
    """All that an experiment says.

    Attributes:
        verdict: Of the arm to act on, if any; else of the most promising, by effect less what it must be worth.
        verdicts: By treated arm, on the first metric; corrected for how many arms there are.
        comparisons: A row per metric and treated arm, in this order.
        checks: What had to hold.
        balance: What was known before, arm by arm.
        segments: By treated arm: the first metric group by group.
        arms: People by arm, the control first.
        left_out: Rows left out, by reason.
    """

    verdict: Verdict
    verdicts: Mapping[str, Verdict]
    comparisons: tuple[Comparison, ...]
    checks: tuple[Check, ...]
    balance: tuple[Balance, ...]
    segments: Mapping[str, Segments]
    arms: Mapping[str, int]
    left_out: Mapping[str, int]


def read_experiment(
    rows: pd.DataFrame,
    *,
    treatment: str,
    control: str | None = None,
    shares: Mapping[str, float] | None = None,
    user: str | None = None,
    segments: Sequence[str] = (),
    before: Sequence[str] = (),
    assigned_at: str | None = None,
    treated_at: str | None = None,
) -> Experiment:
    """An experiment from any table.

    Args:
        rows: A row per person.
        treatment: Column that names each person's arm; spaces around a name do not count, and blank is no arm.
        control: Which arm is the control; by default the one with a name such as 'control', 'none', 'No E-Mail' or 0.
        shares: Planned share of each arm, by name.
        user: Column of ids, to find people in two arms; who is there twice in one arm counts once. By default one with
            a name such as 'user_id' or 'customer'.
        segments: Columns to look at group by group.
        before: Columns known before assignment, to check that arms were alike.
        assigned_at: Column of the time of assignment.
        treated_at: Column of the time of the first treatment, missing for those never treated.

    Raises:
        DataError: a column that is not there or holds lists, no control, nobody treated, shares that do not fit.

    Example:
        >>> rows = pd.DataFrame({"segment": ["No E-Mail", "Mens", "Mens", None], "visit": [0, 1, 0, 1]})
        >>> experiment = read_experiment(rows, treatment="segment")
        >>> experiment.counts, experiment.left_out
        ({'No E-Mail': 1, 'Mens': 2}, {'no arm': 1})
    """
    _there(rows, [treatment])
    user = user or next((str(name) for name in rows if name != treatment and _is_of_ids(name, rows[name])), None)
    named = [user, assigned_at, treated_at, *segments, *before]
    _there(rows, [name for name in named if name is not None])
    left_out: dict[str, int] = {}
    found: list[Check] = []

    def without(wrong: pd.Series, reason: str) -> None:
        nonlocal rows
        if wrong.any():
            left_out[reason] = int(wrong.sum())
            rows = rows[~wrong]

    rows = rows.assign(**{treatment: _named(rows[treatment])})
    without(rows[treatment].isna(), "no arm")
    if user is not None:
        in_two = rows.groupby(user)[treatment].transform("nunique") > 1
        found.append(checks.users_in_two_arms(rows.loc[in_two, user].nunique(), rows[user].nunique()))
        without(in_two, "in two arms")
        if in_two.any() and not len(rows):
            raise DataError(f"by {user} everybody is in two arms: a column of ids has another one for each person.")
        without(rows.duplicated(user) & rows[user].notna(), "there twice")
    if assigned_at is not None and treated_at is not None:
        early = rows[treated_at] < rows[assigned_at]
        found.append(checks.treated_before_assignment(int(early.sum()), len(rows)))
        without(early, "treated before assignment")
    arms = _arms(rows[treatment], treatment, control)
    if shares is not None and set(shares) != set(arms):
        raise DataError(f"shares are of {', '.join(shares)}; give one of each arm: {', '.join(arms)}.")
    if shares is not None and not min(shares.values()) > 0:
        raise DataError(
            f"shares are {', '.join(f'{name} {part:g}' for name, part in shares.items())}; give each above 0."
        )
    return Experiment(
        rows=rows.reset_index(drop=True),
        arm=pd.Index(arms).get_indexer(rows[treatment]),
        arms=arms,
        shares=None if shares is None else tuple(shares[name] for name in arms),
        segments=tuple(segments),
        before=tuple(before),
        checks=tuple(found),
        left_out=left_out,
    )


def analyse(
    experiment: Experiment,
    metrics: Sequence[Metric],
    *,
    worth: float | Mapping[str, float] = 0.0,
    planned_people: int | None = None,
    people_per_day: float | None = None,
    actions: Mapping[str, str] | None = None,
    show: Callable[[float, float], str] = "{:.3g}".format,
    level: float = 0.95,
    seed: int = 0,
) -> Analysis:
    """Check, measure and conclude.

    The first metric decides. Each treated arm's verdict follows its interval at the level 1 - (1 - level) / arms, so
    that all verdicts together err as seldom as one (Bonferroni), and its p value is corrected alike. All other numbers
    are corrected by p value.

    Args:
        experiment: Who was in which arm.
        metrics: The first decides; the others are told, and guardrails may forbid.
        worth: The smallest effect on the first metric that is worth acting on, of all arms or by arm.
        planned_people: In the whole experiment, for one that still runs: verdicts follow always-valid intervals, and
            segments too.
        people_per_day: How many come, to say how much longer it takes.
        actions: Arm -> what a verdict on it calls doing it, as in "send Mens"; else its name.
        show: Writes an amount of the first metric, from it and the width of its interval.
        level: Coverage of intervals.
        seed: Of what is drawn in the checks.

    Raises:
        DataError: no metric, a column that is not there or does not hold numbers.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mail = rng.random(20_000) < 0.5
        >>> visit = rng.random(20_000) < 0.1 + 0.02 * mail
        >>> rows = pd.DataFrame({"arm": np.where(mail, "mail", "none"), "visit": visit})
        >>> analyse(read_experiment(rows, treatment="arm"), [Metric("visit")]).verdict.sentence
        'Act: mail. It raises visit by 0.0139, and by 0.00515 to 0.0227 with 95 % confidence.'
    """
    if not metrics:
        raise DataError("name at least one metric; the first decides.")
    columns = [name for metric in metrics for name in (metric.outcome, metric.per, *metric.before) if name is not None]
    _there(experiment.rows, columns)
    values = {
        name: as_numbers(experiment.rows[name], name=name)
        for metric in metrics
        for name in (metric.outcome, metric.per)
        if name is not None
    }
    comparisons = [
        _compare(experiment, metric, code, values, planned_people, level)
        for metric in metrics
        for code in range(1, len(experiment.arms))
    ]
    comparisons = _corrected(comparisons)
    before = experiment.rows[list(experiment.before)]
    balance = checks.balance(experiment.arm, before, experiment.arms)
    of_people = _checks_of_people(experiment, balance, seed)
    of_outcomes = _checks_of_outcomes(experiment, metrics, values)
    first, treated_arms = metrics[0], len(experiment.arms) - 1
    needed = worth if isinstance(worth, Mapping) else dict.fromkeys(experiment.arms[1:], worth)
    verdicts = {}
    for place, comparison in enumerate(comparisons[:treated_arms]):
        chosen, action = comparison.decisive, (actions or {}).get(comparison.arm, comparison.arm)
        people = chosen.n_treated + chosen.n_control
        interval, p_value = _decisive(experiment, comparison, planned_people, 1 - (1 - level) / treated_arms)
        comparisons[place] = replace(comparison, p_adjusted=float(np.minimum(1, treated_arms * p_value)))
        verdict = decide(
            interval,
            people=people,
            action=action,
            effect=f"the effect of the arm {comparison.arm}" if treated_arms > 1 else "the effect",
            what=_per_person(comparison),
            show=lambda x, width=interval.high - interval.low: show(x, width),  # type: ignore[misc]
            worth=needed[comparison.arm],
            lower_is_better=first.lower_is_better,
            enough=chosen.enough,
            largest_share=comparison.largest_share,
            people_per_day=people_per_day and people_per_day * people / len(experiment.arm),
            checks=(*of_outcomes, *of_people),  # what is wrong with an outcome makes the arms look unlike, too
        )
        verdicts[comparison.arm] = _guarded(verdict, action, [c for c in comparisons if c.arm == comparison.arm])
    sign = -1 if first.lower_is_better else 1
    over = {arm: sign * verdict.interval.estimate - needed[arm] for arm, verdict in verdicts.items()}
    few = {comparison.arm: not comparison.decisive.enough for comparison in comparisons[:treated_arms]}
    return Analysis(
        verdict=verdicts[min(verdicts, key=lambda arm: (few[arm], PROMISING.index(verdicts[arm].kind), -over[arm]))],
        verdicts=verdicts,
        comparisons=tuple(comparisons),
        checks=(*of_people, *of_outcomes),
        balance=balance,
        segments={} if first.per is not None else _segments(experiment, values[first.outcome], planned_people, level),
        arms=experiment.counts,
        left_out=experiment.left_out,
    )


def _compare(  # noqa: PLR0917 - all are needed
    experiment: Experiment,
    metric: Metric,
    code: int,
    values: Mapping[str, np.ndarray],
    planned_people: int | None,
    level: float,
) -> Comparison:
    treated, control = experiment.arm == code, experiment.arm == 0
    y = values[metric.outcome]
    either = y[treated | control]
    capped, cap, adjusted, reduction = None, np.inf, None, 0.0
    if metric.per is not None:
        x, kind = values[metric.per], "ratio"
        raw = difference_of_ratios(y[treated], x[treated], y[control], x[control], level=level)
        definition = f"the sum of {metric.outcome} divided by the sum of {metric.per}; people are the units"
    else:
        kind = "share" if np.isin(either, (0, 1)).all() else "amount"
        raw = difference_of_means(y[treated], y[control], level=level)
        counted = "people" if kind == "share" else f"{metric.outcome} per person"
        definition = f"share of people with {metric.outcome}" if kind == "share" else f"mean {counted}, zeros included"
        cap = cap_of(either) if kind == "amount" else np.inf
        if np.abs(either).max(initial=0) > cap:
            capped = difference_of_means(*(np.clip(y[rows], -cap, cap) for rows in (treated, control)), level=level)
        if metric.before:
            known = [as_numbers(experiment.rows[name], name=name, missing=np.nan) for name in metric.before]
            x = np.column_stack(known)
            adjusted = difference_adjusted(y[treated], y[control], x[treated], x[control], level=level)
            reduction = 1 - (adjusted.standard_error / raw.standard_error) ** 2
    found = Comparison(
        metric=metric,
        kind=kind,  # type: ignore[arg-type]
        definition=definition,
        arm=experiment.arms[code],
        control=experiment.arms[0],
        raw=raw,
        capped=capped,
        cap=cap,
        adjusted=adjusted,
        variance_reduction=reduction,
        running=None,
        p_adjusted=np.nan,
        largest_share=largest_share(either),
        detectable=detectable((adjusted or raw).standard_error, level=level),
    )
    return replace(found, running=_running(experiment, found, planned_people, level))


def _running(
    experiment: Experiment, comparison: Comparison, planned_people: int | None, level: float
) -> AlwaysValid | None:
    """What may be read at any time, by how many of all planned people are in the two arms; None without a plan."""
    planned = _planned(experiment, planned_people, comparison.raw.n_treated + comparison.raw.n_control)
    return None if planned is None else always_valid(comparison.decisive, planned_people=planned, level=level)


def _planned(experiment: Experiment, planned_people: int | None, some: int) -> int | None:
    """The part of all planned people that some have of the people so far; None without a plan."""
    return None if planned_people is None else planned_of(planned_people, some, len(experiment.arm))


def _decisive(
    experiment: Experiment, comparison: Comparison, planned_people: int | None, level: float
) -> tuple[Interval, float]:
    """The interval that a verdict follows, at another level than the comparison's own, and the p value that fits it."""
    running, found = _running(experiment, comparison, planned_people, level), comparison.decisive
    return (found.at(level), found.p_value) if running is None else (running.interval, running.p_value)


def _segments(
    experiment: Experiment, outcome: np.ndarray, planned_people: int | None, level: float
) -> dict[str, Segments]:
    """By treated arm: an outcome group by group."""
    if not experiment.segments:
        return {}
    groups, control = experiment.rows[list(experiment.segments)], experiment.arm == 0
    return {
        arm: segment_effects(
            outcome[treated],
            outcome[control],
            groups[treated],
            groups[control],
            arms=len(experiment.arms) - 1,
            planned_people=_planned(experiment, planned_people, int(treated.sum() + control.sum())),
            level=level,
        )
        for code, arm in enumerate(experiment.arms[1:], start=1)
        for treated in [experiment.arm == code]
    }


def _per_person(comparison: Comparison) -> str:
    """The metric as a sentence has it: an amount is one a person has."""
    told = comparison.metric.told
    return told if comparison.kind != "amount" or " per " in told else f"{told} per person"


def _corrected(comparisons: list[Comparison]) -> list[Comparison]:
    p = np.array([c.running.p_value if c.running else c.decisive.p_value for c in comparisons])
    known = ~np.isnan(p)
    if known.any():
        p[known] = false_discovery_control(p[known])
    return [replace(c, p_adjusted=float(q)) for c, q in zip(comparisons, p, strict=True)]


def _checks_of_people(experiment: Experiment, balance: tuple[Balance, ...], seed: int) -> tuple[Check, ...]:
    rows, arm = experiment.rows, experiment.arm
    return (
        checks.sample_ratio_by_segment(arm, rows[list(experiment.segments)]),  # tells where people were lost
        checks.sample_ratio(experiment.counts, experiment.shares),
        checks.balanced(balance),
        checks.assignment_foreseen(arm, rows[list(experiment.before)], seed=seed),
        *experiment.checks,
    )


def _checks_of_outcomes(
    experiment: Experiment, metrics: Sequence[Metric], values: Mapping[str, np.ndarray]
) -> tuple[Check, ...]:
    outcomes = {metric.outcome: values[metric.outcome] for metric in metrics}
    disguised = {}
    if experiment.before:
        disguised = checks.outcomes_in_disguise(outcomes, experiment.rows[list(experiment.before)])
    return tuple(
        check
        for name, outcome in outcomes.items()
        for check in (
            checks.leak(experiment.arm, outcome, experiment.arms, metric=name),
            *_missing(experiment, outcome, name),
            *([disguised[name]] if disguised else []),
        )
    )


def _missing(experiment: Experiment, outcome: np.ndarray, name: str) -> list[Check]:
    """The check of an outcome that some have not; none where no 0 is written, for what is missing is that 0."""
    missing = experiment.rows[name].isna().to_numpy()
    if not missing.any() or not (outcome[~missing] == 0).any():
        return []
    return [checks.outcome_missing(experiment.arm, missing, experiment.arms, metric=name)]


def _guarded(verdict: Verdict, action: str, comparisons: Sequence[Comparison]) -> Verdict:
    """The verdict on an arm, unless it surely makes a guardrail worse than is tolerated; less than that is told."""
    hit = [c for c in comparisons if c.metric.guardrail and c.harmful]
    if verdict.kind != "act" or not hit:
        return verdict
    first = max(hit, key=lambda c: _least_worse(c) > c.metric.tolerated)  # one that forbids, else any
    worse = first.decisive.interval.estimate
    size = f"{abs(worse) * 100:.2g} points" if first.kind == "share" else f"{abs(worse):.3g}"
    moved = f"It {'raises' if worse > 0 else 'lowers'} {first.metric.told} by {size}"
    if _least_worse(first) <= first.metric.tolerated:
        return replace(verdict, sentence=f"{verdict.sentence} {moved}.")
    gained = verdict.sentence.removeprefix(f"Act: {action}. ").rstrip(".")
    sentence = f"Do not: {action}. {moved}, which must not get worse. {gained}."
    return replace(verdict, kind="do not", sentence=sentence)


def _least_worse(comparison: Comparison) -> float:
    """By how much it is surely worse."""
    interval = comparison.interval
    return interval.low if comparison.metric.lower_is_better else -interval.high


def _named(column: pd.Series) -> pd.Series:
    """Names of arms: without spaces around them, whole numbers without their .0; missing or blank is no arm."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    codes, values = pd.factorize(column)  # what is missing has the code -1
    names = np.array([*(str(value).strip() or None for value in values), None], dtype=object)
    return pd.Series(names[codes], index=column.index)


def _arms(words: pd.Series, treatment: str, control: str | None) -> tuple[str, ...]:
    names = sorted(words.unique())
    if len(names) > MOST_ARMS:
        raise DataError(f"{treatment} has {len(names):,} values, such as {names[0]!r}; name the column of the arms.")
    if not names:
        raise DataError(f"{treatment} is empty; name the column of the arms.")
    if control is None and len(names) > 1:
        known = [name for name in names if name.strip().lower() in CONTROLS]
        if len(known) != 1:
            raise DataError(f"{treatment} has the arms {', '.join(names)}; say which is the control.")
        control = known[0]
    if control is not None and str(control) not in names:
        raise DataError(f"{treatment} has no arm {control!r}; it has {', '.join(names)}.")
    if len(names) < 2:
        raise DataError(f"{treatment} has one arm alone, {names[0]!r}; an experiment needs people treated and not.")
    return str(control), *(name for name in names if name != str(control))


def _is_of_ids(name: object, column: pd.Series) -> bool:
    """Whether it is called so, and most rows have one of their own, or it is an id: "customer" may say new or old."""
    called = str(name).strip().lower().replace(" ", "_")
    if called not in USERS:
        return False
    ids = column.nunique()
    return 2 * ids > len(column) or (called.endswith("_id") and ids > MOST_ARMS)


def _there(rows: pd.DataFrame, names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in rows]:
        raise DataError(f"no column {missing[0]!r}; there are {', '.join(map(str, rows.columns))}.")
    for name in names:
        first = rows[name].dropna().head(1)
        if not first.map(lambda value: isinstance(value, Hashable)).all():
            raise DataError(f"{name} holds lists or the like (first: {first.iloc[0]}); name a column of single values.")
