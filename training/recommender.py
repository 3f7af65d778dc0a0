"""Train the recommender: searched on rolling time splits, the winner judged once beside the baselines and refitted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

from data.errors import DataError
from data.interactions import Interactions
from data.progress import timed
from data.settings import Settings
from data.workspace import Workspace
from evaluation import plots
from features.interactions import interactions
from features.snapshots import span
from models.recommenders import Recommender
from training.examples import K, write_recommender_examples
from training.judging import METRIC, Contestant, JudgedRows, compared
from training.recipes import BASELINES, Card, Recipe
from training.results import Comparison, TrainingResult
from training.search import Trial, search
from training.splits import recommender_split
from training.tracking import child_run, log_comparison, pictures, training

NAME = "recommender"
N_EXAMPLES = 5
QUICK = ("popularity", "repeat", "item_neighbours", "als")
"""What is tried, with defaults, where no search is asked for: seconds each."""


def train_recommender(
    workspace: Workspace, *, trials: int | None = None, minutes: float | None = None, seed: int | None = None
) -> TrainingResult:
    """Choose a recipe on the days after rolling cutoffs, judge it once, refit it on everything, register it.

    Without `trials` and `minutes` the quick families are tried with their defaults; with either, all families are
    searched (see `search`) and their best blended, resumable in the workspace.

    A model is preferred to the best baseline only where it is better on the paired interval, on the validation
    rows and again on the test rows. Else that baseline, the best on the validation rows, is the challenger.

    Args:
        workspace: With checked tables.
        trials: At most so many; with neither this nor `minutes`, what the settings say.
        minutes: About how long the training may take, refits included.
        seed: By default `training.seed`.

    Raises:
        DataError: no interactions, or a history shorter than three horizons.
    """
    settings, tables = workspace.settings, workspace.checked
    seed = settings.training.seed if seed is None else seed
    if trials is None and minutes is None:
        trials, minutes = settings.training.trials, settings.training.minutes
    known = span(tables)
    split = recommender_split(known.first, known.end, horizon_days=settings.recommender.horizon_days)
    params = {
        "validation_cutoffs": " ".join(f"{cutoff:%Y-%m-%d}" for cutoff in split.validation),
        "test_cutoff": f"{split.test:%Y-%m-%d}",
        **{f"recommender.{name}": value for name, value in settings.recommender.model_dump().items()},
    }
    with training(workspace, NAME, seed=seed, params=params) as run:
        winner, baseline = _choose(workspace, split.validation, trials=trials, minutes=minutes, seed=seed)
        with timed("judging the winner on the test days"):
            chosen, test = _judge(winner, baseline, JudgedRows.at(tables, settings, split.test, seed), settings, seed)
        log_comparison(test)
        mlflow.log_param("chosen", str(chosen))
        with timed("refitting on everything"):
            _save(
                chosen,
                interactions(tables, settings.recommender, cutoff=known.end, catalogue=True),
                Card(chosen, seed, known.end),
                run.folder,
            )
        return run.challenger(
            test,
            chosen=str(chosen),
            pyfunc="recommender.py",
            packages=("mlflow", "numpy", "pandas", "scipy"),
            tags={"chosen": str(chosen)},
            signature=_signature(),
        )


def fitted(recipes: Sequence[Recipe], known: Interactions, seed: int) -> list[Contestant]:
    """A contestant per recipe; recipes that differ only in what they show share one model."""
    models: dict[str, Recommender] = {}
    for recipe in recipes:
        if recipe.fit_key not in models:
            models[recipe.fit_key] = recipe.fit(known, seed)
    return [Contestant(str(recipe), recipe, models[recipe.fit_key]) for recipe in recipes]


def _choose(
    workspace: Workspace, cutoffs: Sequence[datetime], *, trials: int | None, minutes: float | None, seed: int
) -> tuple[Recipe, Recipe]:
    """The best recipe over the validation cutoffs, or the best baseline where nothing is surely better; and that."""
    settings, tables = workspace.settings, workspace.checked
    quick, started = trials is None and minutes is None, time.monotonic()
    with timed("reading what happened before and after the cutoffs"):
        rows = [JudgedRows.at(tables, settings, cutoff, seed) for cutoff in cutoffs]
    found = search(
        rows,
        families=QUICK if quick else None,
        trials=len(QUICK) if quick else trials,
        minutes=None if minutes is None else minutes - (time.monotonic() - started) / 60,
        blend=not quick,
        refits=2,  # before the test and on everything
        seed=seed,
        resamples=settings.training.bootstrap,
        folder=None if quick else workspace.path / "search",
        on_trial=_log,
    )
    if found.baseline is None or found.gain is None:
        raise DataError("no baseline could be fitted in the time, to hold a model against. Give more --minutes.")
    chosen = found.recipe if found.gain.low > 0 else found.baseline
    best = found.best_by_family()
    with pictures() as folder:
        plots.comparison(
            folder / "candidates.png",
            {trial.family: trial.quality for trial in best if trial.quality},
            metric="NDCG at 10 on the validation days",
            highlight=next((trial.family for trial in best if trial.recipe == chosen), None),
        )
        found.frame().to_csv(folder / "trials.csv", index=False)
    return chosen, found.baseline


def _log(trial: Trial) -> None:
    """A child run."""
    recipe = trial.recipe
    child_run(
        str(recipe)[:250],
        params={"model": recipe.model, "exclude_seen": recipe.exclude_seen, **recipe.params, "state": trial.state},
        metrics={METRIC: trial.quality} if trial.quality else {},
    )


def _judge(
    winner: Recipe, baseline: Recipe, rows: JudgedRows, settings: Settings, seed: int
) -> tuple[Recipe, Comparison]:
    """The winner and the baselines on the test rows; where it does not beat them, `baseline` takes its place.

    The test may only veto: which baseline that is was settled on the validation rows.
    """
    baselines = [baseline, *(recipe for recipe in BASELINES if recipe != baseline)]
    contestants = fitted([winner, *(recipe for recipe in baselines if recipe != winner)], rows.known, seed)
    test = compared(rows, contestants, settings)
    if winner.is_baseline or test.beats_baselines:
        return winner, test
    contestants.sort(key=lambda who: who.recipe != baseline)
    return baseline, compared(rows, contestants, settings)


def _save(recipe: Recipe, known: Interactions, card: Card, folder: Path) -> None:
    """Fit on everything known and write the version's folder."""
    model = recipe.fit(known, card.seed)
    model.save(folder)
    card.save(folder)
    weight = np.bincount(known.item, known.weight, len(known.items))
    write_recommender_examples(model, np.argsort(-weight, kind="stable")[:N_EXAMPLES].tolist(), folder)


def _signature() -> ModelSignature:
    columns = [
        ColSpec(Array(DataType.string), "items"),
        ColSpec(Array(DataType.double), "weights", required=False),
    ]
    return ModelSignature(inputs=Schema([*columns]), params=ParamSchema([ParamSpec("k", DataType.long, K)]))
