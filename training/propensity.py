"""Train a propensity: regression and trees beside their baselines, calibrated later, judged on what came last."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol, Self

import mlflow
import numpy as np
import pandas as pd
from scipy.special import expit
from threadpoolctl import threadpool_limits

from data.progress import timed
from data.settings import Propensity as Declaration
from data.workspace import Workspace
from evaluation import classification
from evaluation.intervals import Interval, Statistic, bootstrap, difference_of
from features.snapshots import span
from models.baselines import BaseRate, LogisticRFM
from models.calibration import Calibration
from models.propensity import Propensity
from models.stored import StoredPropensity
from training.cards import reading_card, write_card
from training.examples import write_feature_examples
from training.gate import SUSPECTED_LEAK
from training.labelled import LabelledRows, Rows, declared, labelled_rows
from training.propensity_search import MAX_JUDGED_ROWS, MAX_TRAIN_ROWS, METRIC, Recipe, as_json, search_recipe
from training.reference import write_reference
from training.report import MAX_JUDGED, in_detail, log_pictures
from training.results import Comparison, Judged, TrainingResult, flat
from training.tracking import child_run, log_comparison, pictures, training

PREFIX = "propensity-"
MEASURES = ("roc_auc", "average_precision", "log_loss", "brier", "calibration_error", "calibration_slope")
MODEL = "regression and trees"
NO_SEARCH = "nothing was searched: the history before the test is shorter than two horizons"
BASE_RATE, RECENCY_RULE, RFM_RULE = "base rate", "logistic regression on recency", "logistic regression on RFM"
RFM = ("days_since_order", "orders_365d", "spend_365d")
"""Recency, frequency and money: what a marketer's rule reads."""
RULES = {BASE_RATE: (), RECENCY_RULE: RFM[:1], RFM_RULE: RFM}
"""The baselines, the plainest first, and what each reads."""
ONE_THREAD_CELLS = 20_000_000
"""Rows x features up to which trees are learnt on one thread: on a busy machine several wait for one another."""
FEW_STEPS = 5.0
"""Trees times learning rate, at the least: what was best on the earliest cutoffs of real shops."""
ROLLED_CUTOFFS = 3
SLOPE_RESAMPLES = 200
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
        recipe: How it was fitted.
    """

    label: str
    declaration: Declaration
    definitions_hash: str
    seed: int
    fitted_until: datetime
    recipe: Recipe

    def save(self, folder: Path) -> None:
        """Write it, flat."""
        values = {
            "label": self.label,
            **self.declaration.model_dump(),
            "definitions_hash": self.definitions_hash,
            "seed": self.seed,
            "fitted_until": self.fitted_until,
            "recipe": as_json(self.recipe),
        }
        write_card(folder, values)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: it is missing or damaged.
        """
        with reading_card(folder, retrain="propensity") as values:
            label, definitions, seed = (values.pop(name) for name in ("label", "definitions_hash", "seed"))
            fitted_until, recipe = values.pop("fitted_until"), Recipe(**values.pop("recipe"))
            return cls(label, Declaration(**values), definitions, seed, fitted_until, recipe)


def train_propensity(
    workspace: Workspace,
    label: str,
    *,
    trials: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
) -> TrainingResult:
    """Fit on earlier cutoffs, stop and calibrate on a later one, judge on the latest; move on one step and register.

    The model is registered where it is better than the baselines on the paired interval. Else the best of these takes
    its place (`best_rule`), and the table says so.

    Args:
        workspace: Checked.
        label: Its name in the settings.
        trials: Search for hyperparameters, so many trials.
        minutes: Search about so long. With neither the settings say, and by default there is no search.
        seed: Of everything drawn; by default the settings'.

    Raises:
        WorkspaceError: no such label in the settings.
        DataError: a history too short for the horizon, no customers asked about, or too few of a class.
    """
    settings = workspace.settings.training
    seed = settings.seed if seed is None else seed
    if trials is None and minutes is None:
        trials, minutes = settings.trials, settings.minutes
    declaration = declared(workspace, label)
    name = f"{PREFIX}{label}"
    rows = labelled_rows(workspace, label)
    split = rows.split
    params = {
        **{f"propensity.{key}": value for key, value in declaration.model_dump().items()},
        "train_cutoffs": " ".join(f"{cutoff:%Y-%m-%d}" for cutoff in split.seen),
        "test_cutoff": f"{split.test:%Y-%m-%d}",
        "purged_later": split.purged_later,
        "purged_test": split.purged_test,
        "definitions_hash": rows.definitions_hash,
    }
    with training(workspace, name, seed=seed, params=params) as run:
        recipe = _searched(workspace, name, rows, trials=trials, minutes=minutes, seed=seed)
        with timed(f"fitting and judging {label}"):
            learnt = fit(rows, recipe, seed)
            model: StoredPropensity = learnt
            test = compared(workspace, name, {MODEL: learnt}, rows)
            for row in test.rows:
                how = {**learnt.params, "half_life_days": recipe.half_life_days, "monotone": dict(rows.monotone)}
                child_run(row.name, params=how if row.name == MODEL else {}, metrics=row.metrics)
            leak = suspected_leak(test.rows[0].metrics[METRIC], rows.test, learnt)
            if not test.beats_baselines:
                best = best_rule(rows)
                model = rule(rows.together(split.seen), best)
                why = f"{MODEL} is not surely better than {test.best_baseline.name}, so that {best} is registered"
                test = compared(workspace, name, {best: model, MODEL: learnt}, rows)
                test = dataclasses.replace(test, notes=(f"{why}: the best baseline before the test", *test.notes))
        if (trials is not None or minutes is not None) and not split.purged_later:
            test = dataclasses.replace(test, notes=(*test.notes, NO_SEARCH))
        chosen = test.rows[0].name
        detail = in_detail(workspace, rows, model.predict(rows.test.features), resamples=settings.bootstrap, seed=seed)
        log_comparison(test, detail)
        mlflow.log_param("chosen", chosen)
        log_pictures(model, rows, detail, f"{declaration.event} within {declaration.horizon_days} days", seed)
        with timed(f"refitting {label} one step on"):
            final: StoredPropensity = (
                fit(rows, recipe, seed, live=True) if model is learnt else rule(rows.together(split.live), best)
            )
            final.save(run.folder)
            until = split.live[-1] + timedelta(days=split.horizon_days)
            Card(label, declaration, rows.definitions_hash, seed, until, recipe).save(run.folder)
            write_feature_examples(name, final, rows.test.features, run.folder)
            asked = rows.test.features
            write_reference(asked[final.features], final.predict(asked), name, run.folder)
        return run.challenger(
            test,
            chosen=chosen,
            pyfunc="propensity.py",
            packages=("lightgbm", "mlflow", "numpy", "pandas"),
            tags={"definitions_hash": rows.definitions_hash, SUSPECTED_LEAK: leak},
        )


def fit(
    rows: LabelledRows, recipe: Recipe, seed: int, *, live: bool = False, features: Sequence[str] | None = None
) -> Propensity:
    """A propensity from a label's rows before the test, all of them.

    A first fit learns on those cutoffs whose horizon has ended when the last one begins; that one says how many trees
    there should be and whether the log-odds are too sure of themselves (where rows are many, a draw of them says it).
    The second fit learns on all of them, with so many trees or more (a season between two cutoffs stops too early), and
    takes the first one's calibration over only where its slope is surely below 1: one above 1 tells of a first fit that
    had seen less. The level stays the mean rate of all cutoffs: between two of them the season moves it for everybody,
    and one cutoff's is a worse guess at the next one's. Where the history is too short for a first fit, the fewest
    trees and no calibration are taken.

    Args:
        rows: Of the label.
        recipe: How.
        seed: Of the fit.
        live: Learn one step on, the test cutoff included: the model that goes live.
        features: Only these.
    """
    cutoffs = rows.split.live if live else rows.split.seen
    both = rows.together(cutoffs)
    columns = [name for name in both.features if features is None or name in features]
    monotone = {name: direction for name, direction in rows.monotone.items() if name in columns}
    weight = recipe.weight(both)

    def on_all(trees: int) -> Propensity:
        return Propensity(**{**recipe.params, "rounds": trees}).fit(  # type: ignore[arg-type]
            both.features[columns], both.label, weight=weight, seed=seed, monotone=monotone
        )

    with threadpool_limits(1 if both.features.size < ONE_THREAD_CELLS else None, "openmp"):
        earlier = rows.split.earlier(cutoffs)
        few = math.ceil(FEW_STEPS / Propensity(**recipe.params).learning_rate)  # type: ignore[arg-type]
        if not earlier:
            return on_all(few)
        early = rows.together(earlier).drawn(MAX_TRAIN_ROWS, seed)
        late = rows.together(cutoffs[-1:]).drawn(MAX_JUDGED_ROWS, seed)
        first = Propensity(**recipe.params).fit(  # type: ignore[arg-type]
            early.features[columns],
            early.label,
            valid=late.features,
            valid_label=late.label,
            weight=recipe.weight(early),
            seed=seed,
            monotone=monotone,
        )
        model = on_all(max(few, first.n_trees))
        log_odds = first.log_odds(late.features)
        slope = classification.MEASURES["calibration_slope"](late.label.astype(np.float64), expit(log_odds))
        if bootstrap(slope, len(late.label), resamples=SLOPE_RESAMPLES, seed=seed).high < 1:
            rate = float(np.average(both.label, weights=weight))
            calibration = Calibration.fit(log_odds, late.label)
            model.calibration = calibration.at_rate(model.log_odds(both.features), rate, weight=weight)
    return model


def rule(seen: Rows, name: str) -> BaseRate | LogisticRFM:
    """One of `RULES`, learnt from rows."""
    model = LogisticRFM(columns=RULES[name]) if RULES[name] else BaseRate()
    return model.fit(seen.features, seen.label)


def best_rule(rows: LabelledRows) -> str:
    """The baseline with the smallest log loss before the test, which asks for order and calibration at once.

    Learnt on the earlier cutoffs and asked on the later one, as the first fit is; where the history is too short for
    that, each half of the people is asked what the other half taught.
    """
    seen = rows.split.seen
    if earlier := rows.split.earlier(seen):
        folds = [(rows.together(earlier), rows.together(seen[-1:]))]
    else:
        every = rows.together(seen)
        half = np.empty(len(every.label), dtype=np.int64)
        half[np.argsort(every.label, kind="stable")] = np.arange(len(half)) % 2  # both answers in both halves
        halves = [every.of(np.flatnonzero(half == one)) for one in (0, 1)]
        folds = [(halves[0], halves[1]), (halves[1], halves[0])]
    losses: dict[str, list[float]] = {}
    for taught, asked in folds:
        for name, model in baselines_of(taught).items():
            loss = classification.MEASURES["log_loss"](asked.label.astype(np.float64), model.predict(asked.features))
            losses.setdefault(name, []).append(float(loss(np.ones((1, len(asked.label))))[0]))
    return min(losses, key=lambda name: float(np.mean(losses[name])))


def again(rows: LabelledRows, card: Card, *, like: StoredPropensity) -> StoredPropensity:
    """What a stored model's recipe makes of the rows before the test."""
    if not isinstance(like, Propensity):
        return rule(rows.together(rows.split.seen), recipe_of(like))
    return fit(rows, card.recipe, card.seed, features=like.features)


def compared(workspace: Workspace, name: str, models: Mapping[str, Scorer], rows: LabelledRows) -> Comparison:
    """Models and baselines on the test rows, the first model against each other one; baselines see the same cutoffs."""
    test = rows.test.drawn(MAX_JUDGED, workspace.settings.training.seed)
    contestants = {**models, **baselines_of(rows.together(rows.split.seen))}
    probability = {who: scorer.predict(test.features) for who, scorer in contestants.items()}
    recipes = {who: recipe_of(model) for who, model in models.items()}
    notes = [f"judged on what people did in the {rows.split.horizon_days} days from {rows.split.test:%Y-%m-%d}"]
    if not rows.split.purged_test:
        notes.append("the history is too short to keep one horizon free before the test, so the figures flatter")
    elif not rows.split.purged_later:
        notes.append("the history is too short to keep one horizon free before the calibration")
    return _judged(name, [_Answers(test, probability)], recipes, notes, workspace.settings.training.bootstrap)


def rolling(workspace: Workspace, label: str) -> Comparison:
    """The model and the baselines at three test cutoffs, `step_days` apart, each as if the data ended a horizon later.

    Every figure is the mean over the cutoffs; people are drawn for the intervals, so that one who is judged at several
    cutoffs is in all of them or in none.

    Raises:
        WorkspaceError, DataError: as `labelled_rows`.
    """
    settings, end = workspace.settings.training, span(workspace.checked).over
    answers, tests = [], []
    for number in reversed(range(ROLLED_CUTOFFS)):
        rows = labelled_rows(workspace, label, end=end - timedelta(days=number * settings.step_days))
        test = rows.test.drawn(MAX_JUDGED, settings.seed)
        with timed(f"fitting {label} for {rows.split.test:%Y-%m-%d}"):
            contestants = {
                MODEL: fit(rows, Recipe(), settings.seed),
                **baselines_of(rows.together(rows.split.seen)),
            }
        answers.append(_Answers(test, {who: model.predict(test.features) for who, model in contestants.items()}))
        tests.append(f"{rows.split.test:%Y-%m-%d}")
    notes = [f"mean over what people did in the {rows.split.horizon_days} days from {', '.join(tests)}"]
    return _judged(f"{PREFIX}{label}", answers, {MODEL: MODEL}, notes, settings.bootstrap)


@dataclass(frozen=True, eq=False)
class _Answers:
    """What each contestant said of the people of one test cutoff."""

    test: Rows
    probability: Mapping[str, np.ndarray]


def _judged(
    name: str, answers: Sequence[_Answers], recipes: Mapping[str, str], notes: Sequence[str], resamples: int
) -> Comparison:
    """Each contestant's figures, the mean over the cutoffs, and what the first one gains over it."""
    first, *others = answers[0].probability
    people = None if len(answers) == 1 else pd.factorize(np.concatenate([one.test.user for one in answers]))[0]
    n = sum(len(one.test.label) for one in answers)

    def measured(statistic: Callable[[_Answers], Statistic]) -> Interval:
        return bootstrap(_mean_over(answers, statistic), n, groups=people, resamples=resamples)

    judged = tuple(
        Judged(
            who,
            recipes.get(who, who),
            recipes.get(who, who) in RULES,
            {measure: measured(partial(_measure, measure, who)) for measure in MEASURES},
            measured(partial(_gained, first, who)) if who in others else None,
        )
        for who in answers[0].probability
    )
    floor = float(np.mean([classification.calibration_noise(one.probability[first]) for one in answers]))
    size = f"with so few people exactly right probabilities would show a calibration error of about {floor:.3f}"
    return Comparison(name, METRIC, n, judged, (*notes, size), floor)


def _mean_over(answers: Sequence[_Answers], statistic: Callable[[_Answers], Statistic]) -> Statistic:
    parts, ends = [statistic(one) for one in answers], np.cumsum([0, *(len(one.test.label) for one in answers)])

    def mean(weights: np.ndarray) -> np.ndarray:
        values = [part(weights[:, a:b]) for part, a, b in zip(parts, ends[:-1], ends[1:], strict=True)]
        found: np.ndarray = np.mean(values, axis=0)
        return found

    return mean


def _measure(measure: str, who: str, answers: _Answers) -> Statistic:
    return classification.MEASURES[measure](answers.test.label.astype(np.float64), answers.probability[who])


def _gained(first: str, other: str, answers: _Answers) -> Statistic:
    """What the first gains in ROC AUC over the other on the same people."""
    return difference_of(*(_measure(METRIC, who, answers) for who in (first, other)))


def baselines_of(seen: Rows) -> dict[str, Scorer]:
    """The base rate, and logistic regressions on recency and on recency, frequency and money, where they are known."""
    return {name: rule(seen, name) for name, reads in RULES.items() if not reads or set(reads) & set(seen.features)}


def recipe_of(model: Scorer) -> str:
    """How a model was made: hyperparameters and features, or the name of the rule."""
    if isinstance(model, BaseRate):
        return BASE_RATE
    if isinstance(model, LogisticRFM):
        return RECENCY_RULE if tuple(model.columns) == RULES[RECENCY_RULE] else RFM_RULE
    assert isinstance(model, Propensity)  # noqa: S101 - there are no others
    params = {name: value for name, value in model.params.items() if name != "rounds"}  # the rows say how many
    return f"{params} on {' '.join(model.features)}"


def suspected_leak(roc_auc: Interval, test: Rows, model: Propensity) -> str:
    """Why the label may have leaked into the features; empty if it did not.

    The model, or one feature alone, orders the people of the test better than anybody can foresee them.
    """
    found = {name: alone(test.features[name], test.label) for name in model.features}
    if worst := [name for name in sorted(found, key=lambda name: -found[name]) if found[name] > LEAK_AUC]:
        told = ", ".join(f"{name} (alone {found[name]:.3f})" for name in worst[:3])
        return f"a feature knows the label, ROC AUC above {LEAK_AUC}: {told}"
    if roc_auc.estimate > LEAK_AUC:
        most = ", ".join(model.importance().index[:3])
        return f"ROC AUC is {roc_auc.estimate:.3f}, above {LEAK_AUC}: features know the label; it leans most on {most}"
    return ""


def alone(column: pd.Series, label: np.ndarray) -> float:
    """ROC AUC of one feature, in whichever direction; a category is ordered by its rate in the other half of people.

    Not by its rate at earlier cutoffs: what is written down after the fact says nothing of what people did before.
    """
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        value = column.to_numpy(np.float64, na_value=np.nan)
    else:
        half = np.random.default_rng(0).permutation(len(label)) % 2
        value = np.empty(len(label))
        for asked in (half == 0, half == 1):
            rates = pd.Series(label[~asked]).groupby(column[~asked].to_numpy(object)).mean()
            value[asked] = column[asked].map(rates).fillna(label[~asked].mean())
    return abs(classification.roc_auc(label, np.nan_to_num(value, nan=-np.inf)) - 0.5) + 0.5


def _searched(
    workspace: Workspace, name: str, rows: LabelledRows, *, trials: int | None, minutes: float | None, seed: int
) -> Recipe:
    """The defaults, or what a search finds better; its trials are kept with the open run."""
    if (trials is None and minutes is None) or not rows.split.purged_later:
        return Recipe()
    found = search_recipe(
        rows,
        trials=trials,
        minutes=minutes,
        seed=seed,
        resamples=workspace.settings.training.bootstrap,
        folder=workspace.path / "search" / name,
    )
    with pictures() as pages:
        found.trials.to_csv(pages / "trials.csv", index=False)
    mlflow.log_metrics(flat({"search_gain": found.gain}))
    return found.recipe
