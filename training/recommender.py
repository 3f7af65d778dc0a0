"""Train the recommender: candidates and baselines on rolling time splits, the winner judged once and refitted."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

from data.interactions import Interactions
from data.progress import timed, track
from data.settings import Settings
from data.tables import Tables
from data.workspace import Workspace
from evaluation import intervals, plots
from features.interactions import interactions
from features.snapshots import span
from models.recommenders import Recommender
from registry.versions import CHALLENGER, Registry
from training.examples import K, write_recommender_examples
from training.judging import METRIC, Contestant, JudgedRows, compared
from training.recipes import CANDIDATES, Card, Recipe
from training.results import Comparison, TrainingResult, flat
from training.splits import recommender_split
from training.tracking import FINGERPRINT, child_run, log_comparison, parent_run, pictures, requirements

NAME = "recommender"
N_EXAMPLES = 5


def train_recommender(workspace: Workspace, *, seed: int | None = None) -> TrainingResult:
    """Fit every candidate before rolling cutoffs, choose on the days after, judge once, refit on everything, register.

    A model is preferred to the best baseline only where it is better on the paired interval, on the validation
    rows and again on the test rows. Else that baseline, the best on the validation rows, is the challenger.

    Raises:
        DataError: no interactions, or a history shorter than three horizons.
    """
    settings, tables = workspace.settings, workspace.checked
    seed = settings.training.seed if seed is None else seed
    known = span(tables)
    split = recommender_split(known.first, known.end, horizon_days=settings.recommender.horizon_days)
    params = {
        "validation_cutoffs": " ".join(f"{cutoff:%Y-%m-%d}" for cutoff in split.validation),
        "test_cutoff": f"{split.test:%Y-%m-%d}",
        **{f"recommender.{name}": value for name, value in settings.recommender.model_dump().items()},
    }
    with parent_run(workspace, NAME, seed=seed, params=params) as run_id, tempfile.TemporaryDirectory() as scratch:
        winner, baseline = _choose(tables, settings, split.validation, seed)
        with timed("judging the winner on the test days"):
            chosen, test = _judge(winner, baseline, JudgedRows.at(tables, settings, split.test, seed), settings, seed)
        log_comparison(test)
        mlflow.log_param("chosen", str(chosen))
        folder = Path(scratch) / NAME
        with timed("refitting on everything"):
            _save(
                chosen,
                interactions(tables, settings.recommender, cutoff=known.end),
                Card(chosen, seed, known.end),
                folder,
            )
        registry = Registry.of(workspace)
        version = registry.register(
            NAME,
            folder,
            run_id=run_id,
            code=Path(__file__).parent / "pyfuncs" / "recommender.py",
            metrics=flat(test.rows[0].metrics),
            tags={"chosen": str(chosen), FINGERPRINT: workspace.fingerprint()},
            pip_requirements=requirements("mlflow", "numpy", "pandas", "scipy"),
            signature=_signature(),
        )
        registry.set_alias(NAME, CHALLENGER, version.number)
    return TrainingResult(version=version, chosen=str(chosen), test=test)


def fitted(recipes: Sequence[Recipe], known: Interactions, seed: int) -> list[Contestant]:
    """A contestant per recipe; recipes that differ only in what they show share one model."""
    models: dict[str, Recommender] = {}
    for recipe in recipes:
        if recipe.fit_key not in models:
            models[recipe.fit_key] = recipe.fit(known, seed)
    return [Contestant(str(recipe), recipe, models[recipe.fit_key]) for recipe in recipes]


def _choose(tables: Tables, settings: Settings, cutoffs: Sequence[datetime], seed: int) -> tuple[Recipe, Recipe]:
    """The best candidate over the validation cutoffs, or the best baseline where nothing is surely better; and that."""
    per_cutoff: list[list[np.ndarray]] = []
    for cutoff in track(cutoffs, "fitting the candidates"):
        rows = JudgedRows.at(tables, settings, cutoff, seed)
        per_cutoff.append(
            [
                rows.judge(who.model, exclude_seen=who.recipe.exclude_seen).values("ndcg", "warm")
                for who in fitted(CANDIDATES, rows.known, seed)
            ]
        )
    pooled = [np.concatenate(values) for values in zip(*per_cutoff, strict=True)]
    resamples = settings.training.bootstrap
    found = {}
    for recipe, values in zip(CANDIDATES, pooled, strict=True):
        params = {"model": recipe.model, "exclude_seen": recipe.exclude_seen, **recipe.params}
        found[str(recipe)] = intervals.mean(values, resamples=resamples)
        child_run(str(recipe), params=params, metrics={METRIC: found[str(recipe)]})
    score = np.nan_to_num([np.nanmean(values) if np.isfinite(values).any() else 0.0 for values in pooled])
    best = int(score.argmax())
    baseline = max((i for i, recipe in enumerate(CANDIDATES) if recipe.is_baseline), key=lambda i: score[i])
    gain = intervals.paired_difference(pooled[best], pooled[baseline], resamples=resamples)
    chosen = CANDIDATES[best] if gain.low > 0 else CANDIDATES[baseline]
    with pictures() as folder:
        plots.comparison(
            folder / "candidates.png", found, metric="NDCG at 10 on the validation days", highlight=str(chosen)
        )
    return chosen, CANDIDATES[baseline]


def _judge(
    winner: Recipe, baseline: Recipe, rows: JudgedRows, settings: Settings, seed: int
) -> tuple[Recipe, Comparison]:
    """The winner and the baselines on the test rows; where it does not beat them, `baseline` takes its place.

    The test may only veto: which baseline that is was settled on the validation rows.
    """
    baselines = [recipe for recipe in CANDIDATES if recipe.is_baseline and recipe != winner]
    contestants = fitted([winner, *baselines], rows.known, seed)
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
