"""Train a propensity: trees beside their baselines, calibrated on a later cutoff, judged on the latest."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, Self

import mlflow
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from data.errors import ModelFileError
from data.progress import timed
from data.settings import Propensity as Declaration
from data.workspace import Workspace
from evaluation import classification, plots
from evaluation.intervals import Interval, bootstrap
from models.baselines import BaseRate, LogisticRFM
from models.propensity import Propensity
from models.stored import StoredPropensity
from registry.versions import CHALLENGER, Registry
from training.examples import write_propensity_examples
from training.gate import SUSPECTED_LEAK
from training.labelled import LabelledRows, Rows, declared, labelled_rows
from training.recipes import CARD
from training.reference import write_reference
from training.results import Comparison, Judged, TrainingResult, flat
from training.tracking import FINGERPRINT, child_run, log_comparison, parent_run, pictures, requirements

PREFIX = "propensity-"
METRIC = "roc_auc"
MEASURES = ("roc_auc", "average_precision", "log_loss", "brier", "calibration_error")
MAX_JUDGED = 10_000
"""People drawn to judge on: bounds the time, and the interval is narrow enough by far."""
TREES = "trees"
BASE_RATE, RFM_RULE = "base rate", "logistic regression on RFM"
RFM = ("days_since_order", "orders_365d", "spend_365d")
"""Recency, frequency and money: what a marketer's rule reads."""
SMALL_TREES = {"leaves": 8, "column_share": 0.3, "min_rows_in_leaf": 60, "l2": 20.0}
"""A shop has thousands of customers, not millions: few leaves over few columns each hold best on later data."""
ONE_THREAD_CELLS = 20_000_000
"""Rows x features up to which trees are learnt on one thread: on a busy machine several wait for one another."""
LEAK_AUC = 0.98
"""Nobody foresees people so well: above it, some feature has seen the label."""


class Scorer(Protocol):
    """Whatever gives each row a probability."""

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Probabilities, shape (n,)."""


@dataclass(frozen=True)
class Card:
    """What a propensity's version says of itself, `card.json` in its folder.

    Attributes:
        label: Its name in the settings.
        declaration: What was asked, of whom, over which horizon.
        definitions_hash: Of the features it reads.
        seed: Of the fit.
        fitted_until: Just after the last moment whose rows it learnt from, the labels' included.
    """

    label: str
    declaration: Declaration
    definitions_hash: str
    seed: int
    fitted_until: datetime

    def save(self, folder: Path) -> None:
        """Write it, flat."""
        values = {
            "label": self.label,
            **self.declaration.model_dump(),
            "definitions_hash": self.definitions_hash,
            "seed": self.seed,
            "fitted_until": self.fitted_until.isoformat(),
        }
        (folder / CARD).write_text(json.dumps(values, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: it is missing or damaged.
        """
        try:
            values: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
            fitted_until = datetime.fromisoformat(values.pop("fitted_until"))
            label, definitions, seed = (values.pop(name) for name in ("label", "definitions_hash", "seed"))
            return cls(label, Declaration(**values), definitions, seed, fitted_until)
        except (OSError, ValueError, KeyError) as error:
            raise ModelFileError(
                f"{folder / CARD} cannot be read: {error}. Train anew with `attune train propensity`."
            ) from error


def train_propensity(workspace: Workspace, label: str, *, seed: int | None = None) -> TrainingResult:
    """Fit on earlier cutoffs, stop and calibrate on a later one, judge on the latest; move on one step and register.

    Trees are registered where they are better than the baselines on the paired interval. Else the logistic regression
    on recency, frequency and money takes their place, and the table says so.

    Raises:
        WorkspaceError: no such label in the settings.
        DataError: a history too short for the horizon, no customers asked about, or labels of one class.
    """
    seed = workspace.settings.training.seed if seed is None else seed
    declaration = declared(workspace, label)
    name = f"{PREFIX}{label}"
    rows = labelled_rows(workspace, label)
    split = rows.split
    params = {
        **{f"propensity.{key}": value for key, value in declaration.model_dump().items()},
        "train_cutoffs": " ".join(f"{cutoff:%Y-%m-%d}" for cutoff in split.train),
        "later_cutoff": f"{split.later:%Y-%m-%d}",
        "test_cutoff": f"{split.test:%Y-%m-%d}",
        "purged_later": split.purged_later,
        "purged_test": split.purged_test,
        "definitions_hash": rows.definitions_hash,
    }
    with parent_run(workspace, name, seed=seed, params=params) as run_id, tempfile.TemporaryDirectory() as scratch:
        with timed(f"fitting and judging {label}"):
            trees = fit(rows, seed)
            model: StoredPropensity = trees
            test = compared(workspace, name, {TREES: trees}, rows)
            for row in test.rows:
                child_run(row.name, params=trees.params if row.name == TREES else {}, metrics=row.metrics)
            if not test.beats_baselines and any(row.name == RFM_RULE for row in test.rows):
                model = rule(rows.together(rows.seen))
                test = compared(workspace, name, {RFM_RULE: model, TREES: trees}, rows)
        chosen = test.rows[0].name
        log_comparison(test)
        mlflow.log_param("chosen", chosen)
        with pictures() as pages:
            probability = model.predict(rows.test.features)
            what = f"{declaration.event} within {declaration.horizon_days} days"
            plots.calibration_curve(pages / "calibration.png", rows.test.label, probability, what=what)
            plots.lift_chart(pages / "lift.png", rows.test.label, probability, what=what, seed=seed)
        mlflow.log_dict({"features": model.features, "importance": model.importance().to_dict()}, "features.json")
        folder = Path(scratch) / name
        with timed(f"refitting {label} one step on"):
            final = fit(rows, seed, refit=True) if chosen == TREES else rule(rows.together(rows.refit))
            final.save(folder)
            until = split.test + timedelta(days=split.horizon_days)
            Card(label, declaration, rows.definitions_hash, seed, until).save(folder)
            write_propensity_examples(final, rows.test.features, folder)
            write_reference(final, rows.test.features, name, folder)
        registry = Registry.of(workspace)
        version = registry.register(
            name,
            folder,
            run_id=run_id,
            code=Path(__file__).parent / "pyfuncs" / "propensity.py",
            metrics=flat(test.rows[0].metrics),
            tags={
                FINGERPRINT: workspace.fingerprint(),
                "definitions_hash": rows.definitions_hash,
                SUSPECTED_LEAK: suspected_leak(test.rows[0].metrics[METRIC], rows.test),
            },
            pip_requirements=requirements("lightgbm", "mlflow", "numpy", "pandas"),
        )
        registry.set_alias(name, CHALLENGER, version.number)
    return TrainingResult(version=version, chosen=chosen, test=test)


def fit(rows: LabelledRows, seed: int, *, refit: bool = False, like: Propensity | None = None) -> Propensity:
    """Trees from a label's rows: learnt on the earlier cutoffs, stopped and calibrated by the later one.

    Args:
        rows: Of the label.
        seed: Of the fit.
        refit: Move on one step, to the model that goes live: the test cutoff is then the later one.
        like: Take this model's hyperparameters and features.
    """
    train, later = rows.split.refit if refit else (rows.split.train, rows.split.later)
    early, late = rows.together(train), rows.by_cutoff[later]
    columns = [name for name in early.features if like is None or name in like.features]
    model = Propensity(**(like.params if like else SMALL_TREES))  # type: ignore[arg-type]
    with threadpool_limits(1 if early.features.size < ONE_THREAD_CELLS else None, "openmp"):
        return model.fit(
            early.features[columns],
            early.label,
            valid=late.features,
            valid_label=late.label,
            calibration=late.features,
            calibration_label=late.label,
            seed=seed,
        )


def rule(seen: Rows) -> LogisticRFM:
    """The logistic regression on recency, frequency and money, learnt from rows."""
    return LogisticRFM(columns=RFM).fit(seen.features, seen.label)


def again(rows: LabelledRows, seed: int, *, like: StoredPropensity) -> StoredPropensity:
    """What a stored model's recipe makes of the rows before the test."""
    return rule(rows.together(rows.seen)) if isinstance(like, LogisticRFM) else fit(rows, seed, like=like)


def compared(workspace: Workspace, name: str, models: Mapping[str, Scorer], rows: LabelledRows) -> Comparison:
    """Models and baselines on the test rows, the first model against each other one.

    Baselines need no early stopping, so they learn on the train and the later rows.
    """
    split, test = rows.split, _drawn(rows.test, workspace.settings.training.seed)
    seen = rows.together(rows.seen)
    baselines: dict[str, Scorer] = {BASE_RATE: BaseRate().fit(seen.features, seen.label)}
    if set(RFM) & set(seen.features):
        baselines[RFM_RULE] = rule(seen)
    resamples = workspace.settings.training.bootstrap
    probability = {who: scorer.predict(test.features) for who, scorer in {**models, **baselines}.items()}
    first = next(iter(probability))
    judged = tuple(
        Judged(
            who,
            who if who in baselines else recipe_of(models[who]),
            who in baselines or isinstance(models[who], LogisticRFM),
            {name: _measured(name, test.label, p, resamples=resamples) for name in MEASURES},
            None if who == first else _gained(test.label, probability[first], p, resamples=resamples),
        )
        for who, p in probability.items()
    )
    notes = [f"judged on what people did in the {split.horizon_days} days from {split.test:%Y-%m-%d}"]
    if not split.purged_test:
        notes.append("the history is too short to keep one horizon free before the test, so the figures flatter")
    elif not split.purged_later:
        notes.append("the history is too short to keep one horizon free before the calibration")
    return Comparison(name, METRIC, len(test.label), judged, tuple(notes))


def recipe_of(model: Scorer) -> str:
    """How a model was made: hyperparameters and features of trees, the name of the rule."""
    return f"{model.params} on {' '.join(model.features)}" if isinstance(model, Propensity) else RFM_RULE


def suspected_leak(roc_auc: Interval, test: Rows) -> str:
    """Why the label may have leaked into the features; empty if it did not.

    The model, or one number alone, orders people better than anybody can foresee them.
    """
    if not roc_auc.estimate > LEAK_AUC:
        return ""
    alone = {
        name: abs(_auc(test.label, test.features[name].to_numpy(np.float64, na_value=np.nan)) - 0.5) + 0.5
        for name in test.features.select_dtypes(["number", "bool"])
    }
    worst = max(alone, key=lambda name: alone[name], default="")
    told = f"; {worst} alone has {alone[worst]:.3f}" if worst and alone[worst] > LEAK_AUC else ""
    return f"ROC AUC is {roc_auc.estimate:.3f}, above {LEAK_AUC}: a feature knows the label{told}"


def _auc(label: np.ndarray, value: np.ndarray) -> float:
    """Chance that a positive has the higher value, ties half; missing = lowest."""
    rank = pd.Series(np.nan_to_num(value, nan=-np.inf)).rank().to_numpy()
    positives = int(label.sum())
    return float((rank[label == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives)))


def _drawn(rows: Rows, seed: int) -> Rows:
    """The rows, or a seeded draw of them where they are many."""
    if len(rows.label) <= MAX_JUDGED:
        return rows
    kept = np.sort(np.random.default_rng(seed).choice(len(rows.label), MAX_JUDGED, replace=False))
    return Rows(rows.features.iloc[kept].reset_index(drop=True), rows.label[kept])


def _measured(name: str, label: np.ndarray, probability: np.ndarray, *, resamples: int) -> Interval:
    return bootstrap(classification.MEASURES[name](label, probability), len(label), resamples=resamples)


def _gained(label: np.ndarray, first: np.ndarray, other: np.ndarray, *, resamples: int) -> Interval:
    """What the first gains in ROC AUC over the other on the same people."""
    of_first, of_other = (classification.MEASURES[METRIC](label, p) for p in (first, other))
    return bootstrap(lambda weights: of_first(weights) - of_other(weights), len(label), resamples=resamples)
