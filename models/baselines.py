"""What models of customers must beat: the rate of everybody, logistic regression on a few features, means of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.special import expit

from data.errors import DataError
from models import saving
from models.fitted import Fitted
from models.matrix import Reason, importance_of, matrix_of, reasons_of


class BaseRate:
    """The training rate for everybody: what is left to a shop where nothing known tells people apart.

    It is stored, asked and explained like `Propensity`; it reads nothing, so there are no reasons.

    Example:
        >>> BaseRate().fit(pd.DataFrame(index=range(4)), [0, 0, 0, 1]).predict(pd.DataFrame(index=range(2)))
        array([0.25, 0.25])
    """

    name = "base_rate"

    @property
    def features(self) -> list[str]:
        """The columns it uses: none."""
        return []

    def fit(self, train: pd.DataFrame, label: Any) -> Self:
        """Learn the rate.

        Raises:
            DataError: no rows.
        """
        if not len(train):
            raise DataError("base_rate: there are no rows to learn from. Choose other cutoffs.")
        self.rate = float(np.mean(np.asarray(label, dtype=np.float64)))
        return self

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """The rate, shape (n,)."""
        return np.full(len(frame), self.rate)

    def contributions(self, frame: pd.DataFrame) -> np.ndarray:
        """Of no features, float64 (n, 0)."""
        return np.zeros((len(frame), 0))

    def importance(self) -> pd.Series:
        """Of no features."""
        return importance_of(np.zeros(0), self.features)

    def save(self, folder: Path) -> None:
        """Write `model.json`; the folder appears whole or not at all."""
        saving.write(folder, {"name": self.name, "rate": self.rate})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: the file is missing, cut short or changed.
        """
        model = cls()
        with saving.reading(folder) as about:
            model.rate = float(about["rate"])
        return model


class LogisticRFM(Fitted):
    """Logistic regression on a few columns: log(1 + |x|) with its sign, missing = median, standardised.

    A shop uses it as it is where trees are no better: it is stored, asked and explained like `Propensity`.

    Args:
        columns: The features, such as `days_since_order`, `orders_365d`, `spend_365d`; those not in `train` are left
            out, so that a shop without money still has the baseline.

    Example:
        >>> frame = pd.DataFrame({"days_since_order": [1.0, 2, 90, 95] * 5})
        >>> model = LogisticRFM(columns=["days_since_order", "spend_365d"]).fit(frame, [0, 0, 1, 1] * 5)
        >>> bool(model.predict(frame)[2] > 0.5)
        True
        >>> model.reasons(frame)[2][0].feature
        'days_since_order'
    """

    name = "logistic_rfm"

    features: list[str]
    """The columns it uses."""

    def __init__(self, *, columns: Sequence[str]) -> None:
        self.columns = list(columns)

    @property
    def params(self) -> dict[str, list[str]]:
        """The hyperparameters by name."""
        return {"columns": self.columns}

    def fit(self, train: pd.DataFrame, label: Any) -> Self:
        """Learn the weights.

        Raises:
            DataError: none of the columns is there, or the label has one class.
        """
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - only fitting needs scikit-learn

        self.features = [name for name in self.columns if name in train]
        y = np.asarray(label)
        if not self.features or len(np.unique(y)) < 2:
            raise DataError(
                f"logistic_rfm needs one of {', '.join(self.columns)} and labels of both classes; "
                f"found {self.features or 'none'} and {len(np.unique(y))}."
            )
        raw = self._raw(train)
        told = ~np.isnan(raw).all(axis=0)
        self.median = np.zeros(len(self.features))
        self.median[told] = np.nanmedian(raw[:, told], axis=0)
        x = _signed_log(np.where(np.isnan(raw), self.median, raw))
        self.mean, self.scale = x.mean(axis=0), np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
        fitted = LogisticRegression().fit((x - self.mean) / self.scale, y)
        self.weights, self.intercept = fitted.coef_[0], float(fitted.intercept_[0])
        return self

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Probabilities, float64 of shape (n,).

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: a column is not there.
        """
        probability: np.ndarray = expit(self._standardised(frame) @ self.weights + self.intercept)
        return probability

    def contributions(self, frame: pd.DataFrame) -> np.ndarray:
        """What each feature adds to the average person's log-odds, float64 (n, n_features).

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: a column is not there.
        """
        return self._standardised(frame) * self.weights

    def reasons(self, frame: pd.DataFrame, *, top: int = 3) -> list[list[Reason]]:
        """For each row the features that moved its log-odds most from the average person's, strongest first.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: a column is not there.
        """
        return reasons_of(self.contributions(frame), self._raw(frame), self.features, top=top)

    def importance(self) -> pd.Series:
        """Each feature's share of the absolute weights, the greatest first."""
        return importance_of(np.abs(self.weights), self.features)

    def save(self, folder: Path) -> None:
        """Write `model.json`; the folder appears whole or not at all."""
        self._check_fitted()
        about = {
            "name": self.name,
            "params": self.params,
            "features": self.features,
            "intercept": self.intercept,
            **{name: getattr(self, name).tolist() for name in ARRAYS},
        }
        saving.write(folder, about)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: the file is missing, cut short or changed.
        """
        with saving.reading(folder) as about:
            model = cls(**about["params"])
            model.features, model.intercept = about["features"], float(about["intercept"])
            for name in ARRAYS:
                array = np.asarray(about[name], dtype=np.float64)
                if array.shape != (len(model.features),):
                    raise ValueError(f"{name} has shape {array.shape}")
                setattr(model, name, array)
        return model

    def _standardised(self, frame: pd.DataFrame) -> np.ndarray:
        raw = self._raw(frame)
        standardised: np.ndarray = (_signed_log(np.where(np.isnan(raw), self.median, raw)) - self.mean) / self.scale
        return standardised

    def _raw(self, frame: pd.DataFrame) -> np.ndarray:
        self._check_fitted()
        return matrix_of(frame, self.features)


ARRAYS = ("median", "mean", "scale", "weights")
"""What a `LogisticRFM` learnt, one number per feature."""


QUINTILES, PRIOR_ROWS = 5, 10
"""Of each feature; the means of a cell are drawn to everybody's as if by so many rows."""


@dataclass(frozen=True, eq=False)
class CellMeans:
    """What the customers of the same cell of a few features spent and ordered on average.

    Attributes:
        edges: Of each feature, the values that part its quintiles; without a feature everybody is in one cell.
        money: Mean of each cell, shape (QUINTILES ** n_features,).
        orders: The same.

    Example:
        >>> frame, money = pd.DataFrame({"orders_life": [1.0, 2, 3, 4, 5] * 20}), np.array([0.0, 0, 0, 0, 60] * 20)
        >>> CellMeans.fit(frame, money, money / 10).expect(frame.iloc[[0, 4]])
        (array([ 4., 44.]), array([0.4, 4.4]))
    """

    edges: Mapping[str, Sequence[float]]
    money: np.ndarray
    orders: np.ndarray

    @classmethod
    def fit(cls, features: pd.DataFrame, money: np.ndarray, orders: np.ndarray) -> Self:
        """Learn from what came of customers, whose features are all used."""
        parts = np.linspace(0, 1, QUINTILES + 1)[1:-1]
        edges = {str(name): np.unique(column.quantile(parts)).tolist() for name, column in features.items()}
        cell, size = _cells(features, edges), QUINTILES ** len(edges)

        def means(of: np.ndarray) -> np.ndarray:
            counts, sums = (np.bincount(cell, weights=weights, minlength=size) for weights in (None, of))
            shrunk: np.ndarray = (sums + PRIOR_ROWS * of.mean()) / (counts + PRIOR_ROWS)
            return shrunk

        return cls(edges, means(money), means(orders))

    def expect(self, features: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Expected money and orders, each of shape (n,).

        Raises:
            DataError: a feature is not there.
        """
        cell = _cells(features, self.edges)
        return self.money[cell], self.orders[cell]

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"edges": dict(self.edges), "money": self.money.tolist(), "orders": self.orders.tolist()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """What `as_json` told."""
        return cls(told["edges"], *(np.asarray(told[name], dtype=np.float64) for name in ("money", "orders")))


def _cells(features: pd.DataFrame, edges: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Each row's cell, int64 of shape (n,); a missing value is in the highest quintile."""
    values, cell = matrix_of(features, list(edges)), np.zeros(len(features), dtype=np.int64)
    for j, parts in enumerate(edges.values()):
        cell = QUINTILES * cell + np.searchsorted(parts, values[:, j])
    return cell


def _signed_log(x: np.ndarray) -> np.ndarray:
    signed: np.ndarray = np.sign(x) * np.log1p(np.abs(x))
    return signed
