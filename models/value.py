"""What a customer is worth: boosted trees that correct the expectation of a model of buying and leaving."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import lightgbm as lgb
import numpy as np
import pandas as pd

from data.errors import DataError
from models import saving
from models.fitted import Fitted
from models.matrix import importance_of, matrix_of

LEAST = 1e-6
"""An expectation is taken as at least this: its logarithm is where the trees begin."""


class Value(Fitted):
    """Trees on the logarithm of an expectation (LightGBM; Ke et al. 2017): how much more or less than it says.

    The probabilistic models know what frequency and recency mean; the trees learn from all else, such as amounts,
    visits and messages, where these models are wrong. They begin at the expectation, so that with nothing to learn
    it stays as it is. Only half of what they say is followed (`trust`, on the logarithm), and the mean stays the
    expectation's own: a season's level does not last, who is above it does. Features are numbers; they may be missing.

    Args:
        kind: Of the outcome: a number of purchases (Poisson), or money with many zeros (Tweedie).
        leaves: Of a tree.
        learning_rate: Of boosting.
        min_rows_in_leaf: Of a tree.
        column_share: Of the features that a tree may use.
        l2: Penalty on the leaves.
        rounds: Trees.
        trust: 0 = the expectation alone, 1 = all that the trees say.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> frame = pd.DataFrame({"first_order": rng.uniform(0, 100, 5000)})
        >>> bought = rng.poisson(np.where(frame.first_order > 50, 3, 1)).astype(float)
        >>> model = Value(kind="purchases", trust=1.0).fit(frame, bought, np.full(5000, 2.0))
        >>> model.predict(pd.DataFrame({"first_order": [20.0, 80.0]}), np.full(2, 2.0)).round()
        array([1., 3.])
    """

    features: list[str]

    def __init__(
        self,
        *,
        kind: Literal["purchases", "spend"],
        leaves: int = 6,
        learning_rate: float = 0.03,
        min_rows_in_leaf: int = 200,
        column_share: float = 0.5,
        l2: float = 20.0,
        rounds: int = 150,
        trust: float = 0.5,
    ) -> None:
        self.kind = kind
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.min_rows_in_leaf = min_rows_in_leaf
        self.column_share = column_share
        self.l2 = l2
        self.rounds = rounds
        self.trust = trust

    @property
    def params(self) -> dict[str, Any]:
        """The hyperparameters by name."""
        names = ("kind", "leaves", "learning_rate", "min_rows_in_leaf", "column_share", "l2", "rounds", "trust")
        return {name: getattr(self, name) for name in names}

    def fit(self, features: pd.DataFrame, outcome: np.ndarray, expected: np.ndarray, *, seed: int = 0) -> Self:
        """Learn how outcomes differ from what was expected.

        Args:
            features: Numbers, a row per customer and cutoff. Every column is used.
            outcome: Purchases or spend in the horizon after the cutoff, shape (n,).
            expected: What a probabilistic model expected of it, shape (n,).
            seed: Of the sampled columns.

        Raises:
            DataError: an outcome or expectation that is negative or missing, a column that is no numbers, or outcomes
                that are all 0.
        """
        for name, values in (("outcome", outcome), ("expected", expected)):
            if values.shape != (len(features),) or not (np.isfinite(values) & (values >= 0)).all():
                raise DataError(f"value: {name} must be {len(features)} numbers of 0 or more. Take returns off first.")
        if not outcome.any():
            raise DataError("value: nobody bought in the horizon. Use an earlier cutoff or a longer horizon.")
        self.features = [str(name) for name in features.columns]
        options = {
            "objective": "poisson" if self.kind == "purchases" else "tweedie",
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_rows_in_leaf,
            "feature_fraction": self.column_share,
            "lambda_l2": self.l2,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        start = np.log(np.maximum(expected, LEAST))
        self._booster = lgb.train(options, lgb.Dataset(self._matrix(features), outcome, init_score=start), self.rounds)
        self.level = 1.0
        self.level = float(expected.sum() / max(self.predict(features, expected).sum(), LEAST))
        return self

    def predict(self, features: pd.DataFrame, expected: np.ndarray) -> np.ndarray:
        """Corrected expectations, float64 of shape (n,). Columns may be in any order; others are ignored.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: a feature is not there, or is no numbers.
        """
        matrix = self._matrix(features)
        if not len(matrix):
            return np.zeros(0)
        said = np.asarray(self._booster.predict(matrix, raw_score=True, num_threads=1))
        corrected: np.ndarray = self.level * expected * np.exp(self.trust * said)
        return corrected

    def importance(self) -> pd.Series:
        """Each feature's share of the loss that all splits took away, the greatest first; sums to 1 (or is all 0)."""
        self._check_fitted()
        return importance_of(self._booster.feature_importance("gain"), self.features)

    def save(self, folder: Path) -> None:
        """Write `trees.txt` (LightGBM's own text) and `model.json`; the folder appears whole or not at all."""
        self._check_fitted()
        about = {
            "name": "value",
            "params": self.params,
            "features": self.features,
            "level": self.level,
        }
        saving.write(folder, about, trees=self._booster.model_to_string())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: a file is missing, cut short or changed.
        """
        with saving.reading(folder) as about:
            trees = saving.read_trees(folder, about)
            model = cls(**about["params"])
            model.features, model.level = list(about["features"]), float(about["level"])
        model._booster = lgb.Booster(model_str=trees)
        return model

    def _matrix(self, features: pd.DataFrame) -> np.ndarray:
        self._check_fitted()
        return matrix_of(features, self.features)
