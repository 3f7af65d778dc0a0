"""Whether an experiment can be trusted at all: what must hold if people were assigned at random, checked first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import binomtest, chi2_contingency, chisquare, mannwhitneyu

from evaluation.classification import NOT_KNOWN
from evaluation.experiments.means import difference_of_means

ALARM = 0.001
"""A check fails below this p-value: one sound experiment in a thousand (Fabijan et al. 2019 use .0005 to .01)."""
TOLERATED_SHARE = 0.01
"""So many of the people may be in two arms, or treated before they were assigned; they are left out. So many of those
who have an outcome, and so much of its sum of squares, may be told by what was known before."""
LEAK_AUC = 0.75
"""No campaign separates its people from the control by their outcomes as well as this."""
ONE_SIDED = 20
"""An outcome that nobody of an arm has was not measured there, if so many were to be expected."""
SURELY_TOLD = 1e-6
"""Chance that so many people all have the outcome, below which they have it because of what they were picked by."""
NEARLY_EQUAL = 0.25
"""Arms whose sizes are so near to each other, as a share of their mean, were meant to be equal."""
SMALL_ARM = 0.05
"""An arm under this share of the largest has a plan of its own: the others' sizes are judged without it."""
FEW = 5
"""A chi-square needs so many expected people in each cell ..."""
MANY = 10
"""... and so many where sound arms may fail by it but once in a thousand."""
MOST_ROWS, TOO_FEW = 40_000, 50
"""As many people as the assignment is foreseen for, and, in half an arm, too few for it."""

Status = Literal["passed", "warning", "failed", "not checked"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: Of the check.
        status: A failed one replaces the verdict; a warning stands beside it.
        finding: What was found, in a sentence.
        remedy: What to do about it; empty where nothing is wrong.
        p_value: How often chance alone would look as bad; NaN where the check is no test.
        value: What was measured: a share, a count, an area under a curve.
    """

    name: str
    status: Status
    finding: str
    remedy: str = ""
    p_value: float = np.nan
    value: float = np.nan


@dataclass(frozen=True, slots=True)
class Balance:
    """One thing known before assignment, compared between a treated arm and the control.

    Attributes:
        column: What.
        arm: The treated arm.
        treated: Mean, or share of people with that word.
        control: The same of the control.
        standardised: The difference in standard deviations (Austin 2009); beyond .1 is worth a look.
        p_value: Of no difference.
    """

    column: str
    arm: str
    treated: float
    control: float
    standardised: float
    p_value: float


def sample_ratio(counts: Mapping[str, int], shares: Sequence[float] | None = None) -> Check:
    """Whether the arms have the sizes they were planned to have: a chi-square test (Fabijan et al. 2019).

    Where an arm is to have a few people each arm is held against all others by the binomial test.

    Without the plan, any usual one will do: equal arms, or steps of a tenth, a quarter, a third, or, with an arm under
    a fifth, a twentieth. If none fits, arms of nearly one size were meant to be equal and the check fails; others are
    only warned of, as their plan may be unusual. Where several arms are large, a far smaller one is left aside.

    Args:
        counts: People by arm.
        shares: Planned share of each arm, in the order of `counts`, of any sum.

    Example:
        >>> check = sample_ratio({"control": 9_800, "mail": 10_400}, [0.5, 0.5])
        >>> check.status, round(check.p_value, 6)
        ('failed', 2.4e-05)
        >>> sample_ratio({"control": 1_020, "mail": 8_980}).status
        'passed'
    """
    name, n = "sizes of the arms", np.array(list(counts.values()), dtype=np.float64)
    large = {arm: size for arm, size in counts.items() if size >= SMALL_ARM * n.max()}
    if shares is None and 2 <= len(large) < len(counts):
        return _beside_small(sample_ratio(large), {arm: size for arm, size in counts.items() if arm not in large})
    plans = _usual_plans(n) if shares is None else [np.asarray(shares, dtype=np.float64) / np.sum(shares)]
    planned = max(plans, key=lambda plan: _chance(n, plan))
    status: Status = "failed"
    if shares is None and _chance(n, planned) < ALARM:
        planned = plans[0]
        status = "failed" if np.abs(n / n.mean() - 1).max() < NEARLY_EQUAL else "warning"
    p = _chance(n, planned)
    told = ", ".join(
        f"{arm} {size:,} ({100 * size / n.sum():.1f} %, planned {100 * share:.1f} %)"
        for (arm, size), share in zip(counts.items(), planned, strict=True)
    )
    guessed = "" if shares is not None else " No plan was given; this usual one is taken."
    if p >= ALARM:
        return Check(name, "passed", f"{told}.{guessed}", p_value=p)
    finding = f"{told}: chance gives this in {_odds(p)}.{guessed}"
    remedy = "People were lost or added in one arm: find where, or say the planned shares if these are not them."
    return Check(name, status, finding, remedy, p_value=p)


def sample_ratio_by_segment(arm: np.ndarray, segments: pd.DataFrame) -> Check:
    """Whether each group of people has the arms in everybody's proportions: chi-square tests, Bonferroni-corrected.

    Args:
        arm: Code of each person's arm, int of shape (n,).
        segments: A column per attribute, a row per person.

    Example:
        >>> arm = np.tile([0, 1], 500)
        >>> halves = pd.DataFrame({"country": np.where(arm == 1, "DE", "AT")})
        >>> sample_ratio_by_segment(arm, halves).status
        'failed'
    """
    name = "sizes of the arms in each segment"
    if not len(segments.columns):
        return Check(name, "not checked", "No column of a few groups was named as known before.")
    total = np.bincount(arm)
    share = total / total.sum()
    found: list[tuple[float, str]] = []
    for column in segments:
        codes, groups = pd.factorize(segments[column], use_na_sentinel=False)
        counts = np.bincount(codes * len(total) + arm, minlength=len(groups) * len(total)).reshape(-1, len(total))
        for group, observed in zip(groups, counts, strict=True):
            judged = observed.sum() * share >= FEW
            if judged.sum() >= 2:
                seen, planned = observed[judged], share[judged] / share[judged].sum()
                those = NOT_KNOWN if pd.isna(group) else group
                found.append((_chance(seen, planned), f"{column} = {those}: {' to '.join(f'{n:,}' for n in seen)}"))
    if not found:
        return Check(name, "not checked", "No segment has people enough.")
    p, worst = min(found)
    p = min(1.0, p * len(found))
    if p >= ALARM:
        return Check(name, "passed", f"{len(found)} groups, none out of proportion.", p_value=p)
    return Check(
        name,
        "failed",
        f"{worst} people, out of the proportion of the arms: chance gives this in {_odds(p)}.",
        "Assignment depended on who people are: find the rule, and judge only people it did not touch.",
        p_value=p,
    )


def balance(arm: np.ndarray, before: pd.DataFrame, names: Sequence[str]) -> tuple[Balance, ...]:
    """What was known before assignment, between each treated arm and the control (arm 0).

    Args:
        arm: Code of each person's arm, int of shape (n,).
        before: Numbers, times or words known before, a row per person. Of words, the frequent ones; missing is a word.
        names: Of the arms.

    Example:
        >>> rows = balance(np.array([0, 0, 1, 1]), pd.DataFrame({"age": [30.0, 40, 31, 41]}), ["none", "mail"])
        >>> rows[0].column, rows[0].treated, round(rows[0].standardised, 2)
        ('age', 36.0, 0.2)
    """
    found = []
    for column, values in _numbers(before):
        for code in range(1, len(names)):
            treated, control = values[arm == code], values[arm == 0]
            spread = np.sqrt((treated.var() + control.var()) / 2)
            difference = difference_of_means(treated, control, alike=True)
            standardised = difference.interval.estimate / spread if spread > 0 else 0.0
            p = difference.p_value
            if np.isnan(p):  # the same for everybody of an arm: all alike, too few to tell, or the arm itself
                p = float(treated[0] == control[0] or min(len(treated), len(control)) < TOO_FEW)
            means = float(treated.mean()), float(control.mean())
            found.append(Balance(column, names[code], *means, float(standardised), p))
    return tuple(found)


def balanced(rows: Sequence[Balance]) -> Check:
    """Whether arms were alike before, from `balance`; p-values Bonferroni-corrected."""
    if not rows:
        return Check("alike before", "not checked", "Nothing known before assignment was named.")
    worst = min(rows, key=lambda row: row.p_value)
    p = min(1.0, worst.p_value * len(rows))
    told = f"{worst.column}: {worst.treated:.4g} in {worst.arm}, {worst.control:.4g} in the control"
    if p >= ALARM:
        compared = f"{len(rows)} comparison{'s' * (len(rows) > 1)}"
        return Check("alike before", "passed", f"{compared}; the furthest apart is {told}.", p_value=p)
    return Check(
        "alike before",
        "failed",
        f"{told}: chance gives this in {_odds(p)}.",
        "The arms were different people before anything was sent, and no effect can be read from them. If it is known "
        "only since then, leave it out of what was known before.",
        p_value=p,
        value=worst.standardised,
    )


def assignment_foreseen(arm: np.ndarray, before: pd.DataFrame, *, seed: int = 0) -> Check:
    """Whether small trees can foresee the assignment from what was known before: the propensity AUC must be near .5.

    Trees learn on one half of the people and are asked about the other, both ways. Whatever they learnt, under random
    assignment the asked half's scores are independent of its arms, so each area has exactly Mann and Whitney's null
    distribution; the smaller p-value is doubled, and Bonferroni-corrected over treated arms.

    Args:
        arm: Code of each person's arm, int of shape (n,); 0 is the control.
        before: Numbers, times or words known before, a row per person.
        seed: Of the halves and of which people are asked where there are very many.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> spend = pd.DataFrame({"spend": rng.gamma(1, 50, 4000)})
        >>> assignment_foreseen(rng.integers(2, size=4000), spend).status
        'passed'
        >>> targeted = (spend.spend.to_numpy() > 60) ^ (rng.random(4000) < 0.3)
        >>> assignment_foreseen(targeted.astype(int), spend).status
        'failed'
    """
    name = "assignment cannot be foreseen"
    columns = [values for _, values in _numbers(before)]
    found = []
    if columns:
        x = np.column_stack(columns)
        found = [half for code in range(1, int(arm.max()) + 1) for half in _foreseen(arm, x, code, seed)]
    if not found:
        return Check(name, "not checked", "Too few people, or nothing known before assignment was named.")
    p, area = min(found)
    p = min(1.0, p * len(found))
    told = f"Who is treated is foreseen from what was known before with an AUC of {area:.3f}; .5 is chance"
    if p >= ALARM:
        return Check(name, "passed", f"{told}.", p_value=p, value=area)
    return Check(
        name,
        "failed",
        f"{told}, which gives this in {_odds(p)}.",
        "People were chosen, not drawn: compare them by the off-policy estimates with known probabilities, or run an "
        "experiment that assigns at random.",
        p_value=p,
        value=area,
    )


def users_in_two_arms(n_in_two: int, n_users: int) -> Check:
    """Whether anybody was in two arms; they are left out.

    Example:
        >>> users_in_two_arms(3, 1000).status
        'warning'
    """
    return _tolerated(
        "nobody in two arms",
        n_in_two,
        n_users,
        "were in two arms",
        "Assign by the person's id, so that a person always meets the same arm.",
    )


def treated_before_assignment(n_before: int, n_users: int) -> Check:
    """Whether anybody was treated, or had the outcome, before they were assigned; they are left out.

    Example:
        >>> treated_before_assignment(300, 1000).status
        'failed'
    """
    return _tolerated(
        "nobody treated before assignment",
        n_before,
        n_users,
        "were treated before they were assigned",
        "Take the time of assignment, and count only what came after it.",
    )


def leak(arm: np.ndarray, outcome: np.ndarray, names: Sequence[str], *, metric: str) -> Check:
    """Whether the outcome decided the arm: it tells arms apart far too well, or nobody of an arm can have it.

    Args:
        arm: Code of each person's arm, int of shape (n,).
        outcome: Numbers, shape (n,).
        names: Of the arms.
        metric: Name of the outcome.

    Example:
        >>> bought = np.tile([0.0, 1.0], 100)
        >>> leak(bought.astype(int), bought, ["none", "mail"], metric="bought").status
        'failed'
    """
    name = f"{metric} did not decide the arm"
    remedy = "Assign before the outcome is known, and measure it in the same way in every arm."
    n = np.bincount(arm, minlength=len(names))
    having = np.bincount(arm, outcome != 0, minlength=len(names))
    expected = n * having.sum() / n.sum()
    for a in np.flatnonzero((having == 0) & (expected >= ONE_SIDED)).tolist():
        finding = f"Nobody in {names[a]} has {metric}, where about {expected[a]:,.0f} were to be expected."
        return Check(name, "failed", finding, remedy)
    area, leaks = 0.5, False
    for a, b in combinations(np.flatnonzero(n).tolist(), 2):
        test = mannwhitneyu(outcome[arm == b], outcome[arm == a], method="asymptotic")
        apart = max(found := test.statistic / (n[a] * n[b]), 1 - found)
        leaks |= bool(apart >= LEAK_AUC and test.pvalue < ALARM)  # a few people may lie apart by chance
        area = max(area, apart)
    told = f"{metric} alone tells the arms apart with an AUC of {area:.3f}"
    if leaks:
        return Check(name, "failed", f"{told}: more than a campaign can do.", remedy, value=float(area))
    possible = "a campaign can do" if area < LEAK_AUC else "chance can do with so few people"
    return Check(name, "passed", f"{told}; no more than {possible}.", value=float(area))


def outcome_missing(arm: np.ndarray, missing: np.ndarray, names: Sequence[str], *, metric: str) -> Check:
    """Whether the outcome is missing as often in each arm; it counts as 0, so that else an effect is made up.

    Args:
        arm: Code of each person's arm, int of shape (n,).
        missing: Of whom the outcome is not known, bool (n,).
        names: Of the arms.
        metric: Name of the outcome.

    Example:
        >>> outcome_missing(np.repeat([0, 1], 500), np.arange(1000) > 900, ["none", "mail"], metric="visit").status
        'failed'
    """
    name, n = f"{metric} is known of all", np.bincount(arm, minlength=len(names))
    unknown = np.bincount(arm, missing, minlength=len(names))
    share = float(unknown.sum() / n.sum())
    judged = n * min(share, 1 - share) >= FEW
    cells = np.array([unknown[judged], (n - unknown)[judged]])
    p = float(chi2_contingency(cells).pvalue) if judged.sum() >= 2 and cells.any(axis=1).all() else 1.0
    by_arm = ", ".join(f"{100 * unknown[a] / n[a]:.1f} % of {names[a]}" for a in np.flatnonzero(n).tolist())
    finding = f"{metric} is missing for {by_arm}, and counts as 0"
    if p < ALARM:
        status: Status = "failed" if share > TOLERATED_SHARE else "warning"
        remedy = "It was not measured alike in the arms: find out why. Write 0 for people from whom nothing came."
        return Check(name, status, f"{finding}: chance gives this in {_odds(p)}.", remedy, p, share)
    if share <= TOLERATED_SHARE:
        return Check(name, "passed", f"{finding}.", p_value=p, value=share)
    remedy = "Write 0 for people from whom nothing came, and leave out those of whom it is not known."
    return Check(name, "warning", f"{finding}.", remedy, p, share)


def outcomes_in_disguise(outcomes: Mapping[str, np.ndarray], before: pd.DataFrame) -> dict[str, Check]:
    """Whether something named as known before tells an outcome: all people who have it, or lack it, have the outcome.

    Corrected by such a column the effect is gone, or made up, though the arms look alike. Few such people, who may have
    been known to buy always, are only warned of: n of them in arms that look alike (|z| < 3.3) move the effect by up to
    3.3 sqrt(n) mean(y), of N people's standard error sqrt(sum y^2): with a hundredth of that sum, by a third of it.

    Args:
        outcomes: Numbers by name, shape (n,) each.
        before: Numbers or words, a row per person.

    Returns:
        By outcome.

    Example:
        >>> bought = np.tile([0.0, 0.0, 1.0], 100)
        >>> outcomes_in_disguise({"bought": bought}, pd.DataFrame({"orders": bought * 2}))["bought"].status
        'failed'
    """
    columns = _numbers(before)
    return {metric: _in_disguise(outcome, columns, metric) for metric, outcome in outcomes.items()}


def _in_disguise(outcome: np.ndarray, columns: Sequence[tuple[str, np.ndarray]], metric: str) -> Check:
    name = f"nothing known before tells {metric}"
    having, squared = outcome != 0, outcome.astype(float) ** 2
    share, told, most, finding = float(having.mean()), np.zeros_like(having), 0, ""
    for column, values in columns:
        for those, who in ((values != 0, "with"), (values == 0, "without")):
            n = int(those.sum())
            if n >= ONE_SIDED and share**n < SURELY_TOLD and having[those].all():
                told |= those
                if n > most:
                    most = n
                    finding = f"All {n:,} people {who} {column} have {metric}, of everybody {100 * share:.1f} %."
    if not most:
        return Check(name, "passed", "No column gives it away.")
    # Of an outcome whose largest values are capped, its people count rather than its squares.
    if max(squared[told].sum() / squared.sum(), told.sum() / having.sum()) > TOLERATED_SHARE:
        return Check(name, "failed", finding, "It is known only since then: leave it out of what was known before.")
    remedy = "If it is known only since then, leave it out of what was known before; so few hardly move the effect."
    return Check(name, "warning", finding, remedy)


def _tolerated(name: str, n_wrong: int, n_users: int, what: str, remedy: str) -> Check:
    share = n_wrong / max(n_users, 1)
    if not n_wrong:
        return Check(name, "passed", f"None of {n_users:,} people.", value=0.0)
    finding = f"{n_wrong:,} of {n_users:,} people ({100 * share:.1f} %) {what}; they are left out."
    return Check(name, "warning" if share <= TOLERATED_SHARE else "failed", finding, remedy, value=share)


def _beside_small(found: Check, small: Mapping[str, int]) -> Check:
    """What was found of the large arms, with those left aside."""
    told = ", ".join(f"{arm} ({size:,} people)" for arm, size in small.items())
    finding = f"{found.finding} Far smaller and left aside: {told}."
    if found.status != "passed" or min(small.values()) >= TOO_FEW:
        return replace(found, finding=finding)
    return replace(found, status="warning", finding=finding, remedy="So few people can hardly tell anything.")


def _usual_plans(n: np.ndarray) -> list[np.ndarray]:
    """Equal arms, and of each usual step the plan that these sizes come nearest to."""
    share = n / n.sum()
    plans = [np.full(len(n), 1 / len(n))]
    for steps in (10, 4, 3, 20) if share.min() < 0.2 else (10, 4, 3):
        whole = np.floor(share * steps)
        whole[np.argsort(whole - share * steps)[: int(steps - whole.sum())]] += 1  # the largest remainders
        if whole.all():
            plans.append(whole / steps)
    return plans


def _chance(seen: np.ndarray, planned: np.ndarray) -> float:
    """How often sizes lie as far from the planned shares; where few are expected exactly, Bonferroni-corrected."""
    n = int(seen.sum())
    if (planned * n).min() >= MANY:
        return float(chisquare(seen, planned * n).pvalue)
    p = min(binomtest(int(size), n, share).pvalue for size, share in zip(seen, planned, strict=True))
    return float(p if len(seen) == 2 else min(1.0, p * len(seen)))


def _odds(p: float) -> str:
    return "fewer than one case in a million" if p < 1e-6 else f"about one case in {1 / p:,.0f}"


def _numbers(before: pd.DataFrame) -> list[tuple[str, np.ndarray]]:
    """Columns as numbers, times as days: what is missing gets the mean and, as each frequent word, its own column."""
    columns: list[tuple[str, np.ndarray]] = []
    for name, values in before.items():
        if pd.api.types.is_datetime64_any_dtype(values) and values.notna().any():
            first = values.min()
            name, values = f"{name} (days since {first:%Y-%m-%d})", (values - first) / pd.Timedelta(days=1)  # noqa: PLW2901
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            x = values.astype(float)
            columns.append((str(name), x.fillna(x.mean() if x.notna().any() else 0.0).to_numpy()))
            if x.isna().any():
                columns.append((f"{name} missing", x.isna().to_numpy(dtype=float)))
        else:
            words = values.astype(str).where(values.notna(), "missing")
            frequent = words.value_counts().index[:20]
            columns += [(f"{name} = {word}", (words == word).to_numpy(dtype=float)) for word in frequent]
    return columns


def _foreseen(arm: np.ndarray, x: np.ndarray, code: int, seed: int) -> list[tuple[float, float]]:
    """A treated arm against the control, from columns (n, k): of each half the one-sided p-value and the area."""
    from lightgbm import LGBMClassifier  # noqa: PLC0415 - heavy, and in the training extra alone

    rng = np.random.default_rng([seed, code])
    rows = np.flatnonzero((arm == code) | (arm == 0))
    rows = rng.permutation(rows)[:MOST_ROWS]
    treated = arm[rows] == code
    if min(treated.sum(), (~treated).sum()) < 2 * TOO_FEW:
        return []
    x = x[rows]
    halves = np.array_split(np.arange(len(rows)), 2)
    found = []
    for learn, ask in (halves, halves[::-1]):
        trees = LGBMClassifier(
            n_estimators=40, num_leaves=8, learning_rate=0.1, min_child_samples=50, n_jobs=1, verbose=-1, seed=seed
        )
        score = np.asarray(trees.fit(x[learn], treated[learn]).predict_proba(x[ask]))[:, 1]
        test = mannwhitneyu(score[treated[ask]], score[~treated[ask]], alternative="greater", method="asymptotic")
        n = treated[ask].sum() * (~treated[ask]).sum()
        found.append((float(test.pvalue), float(test.statistic / n)))
    return found
