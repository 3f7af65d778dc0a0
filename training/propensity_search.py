"""Search for a propensity's hyperparameters: TPE over rolling cutoffs before the test, resumable, cut short early."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState

from data.errors import DataError
from data.progress import telling
from evaluation.classification import MEASURES, roc_auc
from evaluation.intervals import Interval, bootstrap, difference_of
from models.propensity import LearningRows, Propensity
from training.labelled import LabelledRows, Rows
from training.recipes import code_hash

METRIC = "roc_auc"
MAX_TRAIN_ROWS, MAX_JUDGED_ROWS = 100_000, 50_000
"""Of a fold, a seeded draw: what is best on these is best on more of them, and a trial takes seconds."""
ROUNDS, PATIENCE = 600, 30
PENALTIES = (10.0, 100.0, 1000.0, 10_000.0)
"""Of the regression: few, so that most trials find theirs fitted already."""
N_RANDOM = 5
"""Trials, the defaults among them, before TPE has enough to go by."""


@dataclass(frozen=True)
class Recipe:
    """How a propensity is fitted.

    Attributes:
        params: Of `Propensity`; what is not named has its default.
        half_life_days: A row counts half when its cutoff is so much older than the newest; 0 = all count alike.
    """

    params: Mapping[str, float] = field(default_factory=dict)
    half_life_days: float = 0.0

    def weight(self, rows: Rows) -> np.ndarray | None:
        """What each row counts, with mean 1; None where all count alike."""
        if not self.half_life_days:
            return None
        weight: np.ndarray = 0.5 ** (rows.age_days / self.half_life_days)
        return weight / weight.mean()


@dataclass(frozen=True)
class FoundRecipe:
    """What a search found.

    Attributes:
        recipe: The defaults, or what is surely better on the same people.
        gain: ROC AUC of the best trial over the defaults, paired, mean over the folds.
        trials: A row per trial: number, state, value, seconds and what was tried.
    """

    recipe: Recipe
    gain: Interval
    trials: pd.DataFrame


def search_recipe(
    rows: LabelledRows,
    *,
    trials: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    resamples: int = 1000,
    folder: Path | None = None,
) -> FoundRecipe:
    """The recipe with the best ROC AUC over the cutoffs before the test; the defaults unless it is surely better.

    A fold learns on cutoffs whose horizon has ended when its later cutoff begins, stops by that one and is judged
    on it: the newest before the test, and the one before it where the history allows. Trees and regressions of all
    trials share one set of histograms for each fold. A trial that is worse than the median after the first fold is
    cut short. The same call goes on where another one, with the same rows and folder, stopped.

    Args:
        rows: Of the label.
        trials: At most so many in all.
        minutes: At most about so long; a trial that runs is finished.
        seed: Of draws, fits and proposals.
        resamples: Behind the interval of the gain.
        folder: Where Optuna's storage is kept; by default nothing outlives the call.

    Raises:
        DataError: neither trials nor minutes bound the search, or the history is too short for a fold.
    """
    if trials is None and minutes is None:
        raise DataError("a search has no end: give trials, minutes, or both.")
    if not rows.split.purged_later:
        raise DataError(
            f"the history before the test is shorter than two horizons of {rows.split.horizon_days} days, so that "
            "nothing can be chosen on what came later. Bring a longer one, or ask over a shorter horizon_days."
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folds = _folds(rows, seed)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=None if folder is None else f"sqlite:///{(folder / 'trials.db').resolve()}",
        study_name=_key(rows, folds, seed),
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=N_RANDOM),
    )
    done = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=N_RANDOM, multivariate=True, seed=seed + done)
    if not done:
        study.enqueue_trial(dict(DEFAULTS))
    with telling("searching a propensity") as tell:

        def objective(trial: optuna.Trial) -> float:
            recipe = _proposed(trial)
            values: list[float] = []
            for number, fold in enumerate(folds):
                values.append(fold.roc_auc(fold.log_odds(recipe, rows.monotone, seed)))
                trial.report(float(np.mean(values)), number)
                if number < len(folds) - 1 and trial.should_prune():
                    raise optuna.TrialPruned
            tell(f"trial {trial.number}: {METRIC} {np.mean(values):.4f} by {recipe}")
            return float(np.mean(values))

        if trials is None or done < trials:
            study.optimize(
                objective,
                n_trials=None if trials is None else trials - done,
                timeout=None if minutes is None else 60 * minutes,
            )
    best = _recipe(study.best_params)
    gain = _gain(folds, best, _recipe(DEFAULTS), rows.monotone, seed=seed, resamples=resamples)
    return FoundRecipe(best if gain.low > 0 else Recipe(), gain, _table(study))


DEFAULTS: Mapping[str, Any] = {
    **{name: Propensity().params[name] for name in ("linear_share", "linear_l2", "leaves", "learning_rate")},
    **{name: Propensity().params[name] for name in ("min_rows_in_leaf", "column_share", "l2")},
    "half_life_days": 0,
}


def _proposed(trial: optuna.Trial) -> Recipe:
    return _recipe(
        {
            "linear_share": trial.suggest_float("linear_share", 0, 1, step=0.25),
            "linear_l2": trial.suggest_categorical("linear_l2", PENALTIES),
            "leaves": trial.suggest_int("leaves", 2, 64, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
            "min_rows_in_leaf": trial.suggest_int("min_rows_in_leaf", 10, 400, log=True),
            "column_share": trial.suggest_float("column_share", 0.1, 1),
            "l2": trial.suggest_float("l2", 0.1, 100, log=True),
            "half_life_days": trial.suggest_categorical("half_life_days", [0, 60, 180]),
        }
    )


def _recipe(told: Mapping[str, Any]) -> Recipe:
    params = {name: value for name, value in told.items() if name != "half_life_days"}
    return Recipe(params, float(told["half_life_days"]))


class _Fold:
    """Earlier cutoffs that are learnt from, and the later one that stops and judges."""

    def __init__(self, train: Rows, later: Rows) -> None:
        self.train, self.later = train, later
        self._ready: dict[float, LearningRows] = {}

    def log_odds(self, recipe: Recipe, monotone: Mapping[str, int], seed: int) -> np.ndarray:
        """What the recipe says of the later cutoff's people."""
        if recipe.half_life_days not in self._ready:
            self._ready[recipe.half_life_days] = LearningRows(
                self.train.features,
                self.train.label,
                valid=self.later.features,
                valid_label=self.later.label,
                weight=recipe.weight(self.train),
            )
        model = Propensity(**{**recipe.params, "rounds": ROUNDS, "patience": PATIENCE})  # type: ignore[arg-type]
        model.learn(self._ready[recipe.half_life_days], seed=seed, monotone=monotone)
        return model.log_odds(self.later.features)

    def roc_auc(self, score: np.ndarray) -> float:
        return roc_auc(self.later.label, score)

    def _measure(self, score: np.ndarray) -> Any:
        return MEASURES[METRIC](self.later.label.astype(np.float64), score)

    def gain(self, first: np.ndarray, other: np.ndarray) -> Any:
        """The difference of two scores in ROC AUC, for many weightings of the rows."""
        return difference_of(self._measure(first), self._measure(other))

    @cached_property
    def n(self) -> int:
        return len(self.later.label)


def _folds(rows: LabelledRows, seed: int) -> list[_Fold]:
    """Earliest first."""
    seen = rows.split.seen
    ends = [seen]
    if rows.split.earlier(seen[:-1]):
        ends.insert(0, seen[:-1])
    return [
        _Fold(
            rows.together(rows.split.earlier(cutoffs)).drawn(MAX_TRAIN_ROWS, seed),
            rows.together(cutoffs[-1:]).drawn(MAX_JUDGED_ROWS, seed),
        )
        for cutoffs in ends
    ]


def _gain(
    folds: list[_Fold], best: Recipe, usual: Recipe, monotone: Mapping[str, int], *, seed: int, resamples: int
) -> Interval:
    """Mean over the folds; people are drawn, so that one who is in two folds is in both or in neither."""
    statistics = [
        fold.gain(fold.log_odds(best, monotone, seed), fold.log_odds(usual, monotone, seed)) for fold in folds
    ]
    ends = np.cumsum([0, *(fold.n for fold in folds)])

    def mean_gain(weights: np.ndarray) -> np.ndarray:
        parts = [of(weights[:, a:b]) for of, a, b in zip(statistics, ends[:-1], ends[1:], strict=True)]
        mean: np.ndarray = np.mean(parts, axis=0)
        return mean

    people = pd.factorize(np.concatenate([fold.later.user for fold in folds]))[0]
    return bootstrap(mean_gain, int(ends[-1]), groups=people, resamples=resamples, seed=seed)


def _key(rows: LabelledRows, folds: list[_Fold], seed: int) -> str:
    """Two searches of one key try the same on the same rows."""
    cutoffs = [str(cutoff) for cutoff in rows.split.seen]
    told = json.dumps([code_hash(), rows.definitions_hash, seed, sorted(rows.monotone.items()), cutoffs])
    digest = hashlib.sha256(told.encode())
    for fold in folds:
        for part in (fold.train, fold.later):
            digest.update(pd.util.hash_pandas_object(part.features, index=False).to_numpy().tobytes())
            digest.update(part.label.tobytes())
    return digest.hexdigest()


def _table(study: optuna.Study) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            METRIC: trial.value,
            "seconds": None if trial.duration is None else trial.duration.total_seconds(),
            **trial.params,
        }
        for trial in study.get_trials(deepcopy=False)
    )


def as_json(recipe: Recipe) -> dict[str, Any]:
    """Plain values; `Recipe(**values)` reads them back."""
    return asdict(recipe)
