"""The charts of the uplift report's page, each with its finding in words; empty where there is nothing to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evaluation.campaigns import Campaign
from evaluation.charts import Bar, Line, interval_chart, line_chart
from evaluation.experiments import Period, SegmentEffect
from evaluation.intervals import Interval
from evaluation.units import THOUSAND, Unit

if TYPE_CHECKING:
    from evaluation.uplift_report import Who

MOST_POINTS = 80
"""Of a line: more would only make the page large."""


def soon(campaign: Campaign) -> str:
    """How many have converted by when, arm by arm."""
    lines: list[Line] = []
    told: list[str] = []
    for arm, found in campaign.soon.items():
        if not len(found.days):
            continue
        kept = np.unique(np.linspace(0, len(found.days) - 1, MOST_POINTS).round().astype(int))
        day, at, low, high = (values[kept] for values in (found.days, found.converted, found.low, found.high))
        band = (low, high) if not lines else (None, None)
        lines.append(Line(arm, np.r_[0, day], np.r_[0, at], *(None if end is None else np.r_[0, end] for end in band)))
        told.append(f"{arm} {100 * found.converted[-1]:.1f} % by day {found.days[-1]:.0f}")
    if not lines:
        return ""
    return line_chart(
        lines,
        alt=f"People who have ordered: {', '.join(told)}.",
        x_title="days since the first decision",
        y_title="Share who have ordered",
        show_x=lambda x: f"{x:g}",
        show_y=lambda y: f"{100 * y:.3g} %",
    )


def segment(effects: list[SegmentEffect], unit: Unit, name: str) -> str:
    """A row a group; none where there are not two to hold against each other."""
    if sum(not e.small for e in effects) < 2:
        return ""
    bars = [
        Bar(e.group, i.estimate, i.low, i.high) if not e.small else Bar(e.group, np.nan, np.nan, np.nan)
        for e in effects
        for i in [e.interval]
    ]
    told = "; ".join(
        f"{e.group} " + ("too small to judge" if e.small else f"{unit.change(i)} ({unit.ends(i)})")
        for e in effects
        for i in [e.interval]
    )
    return interval_chart(
        bars, alt=f"Effect by {name}: {told}.", title=f"{name}: effect in {unit.name or 'its unit'}", show=unit.axis
    )


def tenths(found: Who) -> str:
    """Predicted and observed effects by place in the model's order."""
    bars = [Bar(name, g.observed.estimate, g.observed.low, g.observed.high, g.predicted) for name, g in found.parts]
    told = "; ".join(f"{name} {found.unit.change(g.observed)}" for name, g in found.parts)
    unit = f", {found.unit.name}" if found.unit.name else ""
    title = f"Effect on each person by place in the model's order{unit}: dot and line = observed, tick = predicted"
    return interval_chart(bars, alt=f"Observed effects: {told}.", title=title, show=found.unit.axis)


def curve(found: Who) -> str:
    """What is gained by the share contacted, in the model's order and in others."""
    curve = found.curve
    lines = [
        Line("the model's order", curve.share, curve.gain, curve.low, curve.high),
        Line("at random", curve.share, curve.random),
        *(Line(other.name, curve.share, other.gain) for other in found.others),
    ]
    third = int(np.searchsorted(curve.share, 0.3))
    half = (curve.high[third] - curve.low[third]) / 2
    ours, chance = (
        found.unit.change(Interval.around(gain[third], half), times=THOUSAND) for gain in (curve.gain, curve.random)
    )
    alt = f"With 30 % contacted the model's order gains {ours} per 1,000 people, chance {chance}."
    return _shares(found, lines, alt, None)


def share(found: Who) -> str:
    """The same of the model's order alone, with the best share marked."""
    curve = found.curve
    alt = f"The curve is highest with {100 * curve.best_share.estimate:.0f} % of the people contacted."
    band = Line(
        "gain, with a band that holds for all shares at once", curve.share, curve.gain, curve.band_low, curve.band_high
    )
    return _shares(found, [band, Line("at random", curve.share, curve.random)], alt, curve.best_share.estimate)


def _shares(found: Who, lines: list[Line], alt: str, mark: float | None) -> str:
    return line_chart(
        lines,
        alt=alt,
        x_title="share of the people contacted",
        y_title=f"Gained per 1,000 people{', ' if found.unit.currency else ''}{found.unit.currency}",
        show_x=lambda x: f"{100 * x:.0f} %",
        show_y=lambda y: found.unit.axis(y, times=THOUSAND),
        mark=mark,
    )


def so_far(periods: tuple[Period, ...], unit: Unit, arm: str, x_title: str) -> str:
    """The effect of an arm by what was known after each period."""
    known = [p for p in periods if np.isfinite(p.running.interval.low)]
    if len(known) < 2:
        return ""
    x = np.arange(len(known), dtype=np.float64)
    value, low, high = (
        np.array([getattr(p.running.interval, end) for p in known]) for end in ("estimate", "low", "high")
    )
    last = known[-1].running.interval
    return line_chart(
        [Line(f"{arm}, all so far", x, value, low, high)],
        alt=f"After {len(known)} periods the effect of {arm} is {unit.change(last)} ({unit.ends(last)}).",
        x_title=x_title,
        y_title=f"Effect{', ' if unit.name else ''}{unit.name}",
        show_x=lambda at: known[int(at)].start if float(at).is_integer() else "",
        show_y=unit.axis,
    )
