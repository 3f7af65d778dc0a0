"""S, T, X and DR: four ways to make regressions tell what a treatment changes.

Arms are codes 0 to K - 1, 0 = control. Whatever the learner, the effect of an arm is a weighted sum of regressors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.uplift.regressors import (
    Family,
    Linear,
    LinearRegressor,
    Logistic,
    LogisticRegressor,
    Regressor,
    Trees,
    logistic_ridge,
    ridge,
)

ArmTerms = tuple["Term", ...]


@dataclass(frozen=True, eq=False)
class Term:
    """One regressor's part in an effect.

    Attributes:
        weight: What it counts.
        regressor: Of the columns or, where `arm` is told, of the columns and the arm.
        arm: The arm that the person is imagined in; None = the regressor does not ask.
    """

    weight: float
    regressor: Regressor
    arm: int | None = None

    def predict(self, matrix: np.ndarray, level: np.ndarray) -> np.ndarray:
        """The weighted part, (n,), for people of a level."""
        asked = matrix if self.arm is None else np.column_stack([matrix, np.full(len(matrix), float(self.arm))])
        return self.weight * self.regressor.predict(asked, level)


@dataclass(frozen=True, eq=False)
class Rows:
    """What learners learn from.

    Attributes:
        matrix: Columns, NaN = missing, categories as codes, (n, n_features).
        arm: Codes, (n,).
        y: Outcome, (n,).
        probabilities: Of every arm, (n, K).
        expected: Outcome under each arm by models that did not see the row, (n, K).
    """

    matrix: np.ndarray
    arm: np.ndarray
    y: np.ndarray
    probabilities: np.ndarray
    expected: np.ndarray

    def __getitem__(self, kept: np.ndarray) -> Rows:
        return Rows(*(part[kept] for part in (self.matrix, self.arm, self.y, self.probabilities, self.expected)))

    @property
    def n_arms(self) -> int:
        """K."""
        return self.probabilities.shape[1]

    @property
    def level(self) -> np.ndarray:
        """The outcome to be expected of each person, whatever the arm, (n,)."""
        found: np.ndarray = self.expected.mean(axis=1)
        return found

    @property
    def values(self) -> np.ndarray:
        """Gamma_k = q_k + 1{a = k} (y - q_k) / p_k (Robins, Rotnitzky, Zhao 1994), (n, K)."""
        rows = np.arange(len(self.y))
        values = self.expected.copy()
        values[rows, self.arm] += (self.y - self.expected[rows, self.arm]) / self.probabilities[rows, self.arm]
        return values


Learner = Callable[[Any, Rows], list[ArmTerms]]
"""From a family of regressions and rows to the terms of each arm but the control."""


def s_learner(family: Family, rows: Rows) -> list[ArmTerms]:
    """One model of columns and arm (Kuenzel et al. 2019, section 2); an effect is the difference it makes of the arm.

    The linear one has, beside the columns and the arms, what all treatments share of each column and what is each
    arm's own; only those two are penalised, so that effects shrink toward the average, and arms toward each other.
    """
    K = rows.n_arms
    if isinstance(family, Trees):
        aware = Trees({**family.categories, rows.matrix.shape[1]: K}, family.seed)
        model = aware.fit(np.column_stack([rows.matrix, rows.arm.astype(np.float64)]), rows.y)
        return [(Term(1.0, model, arm), Term(-1.0, model, 0)) for arm in range(1, K)]
    if isinstance(family, Logistic):
        return _s_logistic(family, rows)
    D, level = family.views(rows.matrix), rows.level
    V = _directions(D)
    ins = np.eye(K)[rows.arm][:, 1:]
    # The level is there for all too: else what the columns miss of it would pass for an effect that grows with it.
    free = np.column_stack([np.ones(len(D)), D, level, ins, ins * (level - level.mean())[:, None]])
    # With one treatment, what all share is its own.
    away = np.column_stack([rows.arm > 0, *([ins] if K > 2 else [])]).astype(np.float64)
    shared_and_own = ((away - away.mean(axis=0))[:, :, None] * (D @ V)[:, None, :]).reshape(len(D), -1)
    weights = ridge(np.column_stack([free, shared_and_own]), rows.y, free.shape[1])
    of_arms, of_levels = weights[2 + D.shape[1] : free.shape[1]].reshape(2, K - 1)
    blocks = weights[free.shape[1] :].reshape(-1, V.shape[1]) @ V.T
    own = blocks[1:] if K > 2 else np.zeros_like(blocks)
    return [
        (Term(1.0, LinearRegressor(family.views, float(alone), float(slope), blocks[0] + mine)),)
        for alone, slope, mine in zip(of_arms, of_levels, own, strict=True)
    ]


def t_learner(family: Family, rows: Rows) -> list[ArmTerms]:
    """A model for each arm (ibid.); an effect is the difference of two."""
    models = outcome_models(family, rows)
    return [(Term(1.0, model), Term(-1.0, models[0])) for model in models[1:]]


def x_learner(family: Linear | Trees, rows: Rows) -> list[ArmTerms]:
    """What each person gained over the other arm's model, regressed in both arms (ibid., section 2.1, eq. 5 to 7).

    The two are averaged by the arms' sizes, the larger control believing more in what the treated tell.
    """
    terms: list[ArmTerms] = []
    out = rows.arm == 0
    for arm in range(1, rows.n_arms):
        into = rows.arm == arm
        of_treated = family.fit(rows.matrix[into], (rows.y - rows.expected[:, 0])[into], level=rows.level[into])
        of_control = family.fit(rows.matrix[out], (rows.expected[:, arm] - rows.y)[out], level=rows.level[out])
        g = float(into.sum() / (into.sum() + out.sum()))
        terms.append((Term(g, of_control), Term(1 - g, of_treated)))
    return terms


def dr_learner(family: Linear | Trees, rows: Rows) -> list[ArmTerms]:
    """The doubly robust effect of each person, Gamma_k - Gamma_0, regressed on the columns (Kennedy 2023)."""
    values = rows.values
    return [
        (Term(1.0, family.fit(rows.matrix, values[:, arm] - values[:, 0], level=rows.level)),)
        for arm in range(1, rows.n_arms)
    ]


LEARNERS: dict[str, Learner] = {"S": s_learner, "T": t_learner, "X": x_learner, "DR": dr_learner}
HELD = 0.99
"""Share of the views' variance that differences between people are looked for in."""
OF_OUTCOMES = ("S", "T")
"""Those that regress outcomes and not effects, which are no yes or no: what a logistic regression can serve."""


def outcome_models(family: Family, rows: Rows) -> list[Regressor]:
    """The outcome in each arm."""
    return [family.fit(rows.matrix[rows.arm == arm], rows.y[rows.arm == arm]) for arm in range(rows.n_arms)]


def summed(terms: ArmTerms, matrix: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The effect that terms add up to, (n,)."""
    return np.sum([term.predict(matrix, level) for term in terms], axis=0) if terms else np.zeros(len(matrix))


def scaled(terms: ArmTerms, by: float) -> ArmTerms:
    """The same terms, each counting `by` times what it did."""
    return tuple(replace(term, weight=term.weight * by) for term in terms)


def _directions(D: np.ndarray) -> np.ndarray:
    """Orthonormal directions that hold nearly all variance of the views, (p, r): so many features say the same.

    A ridge does not mind a rotation, and gives next to no weight to directions in which next to nothing varies; without
    them its work, which grows with the cube of columns x arms, is a hundredth.
    """
    eigenvalues, V = np.linalg.eigh(D.T @ D)
    left = np.cumsum(eigenvalues) / max(eigenvalues.sum(), 1e-300)
    return np.asarray(V[:, left > 1 - HELD])


def _s_logistic(family: Logistic, rows: Rows) -> list[ArmTerms]:
    """As the linear one, in log-odds; the level is in them anyway."""
    D, K = family.views(rows.matrix), rows.n_arms
    ins = np.eye(K)[:, 1:]
    away = np.column_stack([np.arange(K) > 0, *([ins] if K > 2 else [])]).astype(np.float64)
    away -= away[rows.arm].mean(axis=0)
    free = np.column_stack([np.ones(len(D)), D, ins[rows.arm]])
    V = _directions(D)
    both = (away[rows.arm][:, :, None] * (D @ V)[:, None, :]).reshape(len(D), -1)
    weights = logistic_ridge(np.column_stack([free, both]), rows.y, free.shape[1])
    base, of_arms = weights[1 : 1 + D.shape[1]], weights[1 + D.shape[1] : free.shape[1]]
    blocks = weights[free.shape[1] :].reshape(-1, V.shape[1]) @ V.T
    model = LogisticRegressor(family.views, weights[0] + ins @ of_arms, base + away @ blocks)
    return [(Term(1.0, model, arm), Term(-1.0, model, 0)) for arm in range(1, K)]
