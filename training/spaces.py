"""What is searched: for each family of recommenders the hyperparameters that matter, and their ranges.

Families stand in the order of what a fit costs, so that the cheap ones are there when time runs out. A family's
first trial has the defaults of its model; every range holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

Space = Callable[["optuna.trial.BaseTrial"], dict[str, Any]]
"""Hyperparameters of a model; those left out have their defaults."""


def popularity(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """How far back, and how fast what is older counts less."""
    return {
        "window_days": trial.suggest_float("window_days", 3, 365, log=True),
        "half_life_days": trial.suggest_float("half_life_days", 2, 180, log=True),
    }


def item_neighbours(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """How many neighbours, and what near means."""
    return {
        "k": trial.suggest_int("k", 10, 500, log=True),
        "similarity": trial.suggest_categorical("similarity", ["cosine", "tfidf", "bm25"]),
    }


def als(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """Number of factors, their shrinkage, and how much more a cell counts for its weight."""
    return {
        "factors": trial.suggest_int("factors", 32, 256, log=True),
        "regularisation": trial.suggest_float("regularisation", 1e-2, 100, log=True),
        "alpha": trial.suggest_float("alpha", 0.1, 40, log=True),
    }


SPACES: Mapping[str, Space | None] = {
    "popularity": popularity,
    "repeat": None,
    "item_neighbours": item_neighbours,
    "als": als,
}
"""By family, cheapest first; None where there is nothing to search."""
