"""An experiment as one page for who decides: what to do, whether to believe it, for whom, how many, with which offer.

`UpliftReport` holds every number; `write` makes a page of it or its JSON twin, both with the same numbers. It knows no
models: `who` judges a ranking that comes from people it did not see, `evaluation.policies` the offers
(`training.uplift_report` puts all together).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from evaluation import uplift_charts
from evaluation.campaigns import Campaign, Measure
from evaluation.experiments import Analysis, Comparison, Period, Plan, Verdict
from evaluation.experiments.means import NO_AND_YES
from evaluation.intervals import Interval
from evaluation.pages import render, write_report
from evaluation.policies import PolicyComparison, PolicyGain
from evaluation.units import THOUSAND, Unit
from evaluation.uplift import (
    Area,
    Contrast,
    GainCurve,
    UpliftCalibration,
    UpliftGroup,
    by_decile,
    calibration,
    gain_curve,
    qini,
    rate,
    uplift_at,
)

TEMPLATE = Path(__file__).with_name("uplift_report.html.jinja")
SURE = 0.01
"""P value below which a ranking is said to find those who gain more; stricter than 5 %, as it is a second look."""
FIRST = tuple(tenth / 10 for tenth in range(1, 11))
"""Shares of the people, the first in the model's order."""
MOST_DAYS = 5
"""Of a table: a phone has no place for more."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """How much is gained by contacting people in another order.

    Attributes:
        name: Of the order.
        gain: Extra outcome per person of all when the first are contacted, at the shares of the curve, (101,).
        behind: What the model's order gains more, on average over all shares, paired.
    """

    name: str
    gain: np.ndarray
    behind: Area


@dataclass(frozen=True, eq=False)
class Who:
    """How well a model tells who gains from one arm.

    Attributes:
        arm: Which.
        unit: Of the gains: the outcome's, or money after cost.
        tenths: The effect in tenths of the people, those with the highest predictions first.
        calibration: Predicted against observed effects.
        curve: What is gained by the share contacted.
        areas: Qini, AUTOC and RATE-Qini.
        others: Other orders of the same people.
        first: The effect among the first in the model's order, at each of `FIRST`.
        choice_pays: Whether what the model chooses for each person was found to be worth more than one arm for all: of
            a few who lose by it the whole order may tell too little.
    """

    arm: str
    unit: Unit
    tenths: tuple[UpliftGroup, ...]
    calibration: UpliftCalibration
    curve: GainCurve
    areas: tuple[Area, ...]
    others: tuple[Ranking, ...]
    first: tuple[UpliftGroup, ...]
    choice_pays: bool = False

    @property
    def differ(self) -> bool:
        """Whether people were found to differ as predicted."""
        return self.curve.above_random < SURE

    @property
    def parts(self) -> tuple[tuple[str, UpliftGroup], ...]:
        """The tenths by their place in the model's order, such as `10 to 20 %`; whom it puts level are in one."""
        ends = np.r_[0, np.cumsum([group.n for group in self.tenths])]
        shares = 100 * ends / ends[-1]
        return tuple(
            (f"{start:.0f} to {end:.0f} %", group)
            for start, end, group in zip(shares[:-1], shares[1:], self.tenths, strict=True)
            if np.isfinite(group.observed.low)
        )

    @property
    def sentence(self) -> str:
        """The finding in words."""
        if not self.differ and self.choice_pays:
            return (
                "The model's order as a whole is not shown to be better than one at random, but what it chooses for "
                "each person is shown to be worth more than one choice for all."
            )
        if not self.differ:
            return (
                f"No difference between people was found: choosing whom to send {self.arm} is not shown to be better "
                "than choosing at random. Decide for everybody alike."
            )
        people = sum(group.n for group in self.tenths)
        (first, gained), (last, lost) = (
            (f"{100 * part.n / people:.0f} %", f"{self.unit.change(part.observed)} ({self.unit.ends(part.observed)})")
            for _, part in (self.parts[0], self.parts[-1])
        )
        return f"People differ. The first {first} in the model's order gain {gained} each, the last {last} {lost}."

    @property
    def how_many(self) -> str:
        """What share to contact, in words."""
        best, spared = self.curve.best_share, self.curve.over_all
        estimate, low, high = (f"{100 * share:.0f}" for share in (best.estimate, best.low, best.high))
        told = f"{estimate} % ({low} to {high} % in 95 % of resamples)"
        if not self.differ and self.choice_pays:
            return "As many as the model chooses: its order as a whole does not tell a better share."
        if not self.differ:
            return "Everybody or nobody: no part of the people was found to be better to contact than the others."
        change, ends = self.unit.change(spared, times=THOUSAND), self.unit.ends(spared, times=THOUSAND)
        if best.estimate == 1 or spared.low <= 0:
            return (
                f"The most is gained with {told} of the people, but contacting everybody is not shown to be worse: "
                f"{change} per 1,000 people ({ends})."
            )
        gained = self.curve.best_gain
        if gained.low <= 0 and not self.choice_pays:
            change, ends = self.unit.change(gained, times=THOUSAND), self.unit.ends(gained, times=THOUSAND)
            return (
                f"The most is gained with {told} of the people, but contacting them is not shown to be better than "
                f"contacting nobody: {change} per 1,000 people ({ends})."
            )
        return f"Contact {told} of the people: leaving out the others gains {change} per 1,000 people ({ends})."


@dataclass(frozen=True, eq=False)
class Offers:
    """Policies side by side, the model's first, judged by one outcome.

    Attributes:
        outcome: Which.
        unit: Of the values.
        found: The comparison.
        chooser: Whose choice it is, such as "what the usual rule chooses".
    """

    outcome: str
    unit: Unit
    found: PolicyComparison
    chooser: str = "choosing for each person"

    @property
    def pays(self) -> bool:
        """Whether the model's choice was found to be worth more than that policy."""
        return self.best_single is not None and self.best_single.gain.low > 0

    @property
    def best_single(self) -> PolicyGain | None:
        """The model's gain over the best policy that sends one arm to all; None if none can be judged."""
        single = {row.name: row.value.estimate for row in self.found.rows if max(row.shares.values()) == 1}
        gains = [gain for gain in self.found.gains if np.isfinite(single.get(gain.against, np.nan))]
        return max(reversed(gains), key=lambda gain: single[gain.against], default=None)  # of equals, the plainest

    @property
    def sentence(self) -> str:
        """The finding in words."""
        gain = self.best_single
        if gain is None or not np.isfinite(gain.gain.estimate):
            return "The experiment cannot tell what choosing for each person is worth."
        i, told = gain.gain, self._told(gain.gain)
        if gain.differently_treated == 0:
            return f"{self._upper} comes to the same as “{gain.against}”.{self._better}"
        if i.low > 0:
            return f"{self._upper} is worth {told} more in {self.outcome} than “{gain.against}”.{self._better}"
        if gain.of_all.high < 0:
            told = self._told(gain.of_all)
            return f"{self._upper} is worth less in {self.outcome} than “{gain.against}”: {told}."
        return f"{self._upper} is not shown to beat “{gain.against}” in {self.outcome}: {told}.{self._better}"

    @property
    def _upper(self) -> str:
        return self.chooser[:1].upper() + self.chooser[1:]

    @property
    def _better(self) -> str:
        """Names what does better than the model; of many policies one looks so by chance, so all are counted."""
        better = [gain for gain in self.found.gains if gain.of_all.high < 0]
        return "".join(f" “{gain.against}” does better: {self._told(gain.of_all)}." for gain in better)

    def _told(self, gain: Interval) -> str:
        change, ends = (tell(gain, times=THOUSAND) for tell in (self.unit.change, self.unit.ends))
        return f"{change} per 1,000 people ({ends})"


@dataclass(frozen=True, slots=True)
class Profit:
    """What one arm earns after cost, per person contacted, against leaving them alone.

    Attributes:
        arm: Which.
        margin: Share of the money that is earned, or what one outcome is worth.
        cost: Per person.
        profit: margin x effect - cost.
    """

    arm: str
    margin: float
    cost: float
    profit: Interval


@dataclass(frozen=True)
class Run:
    """What a report was made of, so that it can be made again.

    Attributes:
        source: Name of the file.
        sha256: Of its bytes.
        rows: In it.
        version: Of Attune.
        options: As given.
    """

    source: str
    sha256: str
    rows: int
    version: str
    options: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class UpliftReport:
    """Everything on the page.

    Attributes:
        analysis: Checks, verdicts, comparisons and segments; the first metric decides.
        units: By metric, in the order of the comparisons.
        profits: By arm; none without a cost.
        who: For the arm that the verdict is about; None where it was left out.
        offers: None, or by the outcome that was learnt, and by others.
        tree: A policy of two questions in words, learnt from everybody; empty where it was left out.
        periods: By arm, where there is a date.
        left_out: Why there is no "who", "how many" and "which offer"; empty where there is.
        notes: Limits of this run.
        run: What it was made of.
        plans: How many people it would take to decide, where the data did not.
        campaign: What else is known of decisions that were logged; None of a table of an experiment.
        earned: What the arm of the verdict brings more than other treated arms, metric by metric.
        kept: The same after cost, by the other arm; none without a cost.
        currency: Of profits and costs; may be empty.
    """

    analysis: Analysis
    units: Mapping[str, Unit]
    profits: tuple[Profit, ...]
    who: Who | None
    offers: tuple[Offers, ...]
    tree: str
    periods: Mapping[str, tuple[Period, ...]]
    left_out: str
    notes: tuple[str, ...]
    run: Run
    plans: tuple[Plan, ...] = ()
    campaign: Campaign | None = None
    earned: tuple[Comparison, ...] = ()
    kept: Mapping[str, Interval] = field(default_factory=dict)
    currency: str = ""

    @property
    def verdict(self) -> Verdict:
        """What to do."""
        return self.analysis.verdict

    @property
    def arm(self) -> str:
        """That the verdict is about."""
        return next(arm for arm, verdict in self.analysis.verdicts.items() if verdict is self.analysis.verdict)

    @property
    def sentence(self) -> str:
        """The verdict in words; where there are costs, with what it comes to after them."""
        told = self.verdict.sentence
        if self.verdict.kind == "not to be trusted" or not self.headline[0].decisive.enough:
            return told
        for profit in (p.profit for p in self.profits if p.arm == self.arm):
            change, ends = (tell(profit, times=THOUSAND) for tell in (self.money.change, self.money.ends))
            told = f"{told} After cost that is {change} per 1,000 people ({ends})."
        return told + self._chosen

    @property
    def _chosen(self) -> str:
        """Where doing it to everybody is not what to do, what choosing is worth, if it surely is worth something."""
        if self.verdict.kind == "act" or self.campaign or not (self.who and self.who.differ and self.offers):
            return ""
        if not self.offers[0].pays:
            return ""
        told = self.offers[0].sentence
        return f" But people differ: {told[:1].lower()}{told[1:]}"

    @property
    def money(self) -> Unit:
        """In which profits are."""
        return Unit("money", self.currency)

    @property
    def headline(self) -> tuple[Comparison, ...]:
        """The numbers of that arm, one for each metric."""
        return tuple(c for c in self.analysis.comparisons if c.arm == self.arm)

    def called(self, arm: str) -> str:
        """An arm as readers know it."""
        return arm_name(arm, self.run.options.get("treatment", ""))

    def unit(self, comparison: Comparison) -> Unit:
        """Of one comparison."""
        return self.units[comparison.metric.told]


def arm_name(arm: str, treatment: str) -> str:
    """An arm as readers know it: a bare number, a yes or a no is told with its column.

    Example:
        >>> arm_name("1", "mailed"), arm_name("False", "mailed"), arm_name("Mens", "mailed")
        ('mailed 1', 'mailed False', 'Mens')
    """
    return f"{treatment} {arm}".strip() if arm.isdecimal() or any(arm in words for words in NO_AND_YES) else arm


def who(
    people: Contrast,
    score: np.ndarray,
    *,
    arm: str,
    unit: Unit,
    others: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> Who:
    """Judge a ranking of people by what one arm changes for them.

    Args:
        people: The experiment, that arm against the control; of profits where there are costs.
        score: Predicted effects by a model that did not see the person, (n,).
        arm: Its name.
        unit: Of the outcome.
        others: Name -> another order of the same people, the highest first, (n,).
        seed: Of the resamples.
    """
    return Who(
        arm=arm,
        unit=unit,
        tenths=by_decile(people, score),
        calibration=calibration(people, score),
        curve=gain_curve(people, score, seed=seed),
        areas=(
            qini(people, score, seed=seed),
            rate(people, score, seed=seed),
            rate(people, score, weighting="rate_qini", seed=seed),
        ),
        others=tuple(
            Ranking(
                name,
                gain_curve(people, order, resamples=2, seed=seed).gain,
                rate(people, score, weighting="rate_qini", against=order, seed=seed),
            )
            for name, order in (others or {}).items()
        ),
        first=tuple(uplift_at(people, score, share) for share in FIRST),
    )


def text(report: UpliftReport) -> str:
    """The findings as lines for a terminal."""
    lines = [report.sentence]
    lines += [f"  {check.status}: {check.name}" for check in report.analysis.checks if check.status != "passed"]
    for c in report.analysis.comparisons:
        i, unit = c.interval, report.unit(c)
        doubt = f"; {c.doubt}" if c.doubt else ""
        lines.append(f"  {c.metric.told}, {report.called(c.arm)}: {unit.change(i)} ({unit.ends(i)}){doubt}")
    money = report.money
    believed = {c.arm: c.decisive.enough for c in reversed(report.analysis.comparisons)}  # of the first metric
    for p in report.profits:
        change, ends = (tell(p.profit, times=THOUSAND) for tell in (money.change, money.ends))
        told = f"{change} ({ends}) after cost per 1,000 people" if believed[p.arm] else "too few people to tell profit"
        lines.append(f"  {report.called(p.arm)}: {told}")
    if report.who:
        lines += [f"  {report.who.sentence}", f"  {report.who.how_many}"]
    lines += [f"  {offers.sentence}" for offers in report.offers]
    return "\n".join(lines)


def metrics(report: UpliftReport) -> dict[str, Interval]:
    """The numbers of a report by name: each metric's change by arm, profits, the model's order and choice.

    Example: `profit_per_person.usual` is the change of that metric in the arm `usual`.
    """
    found = {f"{c.metric.told}.{c.arm}": c.interval for c in report.analysis.comparisons}
    found |= {f"{c.metric.told}.{c.arm}_against_{c.control}": c.interval for c in report.earned}
    found |= {f"profit_after_cost.{p.arm}": p.profit for p in report.profits}
    found |= {f"profit_after_cost.{report.arm}_against_{other}": profit for other, profit in report.kept.items()}
    found |= {area.name: area.value for area in report.who.areas} if report.who else {}
    for offers in report.offers:
        found |= {f"{offers.outcome}.more than {gain.against}": gain.gain for gain in offers.found.gains}
    return found


def write(report: UpliftReport, path: Path) -> None:
    """Write a page that needs nothing else, `.html`, or all its numbers, `.json`; same report, same bytes.

    Raises:
        DataError: another suffix.
    """
    write_report(path, page=lambda: _html(report), numbers=lambda: _numbers(report))


def _numbers(report: UpliftReport) -> dict[str, object]:
    return {
        "sentences": {
            "verdict": report.sentence,
            "who": report.who.sentence if report.who else report.left_out,
            "how_many": report.who.how_many if report.who else report.left_out,
            "which_offer": [offers.sentence for offers in report.offers],
        }
    } | asdict(report)


def _html(report: UpliftReport) -> str:
    segments = [
        (arm, name, found.differ[name], [e for e in found.effects if e.attribute == name])
        for arm, found in report.analysis.segments.items()
        if arm == report.arm and report.verdict.kind != "not to be trusted"
        for name in found.differ
    ]
    return render(
        TEMPLATE,
        title=f"{_title(report)}: {report.verdict.kind}",
        heading=_title(report),
        r=report,
        width="52rem",
        thousand=THOUSAND,
        money=report.money,
        segments=[(arm, name, differ, told) for arm, name, differ, told in segments if not all(e.small for e in told)],
        guessed=any(e.shrunken for _, _, _, told in segments for e in told),
        few=[name for _, name, _, told in segments if all(e.small for e in told)],
        measures=_by_group(report.campaign) if report.campaign else [],
        charts=uplift_charts,
        soon_days=_soon_days(report.campaign) if report.campaign else [],
        shares=[round(100 * share) for share in FIRST],
        Interval=Interval,
        rounded=_rounded,
        inf=np.inf,
    )


def _title(report: UpliftReport) -> str:
    if report.campaign:
        return report.campaign.about.partition(":")[0]
    metric = report.headline[0].metric.told
    each = report.called(report.arm) if len(report.analysis.verdicts) == 1 else "each arm"
    return f"{metric[:1].upper()}{metric[1:]}: what {each} changed"


def _by_group(campaign: Campaign) -> list[tuple[str, list[str], list[tuple[Measure, Unit, list[Measure]]]]]:
    """By attribute: the groups, and each measure of everybody, its unit, and those of the groups."""
    whole = {m.name: m for m in campaign.measures if not m.attribute}
    found = []
    for attribute in dict.fromkeys(m.attribute for m in campaign.measures if m.attribute) or [""]:
        groups = list(dict.fromkeys(m.group for m in campaign.measures if m.attribute == attribute and attribute))
        told = {(m.name, m.group): m for m in campaign.measures if m.attribute == attribute}
        rows = [(m, Unit(m.unit, campaign.currency), [told[name, g] for g in groups]) for name, m in whole.items()]
        found.append((attribute, groups, rows))
    return found if whole else []


def _soon_days(campaign: Campaign) -> list[int]:
    """Days at which shares of converted people are told."""
    last = max((float(found.days[-1]) for found in campaign.soon.values() if len(found.days)), default=0.0)
    within = [day for day in (1, 3, 7, 14, 30, 60, 90, 180, 365) if day <= max(last, 1) + 0.5]
    kept = np.unique(np.linspace(0, len(within) - 1, MOST_DAYS).round().astype(int))
    return [within[place] for place in kept]


def _rounded(count: float) -> str:
    """A count that is only about right: two digits of it."""
    return f"{float(f'{count:.2g}'):,.0f}"
