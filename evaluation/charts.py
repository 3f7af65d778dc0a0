"""Charts as inline SVG for pages: they load nothing, follow the page's colours, and carry their finding as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 22, 10, 38
ROW = 24
NAMES, WIDEST = 150, 215
"""Width that the names of rows get, and at the most."""
LETTER = 7
"""About how wide one is."""
TICKS = 5

Show = Callable[[float], str]


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a chart.

    Attributes:
        name: In the legend.
        x: (m,).
        y: (m,).
        low: Lower ends of a band, if it has one.
        high: Upper ends.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def line_chart(
    lines: Sequence[Line],
    *,
    alt: str,
    x_title: str,
    y_title: str,
    show_x: Show,
    show_y: Show,
    mark: float | None = None,
) -> Markup:
    """Lines over one another, the first with its band and drawn last; `mark` is a dashed upright line.

    Example:
        >>> chart = line_chart([Line("gain", np.array([0.0, 1.0]), np.array([0.0, 2.0]))], alt="It <rises>.",
        ...     x_title="share", y_title="gain", show_x=str, show_y=str)
        >>> chart.startswith("<figure"), "It &lt;rises&gt;." in chart
        (True, True)
    """
    xs = np.concatenate([line.x for line in lines])
    ys = np.concatenate(
        [[0.0], *(part for line in lines for part in (line.y, line.low, line.high) if part is not None)]
    )
    at_x = _scale(float(xs.min()), float(xs.max()), LEFT, WIDTH - RIGHT)
    at_y = _scale(float(ys.min()), float(ys.max()), HEIGHT - BOTTOM, TOP)
    parts = []
    for tick in _ticks(float(ys.min()), float(ys.max())):
        y = at_y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(show_y(tick))}</text>')
    written = 0.0
    for tick in _ticks(float(xs.min()), float(xs.max())):
        text = escape(show_x(tick))
        half = LETTER * len(text) / 2
        x = min(max(at_x(tick), half), WIDTH - half)  # nothing is cut off at the edges
        if x - half >= written:  # and nothing written over another
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text}</text>')
            written = x + half + LETTER
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_title)}</text>'
    )
    if mark is not None:
        x = at_x(mark)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    for place, line in reversed(list(enumerate(lines))):
        if line.low is not None and line.high is not None:
            edge = [*zip(line.x, line.high, strict=True), *reversed(list(zip(line.x, line.low, strict=True)))]
            parts.append(f'<polygon class="band" points="{_points(edge, at_x, at_y)}"/>')
        points = _points(zip(line.x, line.y, strict=True), at_x, at_y)
        parts.append(f'<polyline class="line line{place}" points="{points}"/>')
    legend = "".join(
        f'<span class="key"><svg viewBox="0 0 24 8" aria-hidden="true"><polyline class="line line{place}" '
        f'points="0,4 24,4"/></svg> {escape(line.name)}</span> '
        for place, line in enumerate(lines)
    )
    caption = f"<figcaption>{escape(y_title)}: {legend}</figcaption>"
    return _figure(parts, alt, caption, HEIGHT)


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of an interval chart.

    Attributes:
        name: Of the row.
        estimate: A dot.
        low: Where its line begins.
        high: Where it ends.
        beside: A second value, a tick; None = none.
    """

    name: str
    estimate: float
    low: float
    high: float
    beside: float | None = None


def interval_chart(bars: Sequence[Bar], *, alt: str, title: str, show: Show) -> Markup:
    """A dot and its interval a row, around an upright line at zero; rows that are not numbers stay empty.

    Example:
        >>> "It is 1." in interval_chart([Bar("a", 1.0, 0.5, 1.5)], alt="It is 1.", title="effect", show=str)
        True
    """
    known = [bar for bar in bars if np.isfinite([bar.estimate, bar.low, bar.high]).all()]
    ends = [
        0.0,
        *(end for bar in known for end in (bar.low, bar.high, bar.estimate if bar.beside is None else bar.beside)),
    ]
    names = min(max(NAMES, *(LETTER * len(bar.name) + 8 for bar in bars)), WIDEST)
    letters = (names - 8) // LETTER + 1
    at = _scale(min(ends), max(ends), names, WIDTH - RIGHT)
    height = TOP + ROW * len(bars) + BOTTOM - 12
    zero, foot = at(0.0), TOP + ROW * len(bars)
    parts = [f'<line class="mark" x1="{zero:.1f}" x2="{zero:.1f}" y1="{TOP}" y2="{foot}"/>']
    parts += [
        f'<text x="{at(tick):.1f}" y="{foot + 16}" text-anchor="middle">{escape(show(tick))}</text>'
        for tick in _ticks(min(ends), max(ends))
    ]
    for row, bar in enumerate(bars):
        y = TOP + ROW * (row + 0.5)
        name = bar.name if len(bar.name) <= letters else bar.name[: letters - 1] + "…"
        parts.append(f'<text x="{names - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        if bar in known:
            parts.append(f'<line class="line line0" x1="{at(bar.low):.1f}" x2="{at(bar.high):.1f}" y1="{y}" y2="{y}"/>')
            parts.append(f'<circle class="dot" cx="{at(bar.estimate):.1f}" cy="{y}" r="4"/>')
            if bar.beside is not None:
                x = at(bar.beside)
                parts.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 7}" y2="{y + 7}"/>')
    return _figure(parts, alt, f"<figcaption>{escape(title)}</figcaption>", height)


def _figure(parts: Sequence[str], alt: str, caption: str, height: int) -> Markup:
    opening = f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(alt)}">'
    picture = f"{opening}{''.join(parts)}</svg>"
    return Markup(f"<figure>{caption}{picture}</figure>")  # noqa: S704 - all that was given is escaped


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = high - low or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _points(pairs: object, at_x: Callable[[float], float], at_y: Callable[[float], float]) -> str:
    return " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in pairs)  # type: ignore[attr-defined]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low or 1.0) / TICKS
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * next(times for times in (1, 2, 5, 10) if times * power >= rough * (1 - 1e-9))
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [float(round(place * step, 12)) for place in range(first, last + 1)]
