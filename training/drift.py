"""Whether the champions still see the kind of people they learnt from, and how old they are."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from data.errors import DataError
from data.files import replacing
from data.settings import Drift as Thresholds
from data.workspace import Workspace
from evaluation import plots
from evaluation.drift import Drift, drift, ordered
from evaluation.pages import as_json
from features.snapshots import Span, build, span
from registry.versions import Registry, Version
from training.reference import REFERENCE, read_reference
from training.scoring import LabelChampion, ValueChampion, label_champions, value_champion

REPORT = "drift.json"
PICTURES = "drift"
"""Of a version's run: a picture for each check."""

Champion = LabelChampion | ValueChampion


@dataclass(frozen=True)
class ModelDrift:
    """What became of one champion's people since it was trained.

    Attributes:
        label: Its name in the settings, or `value`.
        version: Registered name and number.
        people: How many are asked about now.
        score: How what it says of them is spread now; None where that cannot be told.
        features: Those that the model reads, what moved most first.
        age_horizons: Horizons from the end of what it learnt from to the end of the data.
        stale: Whether that is more than the settings allow.
        label_delay_days: Days from the newest cutoff whose horizon lies in the data to now.
        notes: What could not be compared, and why.
    """

    label: str
    version: str
    people: int
    score: Drift | None
    features: tuple[Drift, ...]
    age_horizons: float
    stale: bool
    label_delay_days: float
    notes: tuple[str, ...] = ()

    @property
    def alarms(self) -> list[str]:
        """What is beyond the settings' thresholds, in words."""
        found = [
            f"{d.name} {d.note or f'has a stability index of {d.psi:.2f}'}" for d in self._all if d.verdict == "alarm"
        ]
        found += ["nobody is left whom it could be asked about"] * (self.people == 0)
        return found + [f"the model is {self.age_horizons:.1f} horizons old"] * self.stale

    @property
    def _all(self) -> list[Drift]:
        return [*([self.score] if self.score else []), *self.features]


@dataclass(frozen=True)
class DriftReport:
    """All champions.

    Attributes:
        at: The end of the data, so far: everybody is as known then.
        warn: Threshold of the population stability index.
        alarm: The same.
        models: One each.
    """

    at: datetime
    warn: float
    alarm: float
    models: tuple[ModelDrift, ...]

    @property
    def alarms(self) -> list[str]:
        """What is beyond the thresholds, by model."""
        return [f"{model.version}: {alarm}" for model in self.models for alarm in model.alarms]


def check_drift(workspace: Workspace, *, now: datetime | None = None) -> DriftReport:
    """Compare everybody at the end of the data with those that each champion learnt from.

    Writes `reports/drift.json`, and a picture beside the pictures of each champion's run in MLflow.

    Args:
        workspace: Checked, with champions.
        now: For the delay of labels; by default this moment.

    Raises:
        DataError: no champion.
        WorkspaceError: the tables are not checked, or a feature that says who is asked about is not there any more.
    """
    value = value_champion(workspace)
    labels = label_champions(workspace, none_will_do=value is not None)
    champions: list[Champion] = [*labels.values(), *([] if value is None else [value])]
    known = span(workspace.checked)
    end = known.so_far
    [snapshot] = build(workspace, [end])
    thresholds, now = workspace.settings.drift, now or datetime.now(UTC)
    everybody = snapshot.frame()
    found = tuple(_model_drift(champion, everybody, thresholds, known, now) for champion in champions)
    report = DriftReport(end, thresholds.warn, thresholds.alarm, found)
    with replacing(workspace.reports_dir / REPORT) as beside:
        beside.write_text(as_json({**asdict(report), "alarms": report.alarms}), encoding="utf-8")
    for model, champion in zip(found, champions, strict=True):
        _picture(workspace, report, model, champion.version)
    return report


def _picture(workspace: Workspace, report: DriftReport, model: ModelDrift, version: Version) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{report.at:%Y-%m-%d}.png"
        what = f"{model.version} on {report.at:%Y-%m-%d}"
        columns = ordered([*model.features, *([model.score] if model.score else [])])
        plots.drift_chart(path, columns, what=what, warn=report.warn, alarm=report.alarm)
        Registry.of(workspace).client.log_artifact(version.run_id, str(path), PICTURES)


def _model_drift(
    champion: Champion, everybody: pd.DataFrame, thresholds: Thresholds, known: Span, now: datetime
) -> ModelDrift:
    horizon = timedelta(days=champion.horizon_days)
    age = (known.end - champion.card.fitted_until) / horizon
    name, notes = champion.version.name, []
    people = everybody[champion.asked(everybody)].reset_index(drop=True)
    before = read_reference(champion.folder)
    if not before:
        notes.append(f"{champion.version} keeps no {REFERENCE}: train anew to compare with")
    told = people
    try:
        score = champion.score(people) if len(people) else np.empty(0)
        told = people.assign(**{name: score})
    except DataError as error:
        before = {column: histogram for column, histogram in before.items() if column != name}
        notes.append(f"nobody can be scored: {error}")
    found = drift(before, told, warn=thresholds.warn, alarm=thresholds.alarm)
    return ModelDrift(
        label=champion.label,
        version=str(champion.version),
        people=len(people),
        score=next((one for one in found if one.name == name), None),
        features=tuple(one for one in found if one.name != name),
        age_horizons=age,
        stale=age > thresholds.stale_after_horizons,
        label_delay_days=(now - (known.over - horizon)) / timedelta(days=1),
        notes=tuple(notes),
    )
