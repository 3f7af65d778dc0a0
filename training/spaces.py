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


def repeat(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """How soon a thing is to be taken again, and what is popular meanwhile."""
    return {"horizon_days": trial.suggest_float("horizon_days", 3, 90, log=True), **popularity(trial)}


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


def linear(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """Shrinkage, and how much the popular items and the busy users count."""
    return {
        "regularisation": trial.suggest_float("regularisation", 0.1, 100, log=True),
        "item_power": trial.suggest_float("item_power", 0, 0.6),
        "user_power": trial.suggest_float("user_power", 0, 0.6),
    }


def graph(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """How much busy users and popular items count, and the ideal low-pass."""
    return {
        "ideal_weight": trial.suggest_float("ideal_weight", 0, 0.3, step=0.1),
        "user_power": trial.suggest_float("user_power", 0.1, 0.6),
        "item_power": trial.suggest_float("item_power", 0.2, 0.6),
        "degree_power": trial.suggest_float("degree_power", 0, 0.5),
    }


def bspm(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """As for every graph filter, and for how long to sharpen."""
    return {**BSPM, **graph(trial), "sharpening": trial.suggest_float("sharpening", 0.5, 4)}


def chebycf(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """As for every graph filter, and how wide the plateau is."""
    return {**CHEBYCF, **graph(trial), "flatness": trial.suggest_float("flatness", 0.5, 8, log=True)}


def content(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """Shrinkage."""
    return {"regularisation": trial.suggest_float("regularisation", 0.1, 1_000, log=True)}


def sequence(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """Size, depth, how much is hidden while learning, and the kind of blocks."""
    return {
        "dim": trial.suggest_categorical("dim", [32, 64, 128]),
        "layers": trial.suggest_int("layers", 1, 3),
        "positions": trial.suggest_categorical("positions", [50, 100, 200]),
        "dropout": trial.suggest_categorical("dropout", [None, 0.1, 0.2, 0.3, 0.4, 0.5]),
        "gated": trial.suggest_categorical("gated", [False, True]),
    }


def ranker(trial: optuna.trial.BaseTrial) -> dict[str, Any]:
    """How many candidates, which labels, and how large the trees are."""
    return {
        "n_candidates": trial.suggest_int("n_candidates", 20, 200, log=True),
        "horizon_days": trial.suggest_categorical("horizon_days", [7, 14, 30, 60]),
        "leaves": trial.suggest_int("leaves", 7, 63, log=True),
        "min_rows_in_leaf": trial.suggest_int("min_rows_in_leaf", 10, 200, log=True),
    }


BSPM: Mapping[str, Any] = {
    "filter": "bspm",
    "factors": 448,
    "ideal_weight": 0.2,
    "user_power": 0.5,
    "item_power": 0.5,
    "degree_power": 0.5,
    "kept_per_item": 4_000,
}
"""As Choi et al. 2023 set it; many are kept per item, for it spreads wide."""
CHEBYCF: Mapping[str, Any] = {
    "filter": "chebycf",
    "factors": 512,
    "ideal_weight": 0.2,
    "user_power": 0.5,
    "item_power": 0.5,
    "degree_power": 0.4,
    "kept_per_item": 4_000,
}
"""As Kim et al. 2025 set it, as wide."""

SPACES: Mapping[str, Space] = {
    "popularity": popularity,
    "repeat": repeat,
    "item_neighbours": item_neighbours,
    "content": content,
    "als": als,
    "graph": graph,
    "graph-bspm": bspm,
    "graph-chebycf": chebycf,
    "linear": linear,
    "ranker": ranker,
    "sequence": sequence,
}
"""By family, cheapest first."""

STARTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "graph-bspm": ("graph", BSPM),
    "graph-chebycf": ("graph", CHEBYCF),
}
"""Families that are not called like their model: that model, and where their first trial differs from its defaults."""


def start_of(family: str) -> tuple[str, Mapping[str, Any]]:
    """The model of a family, and where the family's first trial differs from that model's defaults.

    Example:
        >>> start_of("als")
        ('als', {})
    """
    return STARTS.get(family, (family, {}))


LEARNT: Mapping[str, Mapping[str, str]] = {"sequence": {"epochs": "epochs_learnt"}}
"""By family, hyperparameters that a fit finds out on what it holds out, and the fitted model's attribute for each. A
refit is told them, holds nothing out and takes as long as the fit did."""
