"""A comparison of models as a table in the terminal."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from evaluation.intervals import Interval
    from training.results import Comparison


WIDTH = 150
"""Of a table that is piped or logged."""
SHOWN = (
    "roc_auc", "average_precision", "brier", "calibration_error", "open_rate",
    "profit", "tweedie_d2", "mae", "rmse", "came_per_expected", "coverage",
)  # fmt: skip
SHOWN_AT_A_CUT = ("ndcg_at", "recall_at", "coverage_at")
"""The measures that fit on a line, of probabilities and of rankings; the run has all."""


def show(comparison: Comparison, title: str, *, console: Console | None = None) -> None:
    """Print one row per model, with 95 % intervals, and what the first gains over each other."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = [name for name in comparison.rows[0].metrics if name in SHOWN or name.startswith(SHOWN_AT_A_CUT)]
    table = Table(
        title=escape(f"{title}\n{comparison.n_rows:,} people"),
        title_justify="left",
        caption=escape("\n".join(comparison.notes)),
    )
    for column in (
        "model",
        *(name.replace("_", " ") for name in shown),
        f"gain in {comparison.metric.replace('_', ' ')}",
    ):
        table.add_column(column)
    for row in comparison.rows:
        gain = "" if row.gain is None else _interval(row.gain, "+.3f")
        table.add_row(escape(row.name), *(_interval(row.metrics[name], ".3f") for name in shown), gain)
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table)


def _interval(value: Interval, digits: str) -> str:
    if math.isnan(value.estimate):
        return ""
    if math.isnan(value.low):
        return f"{value.estimate:{digits}}"
    return f"{value.estimate:{digits}} [{value.low:{digits}}, {value.high:{digits}}]"
