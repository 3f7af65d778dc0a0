"""The comparison as a page for a browser or MLflow: who was judged, how well, for whom, and what the gate said."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluation.pages import render
from training.gate import Verdict
from training.results import Comparison, InDetail

TEMPLATE = Path(__file__).with_name("comparison.html.jinja")
MEASURES = {
    "rate": "share who did it",
    "calibration_gap": "predicted above what happened",
    "roc_auc": "ROC AUC within the group",
    "selection_rate": "share in the first tenth of everybody",
    "true_positive_rate": "of those who did it, share in the first tenth",
}


def page(comparison: Comparison, *, detail: InDetail | None = None, verdict: Verdict | None = None) -> str:
    """One HTML page; its title is the finding.

    Args:
        comparison: The models, the one in question first.
        detail: For whom the first model's probabilities are how good.
        verdict: What the gate said of it.
    """
    return render(
        TEMPLATE,
        c=comparison,
        detail=detail,
        verdict=verdict,
        title=f"{comparison.name}: {_finding(comparison)}",
        metric=comparison.metric.replace("_", " "),
        measures=MEASURES,
        width="64rem",
    )


def _finding(comparison: Comparison) -> str:
    """The first model beside the champion, or beside the best of the others."""
    first, *others = comparison.rows
    against = next((row for row in others if row.name.startswith("champion")), None)
    against = against or max(others, key=lambda row: np.nan_to_num(row.metrics[comparison.metric].estimate))
    gain = against.gain
    if gain is None or np.isnan(gain.low):
        return f"{first.name} cannot be told from {against.name}"
    if gain.low > 0:
        return f"{first.name} is surely better than {against.name}"
    return f"{first.name} is {'surely worse' if gain.high < 0 else 'not surely better'} than {against.name}"
