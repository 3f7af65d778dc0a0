"""Chances of each arm where nobody logged them: estimated from what was known of the people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from models.columns import Columns
from models.logistic import RidgeLogistic
from models.uplift.encoding import category_sizes, encoded

FOLDS = 5
LEAST = 0.02
"""Estimates are held above it, so that no one person outweighs fifty."""


@dataclass(frozen=True, eq=False)
class AssignmentFit:
    """Estimated chances.

    Attributes:
        probabilities: Of every arm, by models that did not see the person, (n, K).
        held: Share of the people with a chance that was held at `LEAST`: for them an arm cannot be judged.
    """

    probabilities: np.ndarray
    held: float


def estimated_probabilities(table: pd.DataFrame, arm: np.ndarray, *, n_arms: int, seed: int = 0) -> AssignmentFit:
    """Cross-fitted ridge logistic regressions, one arm against the others, made to sum to one.

    Right only if whatever decided the arms and moves the outcome is among the columns.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> table = pd.DataFrame({"age": rng.uniform(20, 60, 1000)})
        >>> arm = (rng.random(1000) < 0.3).astype(int)
        >>> fitted = estimated_probabilities(table, arm, n_arms=2)
        >>> bool(abs(fitted.probabilities[:, 1].mean() - 0.3) < 0.03)
        True
    """
    columns = Columns.learn(table)
    matrix, categories = encoded(columns, table), category_sizes(columns)
    member = np.random.default_rng(seed).permutation(len(arm)) % FOLDS
    odds = np.empty((len(arm), n_arms))
    for fold in range(FOLDS):
        learn, ask = member != fold, member == fold
        for code in range(n_arms):
            model = RidgeLogistic(l2=1.0).fit(matrix[learn], (arm[learn] == code).astype(float), categories=categories)
            odds[ask, code] = 1 / (1 + np.exp(-model.log_odds(matrix[ask])))
    p = odds / odds.sum(axis=1, keepdims=True)
    held = np.maximum(p, LEAST)
    return AssignmentFit(held / held.sum(axis=1, keepdims=True), float((p < LEAST).any(axis=1).mean()))
