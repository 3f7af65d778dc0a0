"""What a propensity's run keeps for a reader: pictures, and how well each group of people is foreseen."""

from __future__ import annotations

import dataclasses

import mlflow
import numpy as np
import pandas as pd

from data.workspace import Workspace
from evaluation import plots
from evaluation.classification import NOT_KNOWN, bands, by_group, fairness, group_frame, lift_by_decile
from evaluation.importance import partial_dependence, permutation_importance
from features.profile import attributes_at
from features.segments import STAGES, lifecycle_of, parsed
from models.stored import StoredPropensity
from training.labelled import LabelledRows
from training.results import InDetail
from training.tracking import pictures

DRAWN, DRAWN_CURVES = 15, 4
"""Features in the picture of importance, and those with a curve of their own."""
MAX_JUDGED = 10_000
"""People drawn to judge on: bounds the time, and the interval is narrow enough by far."""
TENURE = ("tenure_days", "days_since_first_order", "days_since_first_event")
TENURE_EDGES_DAYS = (30, 90, 365)
MOST_GROUPS, NUMBER_BANDS = 12, 4
"""Of one attribute: the most frequent values; bands of equal mass where it is a number."""
OTHERS = "(others)"


def in_detail(
    workspace: Workspace, rows: LabelledRows, probability: np.ndarray, *, resamples: int, seed: int
) -> InDetail:
    """How the people of the test were foreseen: by tenth, tenure, lifecycle stage, named segment and attribute.

    Args:
        workspace: Its settings name the segments, and in `training.fairness` the attributes.
        rows: Of the label.
        probability: Of the test rows, shape (n,).
        resamples: Behind the intervals of the tenths.
        seed: Of the resamples.

    Raises:
        WorkspaceError: an attribute that `users` does not have.
    """
    label = rows.test.label
    apart = [
        quality
        for attribute, group in _kinds(workspace, rows.test.features).items()
        for quality in by_group(label, probability, group, attribute=attribute)
    ]
    named = workspace.settings.training.fairness
    known = attributes_at(workspace.checked, rows.split.test, named).reindex(rows.test.user)
    return InDetail(
        tuple(lift_by_decile(label, probability, resamples=resamples, seed=seed)),
        tuple(apart),
        fairness(label, probability, {name: _few(known[name]) for name in named}),
    )


def log_pictures(model: StoredPropensity, rows: LabelledRows, detail: InDetail, what: str, seed: int) -> None:
    """Pictures, tables and features of the model, kept with the open run: measured on the test rows."""
    test, probability = rows.test, model.predict(rows.test.features)
    some = test.drawn(MAX_JUDGED, seed)
    features = some.features[model.features]
    importance = permutation_importance(
        model.predict, features, some.label, features=list(model.importance().index[:DRAWN]), seed=seed
    )
    most = sorted(importance, key=lambda name: -importance[name].estimate)
    curves = [name for name in most if importance[name].estimate > 0][:DRAWN_CURVES]
    with pictures() as pages:
        plots.calibration_curve(pages / "calibration.png", test.label, probability, what=what)
        plots.lift_chart(pages / "lift.png", detail.deciles, what=what)
        plots.gains_curve(pages / "gains.png", detail.deciles, what=what)
        plots.score_distribution(pages / "scores.png", test.label, probability, what=what)
        plots.groups_chart(pages / "groups.png", (*detail.groups, *detail.fairness.groups), what=what)
        plots.importance_chart(pages / "permutation_importance.png", importance, what=what)
        for name in curves:
            curve = partial_dependence(model.predict, features, name, seed=seed)
            plots.partial_dependence_curve(pages / f"partial_dependence_{name}.png", curve, feature=name, what=what)
        group_frame((*detail.groups, *detail.fairness.groups)).to_csv(pages / "groups.csv", index=False)
    told = {name: dataclasses.asdict(importance[name]) for name in most}
    mlflow.log_dict(
        {"features": model.features, "importance": model.importance().to_dict(), "permutation_importance": told},
        "features.json",
    )


def _kinds(workspace: Workspace, features: pd.DataFrame) -> dict[str, np.ndarray]:
    """What tells people apart in every shop: how long they are known, their lifecycle stage, the named segments."""
    found: dict[str, np.ndarray] = {}
    if since := [features[name].to_numpy(np.float64, na_value=np.nan) for name in TENURE if name in features]:
        found["tenure"] = bands(np.fmax.reduce(since), TENURE_EDGES_DAYS, unit="days")
    if {name for _, stage in STAGES for name in stage.names} <= set(features.columns):
        found["lifecycle"] = lifecycle_of(features)
    for name, segment in parsed(workspace.settings.segments).items():
        if set(segment.names) <= set(features.columns):
            found[f"segment {name}"] = np.where(segment.mask(features), "in it", "not in it")
    return found


def _few(values: pd.Series) -> pd.Series:
    """An attribute as few groups: a number's bands of equal mass, else its most frequent values and the others."""
    if pd.api.types.is_numeric_dtype(values.dtype) and values.nunique() > MOST_GROUPS:
        edges = np.unique(values.quantile([part / NUMBER_BANDS for part in range(1, NUMBER_BANDS)]))
        return pd.Series(bands(values.to_numpy(np.float64, na_value=np.nan), edges.tolist()))
    words = values.astype("object").where(values.notna(), NOT_KNOWN).astype(str)
    return words.where(words.isin(words.value_counts().index[:MOST_GROUPS]), OTHERS)
