"""An audience beside everybody: its size, what it is expected to do, of whom it consists; as text, HTML or JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from evaluation.intervals import Interval
from evaluation.pages import render, write_report
from evaluation.units import Unit

Z_95 = 1.96
NO_CHANNEL = "no channel"
LITTLE = 0.05
"""A feature that moves the odds by less is not worth a line of the page."""
TEMPLATE = Path(__file__).with_name("audience.html.jinja")


@dataclass(frozen=True)
class Expected:
    """What some people are expected to do.

    Attributes:
        people: How many are asked about, those with a probability.
        share: Of them who will do it, with its interval; NaN where nobody is asked about.
    """

    people: int
    share: Interval

    @property
    def count(self) -> Interval:
        """How many will do it."""
        return self.share.scaled(self.people)


@dataclass(frozen=True)
class Outcome:
    """One label.

    Attributes:
        label: Its name.
        inside: Of the audience.
        everybody: Of everybody, the audience included.
        meaning: What it means to do it, in words.
    """

    label: str
    inside: Expected
    everybody: Expected
    meaning: str = ""

    @property
    def times(self) -> float:
        """How many times as likely as everybody the audience is to do it; NaN where that cannot be said."""
        usual = self.everybody.share.estimate
        return self.inside.share.estimate / usual if usual else np.nan


@dataclass(frozen=True)
class Spend:
    """What an audience is expected to spend.

    Attributes:
        currency: Of the money.
        horizon_days: Over which it comes.
        people: How many of the audience have ordered before; nothing is expected of the others.
        whole: What they spend together; the interval is how far such sums were off when the model was judged.
        mean: Of these people, a person.
        everybody: Of everybody who ordered before, a person.
    """

    currency: str
    horizon_days: int
    people: int
    whole: Interval
    mean: float
    everybody: float

    @classmethod
    def of(
        cls, inside: np.ndarray, everybody: np.ndarray, *, currency: str, horizon_days: int, off: tuple[float, float]
    ) -> Self:
        """From the values of each (NaN: nothing is expected).

        Args:
            inside: Of the audience.
            everybody: The audience included.
            currency: Of the values.
            horizon_days: Of the same.
            off: Between which multiples of what was expected came, when the model was judged.

        Example:
            >>> found = Spend.of(np.array([10.0, np.nan]), np.array([10.0, np.nan, 4.0]), currency="EUR",
            ...     horizon_days=90, off=(0.9, 1.2))
            >>> str(found.whole), found.people, found.everybody
            ('10.0000 [9.0000, 12.0000]', 1, 7.0)
        """
        of, usual = (values[~np.isnan(values)] for values in (inside, everybody))
        whole, (low, high) = float(of.sum()), off
        return cls(
            currency,
            horizon_days,
            len(of),
            Interval(whole, whole * min(low, 1.0), whole * max(high, 1.0), 0.95),
            float(of.mean()) if len(of) else np.nan,
            float(usual.mean()) if len(usual) else np.nan,
        )


@dataclass(frozen=True)
class Reason:
    """What sets the audience apart in one label.

    Attributes:
        label: Its name.
        feature: Which.
        inside: Its mean in the audience, or its most frequent word.
        everybody: The same of everybody.
        odds: Times as high are the odds of the audience because of it, by the model.
    """

    label: str
    feature: str
    inside: float | str
    everybody: float | str
    odds: float


@dataclass(frozen=True)
class Reach:
    """Who may be written to on a channel: it reaches them, and their last word was yes.

    Attributes:
        channel: Which; `no channel` = none of them.
        people: Of the audience.
        share: Of the audience; NaN if it is empty.
        everybody: Share of everybody.
    """

    channel: str
    people: int
    share: float
    everybody: float


@dataclass(frozen=True)
class Part:
    """A lifecycle stage or a named segment.

    Attributes:
        kind: `lifecycle` or `segment`.
        name: Which one.
        people: Of the audience who are in it.
        share: Of the audience; NaN of an empty one.
        everybody: Of everybody.
    """

    kind: str
    name: str
    people: int
    share: float
    everybody: float


@dataclass(frozen=True)
class Audience:
    """An audience beside everybody.

    Attributes:
        where: The expression that chose it.
        at: The day up to which everybody is known.
        versions: What scored them.
        size: People in it.
        everybody: People looked at.
        outcomes: One for each label.
        parts: Lifecycle stages, the most frequent first, then segments as the settings have them.
        spend: What it is expected to spend; None where no model tells it.
        reasons: What sets it apart, label by label, the strongest first.
        reach: By channel; none where the shop tells neither channels nor consents.
    """

    where: str
    at: str
    versions: tuple[str, ...]
    size: int
    everybody: int
    outcomes: tuple[Outcome, ...]
    parts: tuple[Part, ...]
    spend: Spend | None = None
    reasons: tuple[Reason, ...] = ()
    reach: tuple[Reach, ...] = ()

    @property
    def share(self) -> float:
        """Of everybody."""
        return self.size / max(self.everybody, 1)


def audience(
    rows: pd.DataFrame,
    held: np.ndarray,
    *,
    labels: Sequence[str],
    segments: Sequence[str] = (),
    calibration_error: Mapping[str, float] | None = None,
    meanings: Mapping[str, str] | None = None,
    where: str,
    at: str,
    versions: Sequence[str] = (),
    spend: Spend | None = None,
    reasons: Sequence[Reason] = (),
    reach: pd.DataFrame | None = None,
) -> Audience:
    """Describe those for whom `held` is true.

    Args:
        rows: Everybody, a row each: a column of probabilities for each label (NaN: not asked about), `lifecycle`, and
            one of yes or no for each segment.
        held: Who is in the audience, bool of shape (n,).
        labels: Columns of probabilities.
        segments: Columns of yes or no.
        calibration_error: By label, how far off its probabilities were measured to be on average; widens intervals.
        meanings: By label, what it means in words.
        where: The expression, to be shown.
        at: The day, to be shown.
        versions: What scored, to be shown.
        spend: What it is expected to spend.
        reasons: What sets it apart.
        reach: Whether each may be written to, a column for each channel, n rows in the order of `rows`.

    Example:
        >>> stages = ["lapsed", "lapsed", "loyal", "new"]
        >>> people = pd.DataFrame({"churn": [0.75, 0.75, 0.25, None], "lifecycle": stages})
        >>> held = people.churn.to_numpy() > 0.5
        >>> found = audience(people, held, labels=["churn"], where="churn > .5", at="2026-01-01")
        >>> found.size, found.outcomes[0].inside.count.estimate, [(p.name, p.share) for p in found.parts]
        (2, 1.5, [('lapsed', 1.0), ('loyal', 0.0), ('new', 0.0)])
    """
    inside, off, means = rows[held], calibration_error or {}, meanings or {}
    stages = rows["lifecycle"].value_counts()
    parts = [
        ("lifecycle", name, rows["lifecycle"] == name) for name in sorted(stages.index, key=lambda s: (-stages[s], s))
    ]
    parts += [("segment", name, rows[name]) for name in segments]
    size = len(inside)
    return Audience(
        where=where,
        at=at,
        versions=tuple(versions),
        size=size,
        everybody=len(rows),
        outcomes=tuple(
            Outcome(
                label,
                expected(inside[label].to_numpy(), calibration_error=off.get(label, 0.0)),
                expected(rows[label].to_numpy(), calibration_error=off.get(label, 0.0)),
                means.get(label, ""),
            )
            for label in labels
        ),
        parts=tuple(
            Part(kind, name, int(is_in[held].sum()), float(is_in[held].mean()), float(is_in.mean()))
            for kind, name, is_in in parts
        ),
        spend=spend,
        reasons=tuple(reasons),
        reach=() if reach is None else _reach(reach, held),
    )


def _reach(reach: pd.DataFrame, held: np.ndarray) -> tuple[Reach, ...]:
    channels = {str(name): reach[name].to_numpy(bool) for name in reach}
    if not channels:
        return ()
    channels[NO_CHANNEL] = ~np.column_stack(list(channels.values())).any(axis=1)
    return tuple(
        Reach(name, int(can[held].sum()), float(can[held].mean()) if held.any() else np.nan, float(can.mean()))
        for name, can in channels.items()
    )


def expected(probability: np.ndarray, *, calibration_error: float = 0.0) -> Expected:
    """How many of these people will do it: the mean of their probabilities, with a 95 % prediction interval.

    The number is a sum of yes and no with these chances (Poisson binomial), so its variance is the sum of p (1 - p).
    The interval is 1.96 standard deviations and the calibration error wide on each side: how far the model's
    probabilities are off on average, all in one direction at worst. Missing probabilities are left out.

    Example:
        >>> found = expected(np.full(10_000, 0.2), calibration_error=0.01)
        >>> print(found.share)
        0.2000 [0.1822, 0.2178]
    """
    p = probability[~np.isnan(probability)]
    if not len(p):
        return Expected(0, Interval.around(np.nan))
    mean, half = float(p.mean()), Z_95 * float(np.sqrt((p * (1 - p)).sum())) / len(p) + calibration_error
    return Expected(len(p), Interval(mean, max(0.0, mean - half), min(1.0, mean + half), 0.95))


def text(found: Audience) -> str:
    """The report as lines for a terminal."""
    lines = [
        f"{found.size:,} of {found.everybody:,} people ({found.share:.1%}) where {found.where}, known up to {found.at}"
    ]
    if not found.size:
        return f"{lines[0]}\nNobody is in it: ask for less in --where."
    for outcome in found.outcomes:
        if outcome.inside.people:
            count, share, usual = outcome.inside.count, outcome.inside.share, outcome.everybody.share
            lines.append(
                f"  {outcome.label}: {count.estimate:,.0f} [{count.low:,.0f}, {count.high:,.0f}] of "
                f"{outcome.inside.people:,} asked about, {share.estimate:.1%} against {usual.estimate:.1%} of everybody"
            )
        else:
            lines.append(f"  {outcome.label}: none of them is asked about")
    if found.spend:
        s = found.spend
        lines.append(
            f"  value: {s.whole.estimate:,.0f} [{s.whole.low:,.0f}, {s.whole.high:,.0f}] {s.currency} within "
            f"{s.horizon_days} days from {s.people:,} who ordered before, {s.mean:,.2f} each against {s.everybody:,.2f}"
        )
    lines += [f"  may be written to on {r.channel}: {r.people:,}, {r.share:.1%}" for r in found.reach]
    lines += [
        f"  {r.label} because {r.feature} is {told(r.inside)}, of everybody {told(r.everybody)}: odds x {r.odds:.2f}"
        for r in found.reasons
    ]
    lines += [
        f"  {part.kind} {part.name}: {part.people:,}, {part.share:.1%} against {part.everybody:.1%} of everybody"
        for part in found.parts
        if part.people
    ]
    return "\n".join(lines)


def told(value: float | str) -> str:
    """A feature's value as a reader takes it.

    Example:
        >>> told(1234.5678), told(0.123456), told("GB")
        ('1,230', '0.123', 'GB')
    """
    if isinstance(value, str):
        return value
    return "–" if np.isnan(value) else f"{float(f'{value:.3g}'):,g}"


def in_words(feature: str) -> str:
    """A feature's name as a reader takes it.

    Example:
        >>> in_words("days_since_event"), in_words("open_rate_email_90d")
        ('days since event', 'open rate email, last 90 days')
    """
    return re.sub(r" (\d+)d$", r", last \1 days", feature.replace("_", " "))


def metrics(found: Audience) -> dict[str, Interval]:
    """The numbers of the report by name: its size, and what each label's share and the spending are expected to be."""
    numbers = {"size": Interval.around(found.size), "share": Interval.around(found.share)}
    for outcome in found.outcomes:
        numbers |= {
            f"{outcome.label}.inside": outcome.inside.share,
            f"{outcome.label}.everybody": outcome.everybody.share,
        }
    numbers |= {f"reach.{r.channel}": Interval.around(r.share) for r in found.reach}
    return numbers | ({"spend": found.spend.whole} if found.spend else {})


def write(found: Audience, path: Path) -> None:
    """Write the report to a file, `.html` (one page that needs nothing else) or `.json`; same audience, same bytes.

    Raises:
        DataError: another suffix.
    """
    title = f"{found.size:,} people where {found.where}"
    write_report(
        path,
        page=lambda: render(
            TEMPLATE,
            a=found,
            groups=("lifecycle", "segment"),
            title=title,
            told=told,
            in_words=in_words,
            share=Unit("share"),
            amount=Unit("amount"),
            money=Unit("money", found.spend.currency if found.spend else ""),
            reasons=[r for r in found.reasons if abs(np.log(r.odds)) >= LITTLE],
        ),
        numbers=lambda: asdict(found),
    )
