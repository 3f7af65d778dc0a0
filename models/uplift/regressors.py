"""The regressions of which uplift learners are built: a ridge that sets its own penalty, also in log-odds; small trees.

Both read a matrix (n, n_features), NaN = missing, categories as codes and, where effects are learnt, each person's
level: the outcome to be expected of them whatever the arm. Effects that grow with it are the rule (a discount adds a
share of what somebody buys anyway), so that the ridge does not penalise it (Kent et al. 2020, "risk modelling").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightgbm as lgb
import numpy as np
from scipy.special import expit

from models.views import Views

PENALTIES = np.geomspace(1e-3, 1e5, 33)
"""Of the ridge, in eigenvalues of an average column; the last leaves next to nothing."""
SLIGHT = 1e-6
"""Penalty, per row, on what is not penalised: columns may say the same twice."""
RAREST = 1e-4
"""Chance of a yes, and of a no, below which log-odds are not followed: they would run off."""
MAX_STEPS, ENOUGH = 12, 1e-3
"""Of the logistic regression, and the change of every weight below which it stops."""
LEAVES, ROUNDS, LEARNING_RATE, COLUMN_SHARE, LEAF_L2 = 4, 60, 0.05, 0.6, 100.0
MIN_ROWS_IN_LEAF, LEAF_SHARE = 20, 40
"""A leaf holds at least so many rows, and a fortieth of all: an effect is smaller than the noise around it."""


def ridge(D: np.ndarray, y: np.ndarray, n_free: int) -> np.ndarray:
    """Weights (p,) of a ridge regression whose first `n_free` columns are not penalised.

    The penalty on the others is the one that makes y most likely when they are normal around zero (type II maximum
    likelihood; MacKay 1992): where nothing is to be found they are next to zero, without any fold being spent.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> D = np.column_stack([np.ones(400), rng.normal(size=(400, 5))])
        >>> weights = ridge(D, 3 + D[:, 1] + rng.normal(size=400), 1)
        >>> bool(abs(weights[1] - 1) < 0.2), bool(np.abs(weights[2:]).max() < 0.2)
        (True, True)
    """
    n = len(y)
    F, Z = D[:, :n_free], D[:, n_free:]
    inverse = np.linalg.inv(F.T @ F + SLIGHT * n * np.eye(n_free))
    r = y - F @ (inverse @ (F.T @ y))
    FZ = F.T @ Z
    eigenvalues, Q = np.linalg.eigh(Z.T @ Z - FZ.T @ inverse @ FZ)
    d = np.maximum(eigenvalues, 0)
    c = Q.T @ (Z.T @ r)
    if not d.any():
        return np.append(inverse @ (F.T @ y), np.zeros(Z.shape[1]))
    # -2 log likelihood of r over the penalties, its noise variance at the best for each.
    grid = PENALTIES[:, None] * d.mean()
    left = np.maximum(r @ r - (c**2 / (d + grid)).sum(axis=1), 1e-12 * max(float(r @ r), 1e-300))
    penalty = grid[int((np.log1p(d / grid).sum(axis=1) + n * np.log(left)).argmin()), 0]
    weights = Q @ (c / (d + penalty))
    return np.append(inverse @ (F.T @ (y - Z @ weights)), weights)


def logistic_ridge(D: np.ndarray, y: np.ndarray, n_free: int) -> np.ndarray:
    """Weights (p,) of the log-odds of y, 0 or 1: `ridge`, iterated (penalised quasi-likelihood; Breslow, Clayton 1993).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> D = np.column_stack([np.ones(4000), rng.normal(size=(4000, 5))])
        >>> weights = logistic_ridge(D, (rng.uniform(size=4000) < expit(D[:, 1] - 1)).astype(float), 1)
        >>> bool(abs(weights[1] - 1) < 0.2), bool(np.abs(weights[2:]).max() < 0.2)
        (True, True)
    """
    rate = np.clip(y.mean(), RAREST, 1 - RAREST)
    weights = np.append(np.log(rate / (1 - rate)), np.zeros(D.shape[1] - 1))
    for _ in range(MAX_STEPS):
        chance = np.clip(expit(D @ weights), RAREST, 1 - RAREST)
        spread = np.sqrt(chance * (1 - chance))
        z = np.log(chance / (1 - chance)) + (y - chance) / spread**2
        before, weights = weights, ridge(D * spread[:, None], z * spread, n_free)
        if np.abs(weights - before).max() < ENOUGH:
            break
    return weights


class Linear:
    """Ridge regression on the `Views` of the columns, which are learnt once from the rows of a table."""

    name = "linear"

    def __init__(self, views: Views) -> None:
        self.views = views

    def fit(self, matrix: np.ndarray, y: np.ndarray, *, level: np.ndarray | None = None) -> LinearRegressor:
        """One penalty for all columns, none on the intercept and on `level`, (n,), where it is given."""
        free = np.column_stack([np.ones(len(y)), *([] if level is None else [level])])
        weights = ridge(np.column_stack([free, self.views(matrix)]), y, free.shape[1])
        return LinearRegressor(
            self.views, float(weights[0]), 0.0 if level is None else float(weights[1]), weights[free.shape[1] :]
        )


class LinearRegressor:
    """An intercept, a weight on the level and those on the views."""

    def __init__(self, views: Views, intercept: float, of_level: float, weights: np.ndarray) -> None:
        self.views, self.intercept, self.of_level, self.weights = views, intercept, of_level, weights

    def predict(self, matrix: np.ndarray, level: np.ndarray | None = None) -> np.ndarray:
        """Shape (n,)."""
        found: np.ndarray = self.views(matrix) @ self.weights + self.intercept
        return found if level is None else found + self.of_level * level


class Logistic:
    """The same for a yes or a no, in log-odds: what adds as much to all of them moves chances near one half most."""

    name = "logistic"

    def __init__(self, views: Views) -> None:
        self.views = views

    def fit(self, matrix: np.ndarray, y: np.ndarray) -> LogisticRegressor:
        """One penalty for all columns, none on the intercept."""
        weights = logistic_ridge(np.column_stack([np.ones(len(y)), self.views(matrix)]), y, 1)
        return LogisticRegressor(self.views, weights[:1], weights[None, 1:])


class LogisticRegressor:
    """Of each of K arms an intercept, (K,), and the weights on the views, (K, p), in log-odds."""

    def __init__(self, views: Views, intercepts: np.ndarray, weights: np.ndarray) -> None:
        self.views, self.intercepts, self.weights = views, intercepts, weights

    def predict(self, matrix: np.ndarray, level: np.ndarray | None = None) -> np.ndarray:  # noqa: ARG002
        """The chance of a yes, (n,); where there are several arms, the last column tells which."""
        arm = np.zeros(len(matrix), dtype=np.int64)
        if len(self.intercepts) > 1:
            matrix, arm = matrix[:, :-1], matrix[:, -1].astype(np.int64)
        log_odds = np.einsum("ij,ij->i", self.views(matrix), self.weights[arm]) + self.intercepts[arm]
        found: np.ndarray = expit(log_odds)
        return found


class Trees:
    """Small LightGBM trees for squared error (Ke et al. 2017).

    Args:
        categories: Column -> how many categories it has.
        seed: Of the sampled columns.
    """

    name = "trees"

    def __init__(self, categories: Mapping[int, int], seed: int = 0) -> None:
        self.categories, self.seed = dict(categories), seed

    def fit(self, matrix: np.ndarray, y: np.ndarray, *, level: np.ndarray | None = None) -> TreeRegressor:
        """Grow them; `level`, (n,), is one more column."""
        matrix = matrix if level is None else np.column_stack([matrix, level])
        centre, scale = float(y.mean()), float(y.std()) or 1.0
        options = {
            "objective": "regression",
            "num_leaves": LEAVES,
            "learning_rate": LEARNING_RATE,
            "min_data_in_leaf": max(MIN_ROWS_IN_LEAF, len(y) // LEAF_SHARE),
            "feature_fraction": COLUMN_SHARE,
            "lambda_l2": LEAF_L2,
            "boost_from_average": False,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        rows = lgb.Dataset(matrix, (y - centre) / scale, categorical_feature=list(self.categories))
        booster = lgb.train(options, rows, ROUNDS)
        return TreeRegressor(booster.model_to_string(), centre, scale)


class TreeRegressor:
    """LightGBM's own text, and the mean and spread of what it learnt."""

    def __init__(self, text: str, centre: float, scale: float) -> None:
        self.text, self.centre, self.scale = text, centre, scale
        self._booster = lgb.Booster(model_str=text)

    def predict(self, matrix: np.ndarray, level: np.ndarray | None = None) -> np.ndarray:
        """Shape (n,)."""
        if level is not None and self._booster.num_feature() > matrix.shape[1]:
            matrix = np.column_stack([matrix, level])
        return self.centre + self.scale * np.asarray(self._booster.predict(matrix, num_threads=1))


Regressor = LinearRegressor | LogisticRegressor | TreeRegressor
Family = Linear | Logistic | Trees


def to_json(regressor: Regressor, texts: list[str]) -> dict[str, Any]:
    """Plain values; a tree's text is put at the end of `texts`."""
    if isinstance(regressor, LinearRegressor):
        return {
            "kind": "linear",
            "intercept": regressor.intercept,
            "of_level": regressor.of_level,
            "weights": regressor.weights.tolist(),
        }
    if isinstance(regressor, LogisticRegressor):
        told = {"intercepts": regressor.intercepts.tolist(), "weights": regressor.weights.tolist()}
        return {"kind": "logistic", **told}
    texts.append(regressor.text)
    return {"kind": "trees", "text": len(texts) - 1, "centre": regressor.centre, "scale": regressor.scale}


def from_json(told: Mapping[str, Any], views: Views, texts: list[str]) -> Regressor:
    """What `to_json` gave.

    Raises:
        KeyError, IndexError, ValueError: it is not that.
    """
    if told["kind"] == "trees":
        return TreeRegressor(texts[told["text"]], float(told["centre"]), float(told["scale"]))
    weights = np.asarray(told["weights"], dtype=np.float64)
    if told["kind"] == "logistic":
        return LogisticRegressor(views, np.asarray(told["intercepts"], dtype=np.float64), weights)
    return LinearRegressor(views, float(told["intercept"]), float(told["of_level"]), weights)
