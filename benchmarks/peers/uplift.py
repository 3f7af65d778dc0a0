"""Other libraries' uplift models, out of fold: `uplift.py FOLDER`, in `.venv-peers`, importing nothing of Attune.

FOLDER holds `rows.parquet` (`treated`, `outcome` and the columns x_*: numbers, and text for categories) and
`folds.parquet` (a column for each seed: which fold a row is in). Writes `scores.parquet`: a column `PEER|SEED` each.
Categories become columns of 0 and 1. Trees are small (8 leaves, 100 rounds of .05, 200 rows in a leaf): with their
defaults every library ranks worse on effects this small.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from causalml.inference.meta import BaseDRLearner, BaseSRegressor, BaseTRegressor, BaseXRegressor
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklift.models import ClassTransformation, SoloModel, TwoModels

SMALL: dict[str, Any] = {
    "num_leaves": 8, "n_estimators": 100, "learning_rate": 0.05, "min_child_samples": 200, "n_jobs": 1, "verbose": -1,
}  # fmt: skip
Peer = Callable[[pd.DataFrame, np.ndarray, np.ndarray, pd.DataFrame], np.ndarray]
"""From columns, who was treated and what came of it, and other people's columns to their scores."""


def causalml(learner: type, model: Callable[[], Any]) -> Peer:
    """One of causalml's meta-learners, the chance of treatment told."""

    def scored(X: pd.DataFrame, t: np.ndarray, y: np.ndarray, asked: pd.DataFrame) -> np.ndarray:
        fitted = learner(learner=model(), control_name=0)
        chance = {} if learner in (BaseSRegressor, BaseTRegressor) else {"p": np.full(len(X), t.mean())}
        fitted.fit(X.to_numpy(float), treatment=t, y=y, **chance)
        asked_chance = {"p": np.full(len(asked), t.mean())} if learner is BaseXRegressor else {}
        return np.asarray(fitted.predict(asked.to_numpy(float), **asked_chance)).ravel()

    return scored


def sklift(make: Callable[[], Any]) -> Peer:
    """One of scikit-uplift's models."""

    def scored(X: pd.DataFrame, t: np.ndarray, y: np.ndarray, asked: pd.DataFrame) -> np.ndarray:
        return np.asarray(make().fit(X, y.astype(int), t).predict(asked))

    return scored


def trees() -> LGBMRegressor:
    """Small, for numbers."""
    return LGBMRegressor(**SMALL)


def logistic() -> LogisticRegression:
    """On standardised columns."""
    return LogisticRegression(max_iter=1000)


PEERS: dict[str, Peer] = {
    "causalml-S-lightgbm": causalml(BaseSRegressor, trees),
    "causalml-T-lightgbm": causalml(BaseTRegressor, trees),
    "causalml-X-lightgbm": causalml(BaseXRegressor, trees),
    "causalml-DR-lightgbm": causalml(BaseDRLearner, trees),
    "causalml-X-linear": causalml(BaseXRegressor, LinearRegression),
    "sklift-S-lightgbm": sklift(lambda: SoloModel(LGBMClassifier(**SMALL))),
    "sklift-S-logistic": sklift(lambda: SoloModel(logistic(), method="treatment_interaction")),
    "sklift-T-logistic": sklift(lambda: TwoModels(logistic(), logistic())),
    "sklift-class-transformation": sklift(lambda: ClassTransformation(LGBMClassifier(**SMALL))),
}


def main() -> None:
    """Score every row by every peer, for every seed's folds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    warnings.filterwarnings("ignore")
    rows, folds = pd.read_parquet(folder / "rows.parquet"), pd.read_parquet(folder / "folds.parquet")
    X = pd.get_dummies(rows.filter(regex="^x_"), dtype=float)
    X = ((X - X.mean()) / X.std().replace(0, 1)).fillna(0.0)
    X.columns = [f"c{place}" for place in range(X.shape[1])]
    t, y = rows["treated"].to_numpy(int), rows["outcome"].to_numpy(float)
    found = {}
    for seed in folds:
        member = folds[seed].to_numpy()
        for name, peer in PEERS.items():
            scores = np.empty(len(rows))
            for fold in np.unique(member):
                learn, ask = member != fold, member == fold
                try:
                    scores[ask] = peer(X[learn], t[learn], y[learn], X[ask])
                except Exception as error:  # noqa: BLE001 - a peer that fails is told of, the others go on
                    print(f"{name}: {error}")
                    scores[ask] = np.nan
            found[f"{name}|{seed}"] = scores
    pd.DataFrame(found).to_parquet(folder / "scores.parquet")


if __name__ == "__main__":
    main()
