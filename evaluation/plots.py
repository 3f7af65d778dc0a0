"""Pictures of what was measured, as PNG files: the title is the finding, intervals drawn, colours for every eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data.files import replacing
from evaluation.classification import Decile, GroupQuality, calibration_bins
from evaluation.drift import Drift, Verdict
from evaluation.importance import PartialDependence
from evaluation.intervals import Interval, wilson
from evaluation.value import ValueDecile

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#767676"
"""From the palette of Okabe and Ito, told apart by everybody; grey for what is not the finding."""


def calibration_curve(path: Path, label: np.ndarray, probability: np.ndarray, *, what: str) -> None:
    """What was predicted against what happened, in bins of equal mass with 95 % intervals (Wilson 1927).

    Args:
        path: The PNG file.
        label: 0 or 1, shape (n,).
        probability: In [0, 1], shape (n,).
        what: What is predicted, for the axis: "no order within 90 days".
    """
    bins = calibration_bins(probability)
    n = np.bincount(bins)
    predicted, happened = np.bincount(bins, probability) / n, np.bincount(bins, label) / n
    shares = [wilson(int(did), int(of)) for did, of in zip(np.bincount(bins, label), n, strict=True)]
    low, high = np.array([[share.low, share.high] for share in shares]).T
    within = int(((low <= predicted) & (predicted <= high)).sum())
    figure, axes = _panel(f"{within} of {len(n)} groups happened as often as predicted")
    top = 100 * min(1.0, 1.1 * max(predicted.max(), high.max()))
    axes.plot([0, top], [0, top], color=GREY, linestyle="--", linewidth=1, label="as predicted")
    errors = 100 * np.abs(np.stack([happened - low, high - happened]))
    axes.errorbar(100 * predicted, 100 * happened, yerr=errors, fmt="o", color=BLUE, capsize=3, label="what happened")
    axes.set(xlabel=f"predicted: {what} (% of people)", ylabel="happened (% of people)", xlim=(0, top), ylim=(0, top))
    axes.legend(frameon=False)
    _write(figure, path)


def lift_chart(path: Path, tenths: Sequence[Decile], *, what: str) -> None:
    """The rate in each tenth of the people over everybody's, the highest probabilities first, with intervals."""
    lift = np.array([tenth.lift.estimate for tenth in tenths])
    ends = np.array([[tenth.lift.low, tenth.lift.high] for tenth in tenths]).T
    figure, axes = _panel(f"The first tenth does it {lift[0]:.1f} times as often as everybody")
    ranks = [tenth.rank for tenth in tenths]
    axes.bar(ranks, lift, color=BLUE, width=0.7)
    axes.errorbar(ranks, lift, yerr=np.abs(ends - lift), fmt="none", color="black", capsize=3)
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1)
    axes.set(xlabel="tenth of the people, the highest probabilities first", ylabel=f"{what}: times everybody's rate")
    axes.set_xticks(ranks)
    _write(figure, path)


def gains_curve(path: Path, tenths: Sequence[Decile], *, what: str) -> None:
    """Who is reached: of all that do it, the share among the first tenths of the people, with intervals.

    Beside it what drawing people at random would reach, and what knowing everybody's answer would.
    """
    sizes = [tenth.n for tenth in tenths]
    people = 100 * np.cumsum([0, *sizes]) / sum(sizes)
    reached = 100 * np.array([[0.0] * 3, *([t.capture.estimate, t.capture.low, t.capture.high] for t in tenths)])
    third = int(np.searchsorted(people, 30))
    figure, axes = _panel(
        f"The first {people[third]:.0f} % of the people hold {reached[third, 0]:.0f} % of those who do it"
    )
    rate = 100 * float(np.average([tenth.rate for tenth in tenths], weights=sizes))
    axes.plot([0, rate, 100], [0, 100, 100], color=GREY, linestyle=":", linewidth=1, label="everybody's answer known")
    axes.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1, label="at random")
    axes.fill_between(people, reached[:, 1], reached[:, 2], color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(people, reached[:, 0], "o-", color=BLUE, label="by probability")
    axes.set(xlabel="people, the highest probabilities first (%)", ylabel=f"{what}: found so far (%)")
    axes.legend(frameon=False, loc="lower right")
    _write(figure, path)


def score_distribution(path: Path, label: np.ndarray, probability: np.ndarray, *, what: str) -> None:
    """How probable it was for those who then did it and for those who did not, as shares of each."""
    did, did_not = probability[label == 1], probability[label == 0]
    medians = [f"{100 * np.median(group):.0f} %" if len(group) else "nothing" for group in (did, did_not)]
    figure, axes = _panel(
        f"Half of those who did it were given over {medians[0]}, half of the others over {medians[1]}"
    )
    edges = np.linspace(0, 100 * max(float(probability.max()), 0.01), 31).tolist()
    for group, color, name in ((did_not, GREY, "did not"), (did, BLUE, "did")):
        if len(group):
            share = np.full(len(group), 100 / len(group))
            axes.hist(100 * group, bins=edges, weights=share, color=color, alpha=0.6, label=f"{name} ({len(group):,})")
    axes.set(xlabel=f"predicted: {what} (%)", ylabel="share of the group (%)")
    axes.legend(frameon=False)
    _write(figure, path)


def groups_chart(path: Path, groups: Sequence[GroupQuality], *, what: str) -> None:
    """What happened in each group of people, with its interval, beside what was predicted; small groups left out.

    Orange where the prediction is surely too high or too low, which one of twenty groups is by chance.
    """
    large = [group for group in groups if not group.small]
    off = [group.calibration_gap.low > 0 or group.calibration_gap.high < 0 for group in large]
    figure, axes = _panel("", height=1.4 + 0.28 * len(large))
    title = f"{sum(off)} of {len(large)} groups are surely predicted too high or too low"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    for row, (group, wrong) in enumerate(zip(large, off, strict=True)):
        i, color = group.rate, ORANGE if wrong else BLUE
        _dot(axes, -row, i.scaled(100.0), color)
        axes.plot(100 * group.mean_probability, -row, "|", color="black", markersize=11, markeredgewidth=2)
    for color, name in ((BLUE, "happened"), (ORANGE, "surely not as predicted")):
        axes.plot([], [], "o-", color=color, label=name)
    axes.plot([], [], "|", color="black", markersize=11, markeredgewidth=2, label="predicted")
    axes.set_yticks([-row for row in range(len(large))], [f"{g.attribute}: {g.group} ({g.n:,})" for g in large])
    axes.set_xlabel(f"{what} (% of the group)")
    figure.legend(frameon=False, loc="outside lower left", ncols=3)
    _write(figure, path)


def value_by_decile_chart(path: Path, tenths: Sequence[ValueDecile], *, what: str) -> None:
    """What each tenth of the customers brought on average, with its interval, beside what was expected of it."""
    came = np.array([[tenth.came.estimate, tenth.came.low, tenth.came.high] for tenth in tenths]).T
    ranks = [tenth.rank for tenth in tenths]
    figure, axes = _panel(f"The first {tenths[0].n:,} customers brought {tenths[0].share:.0%} of the money")
    axes.bar(ranks, came[0], color=BLUE, width=0.7, label="came")
    axes.errorbar(ranks, came[0], yerr=np.abs(came[1:] - came[0]), fmt="none", color="black", capsize=3)
    axes.plot(ranks, [tenth.expected for tenth in tenths], "D", color=ORANGE, label="expected")
    axes.set(xlabel="tenth of the customers, those of whom most is expected first", ylabel=f"{what}, a customer")
    axes.set_xticks(ranks)
    axes.legend(frameon=False)
    _write(figure, path)


def value_calibration(path: Path, groups: Sequence[ValueDecile], *, what: str) -> None:
    """What was expected of groups of customers against what they brought, with intervals, on logarithmic axes."""
    shown = [group for group in groups if group.expected > 0 and group.came.estimate > 0]
    known = [group for group in groups if not np.isnan(group.came.low)]
    within = sum(group.came.low <= group.expected <= group.came.high for group in known)
    figure, axes = _panel(f"{within} of {len(known)} groups brought what was expected")
    if shown:
        expected = np.array([group.expected for group in shown])
        came = np.array([[group.came.estimate, group.came.low, group.came.high] for group in shown]).T
        axes.errorbar(expected, came[0], yerr=np.abs(came[1:] - came[0]), fmt="o", color=BLUE, capsize=3, label="came")
        ends = [min(expected.min(), came[0].min()), max(expected.max(), came[0].max())]
        axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1, label="as expected")
        axes.set(xscale="log", yscale="log")
        axes.legend(frameon=False)
    axes.set(xlabel=f"expected: {what}, a customer", ylabel=f"came: {what}, a customer")
    _write(figure, path)


def comparison(path: Path, intervals: Mapping[str, Interval], *, metric: str, highlight: str | None = None) -> None:
    """Each contestant's value with its interval, the highest on top; `highlight` is drawn in the second colour.

    Raises nothing for values that could not be measured: they are left out.
    """
    known = {name: i for name, i in intervals.items() if not np.isnan(i.estimate)}
    order = sorted(known, key=lambda name: known[name].estimate)
    title = f"{order[-1]} is highest in {metric}" if order else f"{metric} could not be measured"
    figure, axes = _panel(title, height=1.4 + 0.4 * len(order))
    for row, name in enumerate(order):
        i = known[name]
        color = ORANGE if name == highlight else BLUE
        _dot(axes, row, i, color, marker="s" if name == highlight else "o")
    axes.set_yticks(range(len(order)), order)
    level = f" with its {100 * known[order[0]].level:.0f} % interval" if order else ""
    axes.set_xlabel(metric + level)
    _write(figure, path)


def gains(path: Path, differences: Mapping[str, Interval], *, metric: str, over: str) -> None:
    """Each contestant's paired gain over one of them, the highest on top; grey where the interval holds zero.

    Args:
        path: The PNG file.
        differences: Name -> its metric minus that of `over`, on the same people.
        metric: "NDCG@20".
        over: Whom they are compared with.
    """
    order = sorted(differences, key=lambda name: differences[name].estimate)
    better = sum(differences[name].low > 0 for name in order)
    figure, axes = _panel(f"{better} of {len(order)} surely beat {over} in {metric}", height=1.4 + 0.4 * len(order))
    axes.axvline(0, color=GREY, linestyle="--", linewidth=1)
    for row, name in enumerate(order):
        i = differences[name]
        color = BLUE if i.low > 0 else ORANGE if i.high < 0 else GREY
        _dot(axes, row, i, color)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel(f"{metric} above {over}, paired, with its {100 * differences[order[0]].level:.0f} % interval")
    _write(figure, path)


def trade_offs(
    path: Path, quality: Mapping[str, Interval], costs: Mapping[str, Mapping[str, float]], *, metric: str
) -> None:
    """A panel for each cost: what every contestant's quality is bought with. Blue are those that nobody beats in both.

    Args:
        path: The PNG file.
        quality: Name -> value, more is better.
        costs: What the cost is called, with its unit -> name -> value, less is better. An axis is logarithmic
            where the costs are positive and a hundred times apart.
        metric: What `quality` is called.
    """
    figure = Figure(figsize=(4.6 * len(costs), 4.2), layout="constrained")
    in_every = set(quality)
    for number, (cost, values) in enumerate(costs.items(), start=1):
        axes = figure.add_subplot(1, len(costs), number)
        best = _frontier({name: i.estimate for name, i in quality.items()}, values)
        in_every &= set(best)
        for rank, name in enumerate(sorted(quality, key=lambda name: quality[name].estimate)):
            i, color = quality[name], BLUE if name in best else GREY
            axes.plot([values[name]] * 2, [i.low, i.high], color=color, linewidth=1.5)
            axes.plot(values[name], i.estimate, "o", color=color)
            side, align = ((6, "left"), (-6, "right"))[rank % 2]  # so that names of the equally good stay apart
            at, offset = (values[name], i.estimate), (side, 3)
            axes.annotate(name, at, xytext=offset, textcoords="offset points", ha=align, fontsize=8)
        axes.plot([values[n] for n in best], [quality[n].estimate for n in best], color=BLUE, linewidth=0.8, zorder=0)
        if 0 < 100 * min(values.values()) < max(values.values()):
            axes.set_xscale("log")
        axes.margins(x=0.22)
        axes.set(xlabel=cost, ylabel=metric if number == 1 else "")
        axes.spines[["top", "right"]].set_visible(False)
    named = ", ".join(name for name in quality if name in in_every) or "nobody"
    figure.suptitle(f"None is as good for less, whatever the cost: {named}", x=0.01, ha="left", fontsize=11)
    _write(figure, path)


def category_shares(path: Path, shares: Mapping[str, Mapping[str, float]], *, title: str) -> None:
    """The categories of what somebody had beside those of what is shown, as bars.

    Args:
        path: The PNG file.
        shares: Whose list -> category -> share, in [0, 1]; the first is the history, in grey.
        title: The finding.
    """
    history = next(iter(shares.values()))
    names = sorted({name for one in shares.values() for name in one}, key=lambda name: -history.get(name, 0))
    figure, axes = _panel(title)
    width = 0.8 / len(shares)
    for number, (whose, one) in enumerate(shares.items()):
        places = np.arange(len(names)) + (number - (len(shares) - 1) / 2) * width
        color = (GREY, BLUE, ORANGE)[number % 3]
        axes.bar(places, [100 * one.get(name, 0) for name in names], width=width, color=color, label=whose)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_ylabel("share of the list (%)")
    axes.legend(frameon=False)
    _write(figure, path)


def _frontier(quality: Mapping[str, float], cost: Mapping[str, float]) -> list[str]:
    """Those for whom nobody else is as good and cheaper, or better and as cheap; the cheapest first."""
    found: list[str] = []
    for name in sorted(quality, key=lambda name: (cost[name], -quality[name])):
        if not found or quality[name] > quality[found[-1]]:
            found.append(name)
    return found


def _panel(title: str, *, height: float = 4.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _dot(axes: Axes, row: float, i: Interval, color: str, *, marker: str = "o") -> None:
    """A value with its interval, lying in a row."""
    axes.plot([i.low, i.high], [row, row], color=color, linewidth=2)
    axes.plot(i.estimate, row, marker, color=color)


def _write(figure: Figure, path: Path) -> None:
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=144, metadata={"Software": None})


def importance_chart(path: Path, importance: Mapping[str, Interval], *, what: str) -> None:
    """What the ROC AUC falls by when a feature is shuffled, the greatest on top; grey where it may be nothing."""
    order = sorted(importance, key=lambda name: importance[name].estimate)
    title = f"{order[-1]} matters most" if order else "nothing to shuffle"
    figure, axes = _panel(title, height=1.4 + 0.3 * len(order))
    for row, name in enumerate(order):
        i = importance[name]
        color = BLUE if i.low > 0 else GREY
        _dot(axes, row, i, color)
    axes.axvline(0, color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel(f"ROC AUC lost without it, on later data: {what}")
    _write(figure, path)


def partial_dependence_curve(path: Path, curve: PartialDependence, *, feature: str, what: str) -> None:
    """The mean prediction with one feature set for everybody, and the middle 80 % of the people."""
    mean, low, high = 100 * curve.mean, 100 * curve.low, 100 * curve.high
    figure, axes = _panel(f"{feature}: from {mean.min():.0f} % to {mean.max():.0f} % on average")
    if all(isinstance(value, str) for value in curve.values):
        axes.errorbar(range(len(mean)), mean, yerr=[mean - low, high - mean], fmt="o", color=BLUE, capsize=3)
        axes.set_xticks(range(len(mean)), [str(value) for value in curve.values], rotation=30, ha="right")
    else:
        axes.fill_between(curve.values, low, high, color=BLUE, alpha=0.15, label="80 % of the people")
        axes.plot(curve.values, mean, color=BLUE, label="mean")
        axes.legend(frameon=False)
    axes.set(xlabel=feature, ylabel=f"predicted: {what} (%)")
    axes.set_ylim(bottom=0)
    _write(figure, path)


def drift_chart(path: Path, columns: Sequence[Drift], *, what: str, warn: float, alarm: float) -> None:
    """How far the columns that moved most are from training; ticks are what chance alone explains, x what vanished.

    Args:
        path: The PNG file.
        columns: What moved most first; the first 20 are drawn.
        what: The model, and when.
        warn: Threshold of the stability index.
        alarm: The same.
    """
    colors: dict[Verdict, str] = {"alarm": ORANGE, "warn": BLUE, "steady": GREY}
    shown = list(reversed(columns[:20]))
    moved = sum(one.verdict != "steady" for one in columns)
    figure, axes = _panel(f"{what}: {moved} of {len(columns)} columns moved", height=1.4 + 0.25 * len(shown))
    for row, one in enumerate(shown):
        if np.isnan(one.psi):
            axes.plot(alarm, row, "x", color=ORANGE)
        else:
            axes.barh(row, one.psi, color=colors[one.verdict], height=0.6)
            axes.plot(one.chance, row, "|", color="black", markersize=9)
    for threshold, name in ((warn, "warn"), (alarm, "alarm")):
        axes.axvline(threshold, color=GREY, linestyle="--", linewidth=1)
        axes.annotate(name, (threshold, 1), xycoords=("data", "axes fraction"), fontsize=8, color=GREY)
    axes.set_yticks(range(len(shown)), [one.name for one in shown], fontsize=8)
    axes.set_xlabel("population stability index, less what chance is expected to give")
    _write(figure, path)
