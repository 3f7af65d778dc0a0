"""What each action earns whom, learnt from a log, for the estimates that lean on such a model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from data.errors import DataError
from models.columns import Columns
from models.uplift.encoding import category_sizes, encoded
from models.uplift.regressors import ridge
from models.views import Views

FOLDS = 10
FEW = 10
"""Decisions with an action, below which it is expected to earn what all actions do."""


def expected_rewards(
    table: pd.DataFrame,
    action: np.ndarray,
    reward: np.ndarray,
    *,
    n_actions: int,
    probability: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Expected reward of every action for every row, by ridge regressions that did not see it, (n, K).

    One regression for each action on the rows that took it, each weighted by 1 / probability: a log knows an action
    best on those whom its policy thought it good for, and is asked about everybody (Farajtabar et al. 2018, "More
    robust doubly robust off-policy evaluation"). The penalty is the likeliest (`regressors.ridge`), so that an action
    about which little is known earns near its mean. Predictions stay between the least and the greatest reward.

    Args:
        table: The context of each decision, whatever columns.
        action: Codes, (n,).
        reward: What it earned, (n,).
        n_actions: K.
        probability: That each was made with, (n,); all alike where none is given.
        seed: Of the folds.

    Raises:
        DataError: not one of each.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> table, action = pd.DataFrame({"age": rng.uniform(20, 60, 1000)}), rng.integers(2, size=1000)
        >>> reward = action * (table.age.to_numpy() > 40) + rng.normal(0, 0.1, 1000)
        >>> expected_rewards(table, action, reward, n_actions=2).shape
        (1000, 2)
    """
    n = len(table)
    if action.shape != (n,) or reward.shape != (n,):
        raise DataError(f"{n} rows, {len(action)} actions, {len(reward)} rewards; give one of each.")
    columns = Columns.learn(table)
    matrix = encoded(columns, table)
    D = np.column_stack([np.ones(n), Views(matrix, category_sizes(columns))(matrix)])
    weight = np.ones(n) if probability is None else 1 / probability
    member = np.random.default_rng(seed).permutation(n) % FOLDS
    expected = np.empty((n, n_actions))
    for fold in range(FOLDS):
        learn, ask = member != fold, member == fold
        for code in range(n_actions):
            took = learn & (action == code)
            if took.sum() < FEW:
                expected[ask, code] = np.average(reward[learn], weights=weight[learn])
            else:
                root = np.sqrt(weight[took] / weight[took].mean())
                expected[ask, code] = D[ask] @ ridge(D[took] * root[:, None], reward[took] * root, 1)
    return expected.clip(reward.min(), reward.max())
