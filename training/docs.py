"""The picture of a label, the split and the gate, drawn from the code that splits: `python -m training.docs`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path

from data.files import replacing
from data.settings import Training
from training.splits import PropensitySplit, propensity_split

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "propensity.svg"
TITLE = "A label looks one horizon ahead; what is learnt from ends before the test; four questions before the champion"
START, END, HORIZON_DAYS = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), 60
WIDTH, LEFT, RIGHT = 880, 150, 860
LANE, BAR = 20, 9
BLUE, ORANGE, GREY, INK = "#0072b2", "#d55e00", "#8c8c8c", "#1b1b1b"
GATE = (
    ("no leak", "ROC AUC at most .98: the model's and each feature's"),
    ("calibrated", "its probabilities are not surely ten points off"),
    ("better", "than the champion, or as good and lighter or newer"),
    ("still itself", "answers its examples as when it was saved"),
)


def draw() -> str:
    """The picture as SVG: of a year with the defaults of `training` and a horizon of 60 days."""
    training = Training()
    split = propensity_split(
        START, END, horizon_days=HORIZON_DAYS, cutoffs=training.cutoffs, step_days=training.step_days
    )
    lanes: tuple[tuple[str, tuple[datetime, ...], str, str], ...] = (
        ("first fit learns", split.earlier(split.seen), BLUE, "0.9"),
        ("stops, calibrates", split.seen[-1:], ORANGE, "0.9"),
        ("second fit learns", split.seen, BLUE, "0.9"),
        ("is judged, once", (split.test,), ORANGE, "0.9"),
        ("live fit learns", split.live, BLUE, "0.45"),
    )
    parts = [*_label(split), *_axis()]
    y = 132
    for name, cutoffs, color, opacity in lanes:
        parts.append(_text(LEFT - 12, y + LANE / 2 + 4, name, anchor="end"))
        for number, cutoff in enumerate(cutoffs):
            parts += _window(cutoff, y + BAR * (number % 2), color, opacity)
        y += 2 * LANE
    parts += [
        f'<path d="M{_x(split.test):.1f} 118 V{y}" stroke="{INK}" stroke-dasharray="3 3"/>',
        _text(_x(split.test), 112, f"test cutoff {split.test:%d %b}", anchor="middle"),
    ]
    parts += _gate(y + 30)
    height = y + 130
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" font-size="12" '
        'font-family="system-ui, sans-serif">\n'
        f"<title>{TITLE}</title>\n"
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _label(split: PropensitySplit) -> Iterator[str]:
    """What a cutoff is: features before it, the label after it."""
    at, end = _x(split.test), _x(split.test + timedelta(days=split.horizon_days))
    yield _text(LEFT - 12, 44, "a row", anchor="end")
    yield f'<rect x="{LEFT}" y="32" width="{at - LEFT:.1f}" height="18" fill="{GREY}" opacity="0.25"/>'
    yield f'<rect x="{at:.1f}" y="32" width="{end - at:.1f}" height="18" fill="{ORANGE}" opacity="0.9"/>'
    yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="26" y2="56" stroke="{INK}" stroke-width="2"/>'
    yield _text((LEFT + at) / 2, 45, "features: what was known of the person", anchor="middle")
    yield _text(at, 20, "cutoff", anchor="middle")
    yield _text(end, 68, f"label: did it happen in {split.horizon_days} days?", anchor="end")


def _axis() -> Iterator[str]:
    for month in range(1, 13):
        at = _x(datetime(START.year, month, 1, tzinfo=UTC))
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="92" y2="97" stroke="{GREY}"/>'
        yield _text(at, 88, f"{datetime(START.year, month, 1, tzinfo=UTC):%b}", color="#5f5f5f")
    yield f'<line x1="{LEFT}" x2="{RIGHT}" y1="97" y2="97" stroke="{GREY}"/>'


def _window(cutoff: datetime, y: float, color: str, opacity: str) -> Iterator[str]:
    """A cutoff and the horizon that its label looks into."""
    at, end = _x(cutoff), _x(cutoff + timedelta(days=HORIZON_DAYS))
    yield f'<rect x="{at:.1f}" y="{y}" width="{end - at:.1f}" height="{BAR - 2}" fill="{color}" opacity="{opacity}"/>'
    yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y - 2}" y2="{y + BAR}" stroke="{INK}"/>'


def _gate(y: float) -> Iterator[str]:
    width, gap = 158, 17
    yield _text(10, y - 8, "The gate")
    for number, (name, about) in enumerate(GATE):
        x = 10 + number * (width + gap)
        yield f'<rect x="{x}" y="{y}" width="{width}" height="72" rx="6" fill="none" stroke="{BLUE}"/>'
        yield _text(x + 8, y + 18, name, weight="bold")
        for line, words in enumerate(textwrap.wrap(about, 22)):
            yield _text(x + 8, y + 34 + 14 * line, words, color="#5f5f5f")
        yield f'<path d="M{x + width + 3} {y + 36} h{gap - 6} m-4 -4 l4 4 l-4 4" fill="none" stroke="{INK}"/>'
    x = 10 + len(GATE) * (width + gap)
    yield f'<rect x="{x}" y="{y}" width="{WIDTH - x - 10}" height="72" rx="6" fill="{BLUE}"/>'
    yield _text((x + WIDTH - 10) / 2, y + 32, "champion; else it", color="#fff", anchor="middle")
    yield _text((x + WIDTH - 10) / 2, y + 48, "says why not", color="#fff", anchor="middle")


def _text(x: float, y: float, words: str, *, anchor: str = "start", color: str = INK, weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" fill="{color}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def _x(moment: datetime) -> float:
    return LEFT + (RIGHT - LEFT) * ((moment - START) / (END - START))


def main() -> None:
    """Write the picture."""
    with replacing(PICTURE) as beside:
        beside.write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
