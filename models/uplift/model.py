"""What a treatment changes for whom: learners stacked, and believed as far as held-out people bear them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from scipy.special import ndtr

from data.errors import DataError
from models import saving
from models.columns import Columns
from models.fitted import Fitted
from models.uplift.encoding import category_sizes, encoded
from models.uplift.learners import LEARNERS, OF_OUTCOMES, ArmTerms, Rows, Term, outcome_models, scaled, summed
from models.uplift.regressors import Family, Linear, Logistic, Regressor, Trees, from_json, to_json
from models.views import Views

FOLDS = 3
"""Within the rows that are learnt from."""
MIN_ARM = 50
"""People of an arm, below which nothing is learnt about it."""
WEIGHT_SPREAD = 0.1
"""Standard deviation of the normal prior on the weight of each learner."""
PRIOR = {"linear": 4.0, "logistic": 4.0, "trees": 1.0}
"""Its mean, relative: on effects as small as a mail's, straight lines err less than steps; data may say otherwise."""
BELIEF, DOUBT = 0.5, 0.5
"""Mean and standard deviation of the slope's prior: what is predicted may be noise, or right."""
BETWEEN = "\n=== next booster ===\n"


@dataclass(frozen=True, slots=True)
class ArmEffect:
    """What was found of one arm against the control.

    Attributes:
        average: Extra outcome per person, doubly robust.
        standard_error: Of the average.
        slope: What one unit of predicted difference between people was worth in held-out people.
        slope_error: Its robust standard error.
        believed: Part of the predicted differences that is kept: the mean of the slope's posterior, its prior being
            normal with `BELIEF` and `DOUBT`; not below 0. 0 = the average for everybody.
        differs: P value of "people do not differ as predicted", one-sided.
    """

    average: float
    standard_error: float
    slope: float
    slope_error: float
    believed: float
    differs: float


class UpliftModel(Fitted):
    """S, T, X and DR learners over ridge, logistic regression and small trees, stacked, shrunk to the average effect.

    Within folds every learner predicts the effect for people it did not see, and is brought to size by what they bear
    out. The learners' weights, at least 0 and held near `PRIOR`, minimise the doubly robust loss, the squared distance
    to Gamma_k - Gamma_0 (Nie, Wager 2021, section 4.2, for such stacking). How much of the stack's differences between
    people is kept, arm by arm, `ArmEffect.believed` says; the average effect is the doubly robust one. Effects on a yes
    or a no are differences of probabilities. The same data and seed give the same model.

    Args:
        learners: Names of `LEARNERS`.
        families: Of `linear`, `logistic` (of a yes or a no, for learners that regress outcomes) and `trees`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> table = pd.DataFrame({"age": rng.uniform(20, 60, 2000)})
        >>> arm = rng.integers(2, size=2000)
        >>> y = rng.normal(size=2000) + arm * (table.age.to_numpy() > 40) * 2
        >>> model = UpliftModel(families=["linear"]).fit(table, arm, y)
        >>> young, old = model.predict(pd.DataFrame({"age": [25.0, 55.0]}))[:, 1]
        >>> bool(young < 0.7 < 1.3 < old)
        True
    """

    _answers_from = "_terms"

    arms: tuple[str, ...]
    columns: Columns
    effects: tuple[ArmEffect, ...]
    weights: dict[str, float]

    def __init__(self, *, learners: Sequence[str] = tuple(LEARNERS), families: Sequence[str] = tuple(PRIOR)) -> None:
        self.learners, self.families = tuple(learners), tuple(families)

    def fit(
        self,
        table: pd.DataFrame,
        arm: np.ndarray,
        outcome: np.ndarray,
        *,
        probabilities: np.ndarray | None = None,
        arms: Sequence[str] | None = None,
        seed: int = 0,
    ) -> Self:
        """Learn from an experiment.

        Args:
            table: What was known of each person before, whatever columns; see `models.columns`.
            arm: Codes, 0 = control, (n,).
            outcome: A yes or a no as 1 or 0, or money, (n,).
            probabilities: Of every arm for each person, (n, K); by default the arms' shares, as of a plain experiment.
            arms: Names, by code.
            seed: Of the folds and the trees.

        Raises:
            DataError: an arm of under 50 people, an outcome that is missing or never changes, a probability that is
                missing or 0, or no column that says anything.
        """
        arm, y = np.asarray(arm, dtype=np.int64), np.asarray(outcome, dtype=np.float64)
        n_arms = len(arms) if arms is not None else int(arm.max()) + 1 if len(arm) else 0
        self.arms = tuple(arms) if arms is not None else tuple(f"arm {code}" for code in range(n_arms))
        p = _checked(len(table), arm, y, probabilities, self.arms)
        self.columns = Columns.learn(table)
        matrix = encoded(self.columns, table)
        self._views = Views(matrix, category_sizes(self.columns))
        families = self._families(binary=bool(np.isin(y, (0, 1)).all()), seed=seed)
        member = _folds(arm, seed)
        rows = _cross_fitted(families, Rows(matrix, arm, y, p, np.empty(p.shape)), member)
        values = rows.values
        gained = values[:, 1:] - values[:, :1]
        pairs = self._pairs(families)
        names = [f"{learner} {family.name}" for learner, family in pairs]
        held_out = np.empty((len(names), *gained.shape))
        for fold in range(FOLDS):
            here, others = rows[member == fold], member != fold
            # Nothing may know this fold, what is expected of the others included: it would be judged by its own noise.
            known = _cross_fitted(families, rows[others], member[others])
            for place, terms in enumerate(self._learnt(families, known)):
                parts = [summed(part, here.matrix, here.level) for part in terms]
                held_out[place, ~others] = np.column_stack(parts)
        centred = held_out - held_out.mean(axis=1, keepdims=True)
        to_size = np.array(
            [[_believed(one[:, k], gained[:, k]).believed for k in range(n_arms - 1)] for one in centred]
        )
        prior = np.array([PRIOR[family.name] for _, family in pairs])
        stack = _stacked(centred * to_size[:, None, :], gained, prior / prior.sum())
        counted = stack[:, None] * to_size
        together = (centred * counted[:, None, :]).sum(axis=0)
        self.effects = tuple(_believed(together[:, k], gained[:, k]) for k in range(n_arms - 1))
        self.weights = dict(zip(names, stack.tolist(), strict=True))
        self._finish(families, rows, counted)
        return self

    def predict(self, table: pd.DataFrame) -> np.ndarray:
        """Extra outcome under each arm over the control, float64 (n, K); the control's column is 0.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: a column is not there.
        """
        self._check_fitted()
        matrix = encoded(self.columns, table)
        level = _mean_outcomes(self._outcomes, matrix).mean(axis=1)
        effects = [np.zeros(len(table))]
        effects += [
            shift + summed(terms, matrix, level) for shift, terms in zip(self._shifts, self._terms, strict=True)
        ]
        return np.column_stack(effects)

    def expected(self, table: pd.DataFrame) -> np.ndarray:
        """The outcome itself under each arm, float64 (n, K): what a response model says, and what estimates lean on.

        Raises:
            NotFittedError, DataError: as `predict`.
        """
        self._check_fitted()
        return _mean_outcomes(self._outcomes, encoded(self.columns, table))

    def save(self, folder: Path) -> None:
        """Write `trees.txt` (LightGBM's own text, one booster after another) and `model.json`."""
        self._check_fitted()
        texts: list[str] = []
        about = {
            "name": "uplift",
            "learners": self.learners,
            "families": self.families,
            "arms": self.arms,
            **self.columns.to_json(),
            "views": self._views.to_json(),
            "effects": [asdict(effect) for effect in self.effects],
            "weights": self.weights,
            "shifts": list(self._shifts),
            "terms": [
                [{"weight": t.weight, "arm": t.arm, "regressor": to_json(t.regressor, texts)} for t in terms]
                for terms in self._terms
            ],
            "outcomes": [[to_json(model, texts) for model in models] for models in self._outcomes],
        }
        saving.write(folder, about, trees=BETWEEN.join(texts))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: a file is missing, cut short or changed.
        """
        with saving.reading(folder) as about:
            texts = saving.read_trees(folder, about).split(BETWEEN)
            model = cls(learners=about["learners"], families=about["families"])
            model.arms = tuple(about["arms"])
            model.columns = Columns.from_json(about)
            model._views = Views.from_json(about["views"])
            model.effects = tuple(ArmEffect(**told) for told in about["effects"])
            model.weights, model._shifts = about["weights"], tuple(about["shifts"])
            model._terms = [
                tuple(Term(t["weight"], from_json(t["regressor"], model._views, texts), t["arm"]) for t in terms)
                for terms in about["terms"]
            ]
            model._outcomes = [
                [from_json(told, model._views, texts) for told in models] for models in about["outcomes"]
            ]
        return model

    def _learnt(self, families: Sequence[Family], rows: Rows) -> list[list[ArmTerms]]:
        return [LEARNERS[learner](family, rows) for learner, family in self._pairs(families)]

    def _pairs(self, families: Sequence[Family]) -> list[tuple[str, Family]]:
        return [
            (learner, family)
            for learner in self.learners
            for family in families
            if learner in OF_OUTCOMES or not isinstance(family, Logistic)
        ]

    def _finish(self, families: Sequence[Family], rows: Rows, counted: np.ndarray) -> None:
        """Learn on all rows what counts, (C, K - 1); differences are about the mean of the people learnt from."""
        learnt = self._learnt(families, rows)
        self._terms: list[ArmTerms] = []
        shifts = []
        for k, effect in enumerate(self.effects):
            parts = [scaled(terms[k], effect.believed * w) for terms, w in zip(learnt, counted[:, k], strict=True)]
            together = tuple(term for part in parts for term in part if term.weight)
            self._terms.append(together)
            shifts.append(effect.average - float(summed(together, rows.matrix, rows.level).mean()))
        self._shifts = tuple(shifts)
        self._outcomes = [outcome_models(family, rows) for family in families]

    def _families(self, *, binary: bool, seed: int) -> list[Family]:
        made: dict[str, Family] = {
            "linear": Linear(self._views),
            "logistic": Logistic(self._views),
            "trees": Trees(category_sizes(self.columns), seed),
        }
        return [made[name] for name in self.families if binary or name != Logistic.name]


def _stacked(z: np.ndarray, gained: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Weights, (C,), of centred effects out of fold, (C, n, K - 1), toward doubly robust ones, (n, K - 1)."""
    spread = gained.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    Z = (z / scale).reshape(len(z), -1)
    target = ((gained - gained.mean(axis=0)) / scale).ravel()
    A = Z @ Z.T + np.eye(len(Z)) / WEIGHT_SPREAD**2
    root = np.linalg.cholesky(A).T
    weights: np.ndarray = nnls(root, np.linalg.solve(root.T, Z @ target + prior / WEIGHT_SPREAD**2))[0]
    return weights


def _believed(predicted: np.ndarray, gained: np.ndarray) -> ArmEffect:
    n, average = len(gained), float(gained.mean())
    standard_error = float(gained.std(ddof=1) / np.sqrt(n))
    weight = float(predicted @ predicted)
    if weight < 1e-18 * n:
        return ArmEffect(average, standard_error, 0.0, 0.0, 0.0, 1.0)
    slope = float(predicted @ gained) / weight
    error = float(np.sqrt(predicted**2 @ (gained - average - slope * predicted) ** 2)) / weight
    told = DOUBT**2 / (DOUBT**2 + error**2)
    believed = max(told * slope + (1 - told) * BELIEF, 0.0)
    return ArmEffect(average, standard_error, slope, error, believed, float(ndtr(-slope / max(error, 1e-300))))


def _cross_fitted(families: Sequence[Family], rows: Rows, member: np.ndarray) -> Rows:
    """The rows, what is expected of each fold learnt from the others among them."""
    expected = np.empty_like(rows.expected)
    for fold in np.unique(member):
        here = member == fold
        models = [outcome_models(family, rows[~here]) for family in families]
        expected[here] = _mean_outcomes(models, rows.matrix[here])
    return replace(rows, expected=expected)


def _mean_outcomes(models: Sequence[Sequence[Regressor]], matrix: np.ndarray) -> np.ndarray:
    """(families, K) regressors -> (n, K)."""
    return np.mean([np.column_stack([model.predict(matrix) for model in of_family]) for of_family in models], axis=0)


def _folds(arm: np.ndarray, seed: int) -> np.ndarray:
    """Of each row, (n,): every fold has its share of every arm."""
    rng = np.random.default_rng(seed)
    member = np.empty(len(arm), dtype=np.int64)
    for code in np.unique(arm):
        here = np.flatnonzero(arm == code)
        member[here] = rng.permutation(len(here)) % FOLDS
    return member


def people_to_learn_from(arm: np.ndarray, arms: Sequence[str]) -> np.ndarray:
    """How many people each arm has, (K,), of their codes, (n,).

    Raises:
        DataError: under `MIN_ARM` of an arm, or none.
    """
    counts = np.bincount(arm, minlength=len(arms))
    if (counts < MIN_ARM).any():
        code = int(counts.argmin())
        raise DataError(
            f"{arms[code]}: {counts[code]} people to learn from; at least {MIN_ARM} are needed. Leave the arm out, or "
            "join two."
        )
    return counts


def _checked(
    n: int, arm: np.ndarray, y: np.ndarray, probabilities: np.ndarray | None, arms: Sequence[str]
) -> np.ndarray:
    """Probabilities, (n, K), of an experiment that can be learnt from."""
    if arm.shape != (n,) or y.shape != (n,) or not np.isfinite(y).all():
        raise DataError(f"give an arm and an outcome for each of {n} people; put 0 where nothing came.")
    if len(arms) < 2 or (n and not (arm.min() >= 0 and arm.max() < len(arms))):
        raise DataError(f"arms are {', '.join(arms) or 'none'}; an experiment has a control and at least one other.")
    counts = people_to_learn_from(arm, arms)
    if np.ptp(y) == 0:
        raise DataError(f"the outcome is {y[0]:g} for everybody. Choose one that happened to some.")
    if probabilities is None:
        return np.tile(counts / n, (n, 1))
    p = np.broadcast_to(np.asarray(probabilities, dtype=np.float64), (n, len(arms)))
    if not (np.isfinite(p) & (p > 0)).all():
        raise DataError("probabilities: some are missing or 0. Each person must have had a chance of each arm.")
    return p
