"""How likely a person is to do something: a regression and boosted trees, calibrated, with reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

import lightgbm as lgb
import numpy as np
import pandas as pd

from data.errors import DataError
from models import saving
from models.calibration import Calibration
from models.fitted import Fitted
from models.logistic import RidgeLogistic
from models.matrix import Reason, importance_of, is_category, matrix_of, reasons_of, shares_of

SMALL_CELLS = 500_000
"""Rows x features below which one thread is as quick as many."""
MIN_OF_A_CLASS = 10
"""Fewer positives (or negatives) than this teach nothing that would hold."""


Label: TypeAlias = Sequence[int] | np.ndarray | pd.Series


class Propensity(Fitted):
    """A ridge logistic regression and gradient-boosted trees, averaged in log-odds, for a yes or a no.

    At a shop's size (thousands to a few million rows) most of what can be known is smooth and one-sided, which the
    regression (`models/logistic.py`) learns from little; the trees (LightGBM; Ke et al. 2017) find thresholds and
    interactions, few leaves over few columns each. Each errs elsewhere, so that their average is better than either.
    Numbers may be missing; strings are categories, and one that training never saw counts as missing. Infinite numbers
    count as missing. The same data and seed give the same model, whatever the number of threads.

    Args:
        linear_share: Of the regression in the average; 0 = trees alone.
        linear_l2: Its penalty.
        leaves: Of a tree, at most.
        learning_rate: Of the trees.
        min_rows_in_leaf: Fewer do not make a leaf.
        column_share: Drawn for each tree.
        l2: Penalty on the leaves.
        rounds: Trees, at most; exactly so many without rows to stop by.
        patience: Trees without a gain before it stops.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> frame = pd.DataFrame({"days_since_order": rng.uniform(0, 100, 400)})
        >>> churned = (frame.days_since_order > 50).astype(int)
        >>> early, late = frame[:300], frame[300:]
        >>> model = Propensity(linear_l2=1).fit(early, churned[:300], valid=late, valid_label=churned[300:])
        >>> bool(model.predict(pd.DataFrame({"days_since_order": [90.0]}))[0] > 0.9)
        True
        >>> model.reasons(pd.DataFrame({"days_since_order": [90.0]}))[0][0].feature
        'days_since_order'
    """

    features: list[str]
    categories: dict[str, list[str]]
    calibration: Calibration

    def __init__(
        self,
        *,
        linear_share: float = 0.5,
        linear_l2: float = 1000.0,
        leaves: int = 8,
        learning_rate: float = 0.05,
        min_rows_in_leaf: int = 60,
        column_share: float = 0.3,
        l2: float = 20.0,
        rounds: int = 2000,
        patience: int = 50,
    ) -> None:
        self.linear_share = linear_share
        self.linear_l2 = linear_l2
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.min_rows_in_leaf = min_rows_in_leaf
        self.column_share = column_share
        self.l2 = l2
        self.rounds = rounds
        self.patience = patience

    @property
    def params(self) -> dict[str, int | float]:
        """The hyperparameters by name."""
        return {name: getattr(self, name) for name in PARAMS}

    def fit(
        self,
        train: pd.DataFrame,
        label: Label,
        *,
        valid: pd.DataFrame | None = None,
        valid_label: Label | None = None,
        calibration: pd.DataFrame | None = None,
        calibration_label: Label | None = None,
        weight: np.ndarray | None = None,
        seed: int = 0,
        monotone: Mapping[str, int] | None = None,
    ) -> Self:
        """Learn on `train`, stop by `valid`, and calibrate on `calibration`, each later than the one before.

        Args:
            train: Features, a row per person and cutoff. Every column is used.
            label: 0 or 1 per row.
            valid: Rows to stop by: boosting ends when their log loss has not fallen for `patience` trees. Their own
                mean is granted to the trees: between two seasons the level moves for everybody, and that says
                nothing of how many trees there should be. None = `rounds` trees.
            valid_label: Theirs.
            calibration: Later rows to calibrate on; without them probabilities stay as they were learnt.
            calibration_label: Theirs.
            weight: What each row of `train` counts; by default 1.
            seed: Of the sampled columns.
            monotone: Feature -> +1 (the probability may only rise with it) or -1 (only fall).

        Raises:
            DataError: a label other than 0 and 1; under ten of a class in `train` or none of one in the others;
                a column that is neither numbers nor strings, or that is not there; a monotone category.
        """
        rows = LearningRows(train, label, valid=valid, valid_label=valid_label, weight=weight)
        self.learn(rows, seed=seed, monotone=monotone)
        if calibration is not None:
            later = _labels(calibration_label, calibration, "calibration", at_least=1)
            self.calibration = Calibration.fit(self.log_odds(calibration), later)
        return self

    def learn(self, rows: LearningRows, *, seed: int = 0, monotone: Mapping[str, int] | None = None) -> Self:
        """`fit`, without calibration, on rows that were made ready once for many models."""
        self.features, self.categories = rows.features, rows.categories
        self.calibration = Calibration()
        signs = self._signs(monotone or {})
        self._linear = rows.linear(self.linear_l2, signs, seed) if self.linear_share > 0 else None
        stopping: list[Any] = [] if rows.stop is None else [lgb.early_stopping(self.patience, verbose=False)]
        self._booster = lgb.train(
            self._tree_options(signs, seed, rows.threads),
            rows.learn,
            num_boost_round=self.rounds,
            valid_sets=[] if rows.stop is None else [rows.stop],
            callbacks=stopping,
        )
        kept = self._booster.best_iteration if stopping else None
        self._booster = lgb.Booster(model_str=self._booster.model_to_string(num_iteration=kept))
        return self

    @property
    def n_trees(self) -> int:
        """How many trees were kept."""
        self._check_fitted()
        return int(self._booster.current_iteration())

    def log_odds(self, frame: pd.DataFrame) -> np.ndarray:
        """What is calibrated: the average of both halves, float64 of shape (n,).

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: a feature is not there, or is no longer of its kind.
        """
        matrix = self._matrix(frame)
        if not len(frame):
            return np.zeros(0)
        trees = np.asarray(self._booster.predict(matrix, raw_score=True, num_threads=_threads(frame)))
        if self._linear is None:
            return trees
        return self.linear_share * self._linear.log_odds(matrix) + (1 - self.linear_share) * trees

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Calibrated probabilities, float64 of shape (n,), in [0, 1]. Columns may be in any order; others are ignored.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: a feature is not there, or is no longer of its kind.
        """
        log_odds = self.log_odds(frame)
        return self.calibration(log_odds)

    def contributions(self, frame: pd.DataFrame) -> np.ndarray:
        """What each feature adds to the average person's log-odds, before calibration; float64 (n, n_features).

        Of the trees SHAP's values (Lundberg et al. 2020), of the regression its terms; both add up to the score.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: a feature is not there, or is no longer of its kind.
        """
        matrix = self._matrix(frame)
        if not len(frame):
            return np.zeros((0, len(self.features)))
        found = np.asarray(self._booster.predict(matrix, pred_contrib=True, num_threads=_threads(frame)))[:, :-1]
        if self._linear is None:
            return found
        return self.linear_share * self._linear.contributions(matrix) + (1 - self.linear_share) * found

    def reasons(self, frame: pd.DataFrame, *, top: int = 3) -> list[list[Reason]]:
        """For each row the features that moved it most from the average person, strongest first.

        Features that moved it not at all are left out.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: a feature is not there, or is no longer of its kind.
        """
        return reasons_of(self.contributions(frame), self._matrix(frame), self.features, self.categories, top=top)

    def importance(self) -> pd.Series:
        """Each feature's share of what all of them move, the greatest first; sums to 1 (or is all 0).

        Of the trees the loss that their splits took away, of the regression the absolute weights.
        """
        self._check_fitted()
        found = shares_of(self._booster.feature_importance("gain").astype(np.float64))
        if self._linear is not None:
            found = (1 - self.linear_share) * found + self.linear_share * shares_of(self._linear.strengths(len(found)))
        return importance_of(found, self.features)

    def save(self, folder: Path) -> None:
        """Write `trees.txt` (LightGBM's own text) and `model.json`; the folder appears whole or not at all."""
        self._check_fitted()
        about = {
            "name": "propensity",
            "params": self.params,
            "features": self.features,
            "categories": self.categories,
            "calibration": self.calibration.to_json(),
            "linear": None if self._linear is None else self._linear.to_json(),
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
            model.features, model.categories = about["features"], about["categories"]
            model.calibration = Calibration(**about["calibration"])
            model._linear = None if about["linear"] is None else RidgeLogistic.from_json(about["linear"])
        model._booster = lgb.Booster(model_str=trees)
        return model

    def _tree_options(self, signs: Sequence[int], seed: int, threads: int) -> dict[str, Any]:
        return {
            "objective": "binary",
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_rows_in_leaf,
            "feature_fraction": self.column_share,
            "lambda_l2": self.l2,
            "monotone_constraints": signs,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "feature_pre_filter": False,
            "num_threads": threads,
            "verbosity": -1,
        }

    def _matrix(self, frame: pd.DataFrame) -> np.ndarray:
        self._check_fitted()
        return matrix_of(frame, self.features, self.categories)

    def _signs(self, monotone: Mapping[str, int]) -> list[int]:
        for name, direction in monotone.items():
            if name not in self.features or name in self.categories or direction not in (-1, 1):
                raise DataError(f"monotone: {name!r} = {direction}; name a numeric feature and give 1 or -1.")
        return [monotone.get(name, 0) for name in self.features]


PARAMS = (
    *("linear_share", "linear_l2", "leaves", "learning_rate", "min_rows_in_leaf", "column_share", "l2"),
    *("rounds", "patience"),
)


class LearningRows:
    """Rows made ready once for any number of models: numbers, LightGBM's histograms, and regressions already fitted.

    Args:
        train: Features, a row per person and cutoff.
        label: 0 or 1 per row.
        valid: Rows to stop by.
        valid_label: Theirs.
        weight: What each row of `train` counts.

    Raises:
        DataError: as `Propensity.fit`.
    """

    def __init__(
        self,
        train: pd.DataFrame,
        label: Label,
        *,
        valid: pd.DataFrame | None = None,
        valid_label: Label | None = None,
        weight: np.ndarray | None = None,
    ) -> None:
        self.y = _labels(label, train, "train", at_least=MIN_OF_A_CLASS)
        if train.shape[1] == 0:
            raise DataError("train has no features. Build them with `attune features`.")
        self.features = [str(name) for name in train.columns]
        categories = [name for name in train.columns if is_category(train[name])]
        self.categories = {str(name): sorted(train[name].dropna().unique().tolist()) for name in categories}
        self.places = {self.features.index(name): len(values) for name, values in self.categories.items()}
        self.weight, self.threads = weight, _threads(train)
        self.matrix = matrix_of(train, self.features, self.categories)
        # Histograms that do not depend on any hyperparameter, so that all models may learn from them.
        options = {"feature_pre_filter": False, "force_row_wise": True, "verbosity": -1, "num_threads": self.threads}
        self.learn = lgb.Dataset(
            self.matrix, self.y, weight=weight, categorical_feature=list(self.places), params=options
        )
        self.stop: lgb.Dataset | None = None
        if valid is not None:
            y_valid = _labels(valid_label, valid, "valid", at_least=1)
            later = matrix_of(valid, self.features, self.categories)
            season = np.full(len(y_valid), _log_odds(y_valid) - _log_odds(self.y))
            self.stop = lgb.Dataset(later, y_valid, reference=self.learn, init_score=season, params=options)
        self._linear: dict[tuple[float, tuple[int, ...], int], RidgeLogistic] = {}

    def linear(self, l2: float, signs: Sequence[int], seed: int) -> RidgeLogistic:
        """The regression with this penalty and these signs; fitted when it is first asked for."""
        key = (l2, tuple(signs), seed)
        if key not in self._linear:
            self._linear[key] = RidgeLogistic(l2=l2).fit(
                self.matrix, self.y, categories=self.places, monotone=dict(enumerate(signs)), weight=self.weight,
                seed=seed,
            )  # fmt: skip
        return self._linear[key]


def _log_odds(y: np.ndarray) -> float:
    """Of the mean, held away from 0 and 1."""
    rate = np.clip(y.mean(), 1e-6, 1 - 1e-6)
    return float(np.log(rate / (1 - rate)))


def _threads(frame: pd.DataFrame) -> int:
    """One where threads would wait for each other longer than they work, else (0) all; the model is the same."""
    return 1 if frame.size < SMALL_CELLS else 0


def _labels(label: Any, frame: pd.DataFrame, what: str, *, at_least: int) -> np.ndarray:
    y = np.asarray(label, dtype=np.float64)
    if y.shape != (len(frame),) or not np.isin(y, (0, 1)).all():
        raise DataError(f"{what}: give a label of 0 or 1 for each of {len(frame)} rows; got shape {y.shape}.")
    positives, negatives = int(y.sum()), int(len(y) - y.sum())
    for count, kind in ((positives, "positive"), (negatives, "negative")):
        if count < at_least:
            raise DataError(
                f"{what}: {count} of {len(y)} rows are {kind}, at least {at_least} are needed. "
                "Use more or earlier cutoffs, another horizon, or a wider population."
            )
    return y
