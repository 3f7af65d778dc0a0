"""What a propensity model must beat: the rate of everybody, and logistic regression on recency, frequency, money."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from data.errors import DataError, NotFittedError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


class BaseRate:
    """The training rate for everybody.

    Example:
        >>> BaseRate().fit(pd.DataFrame(index=range(4)), [0, 0, 0, 1]).predict(pd.DataFrame(index=range(2)))
        array([0.25, 0.25])
    """

    name = "base_rate"

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


class LogisticRFM:
    """Logistic regression on a few columns: log(1 + |x|) with its sign, missing = median, standardised.

    Args:
        columns: The features, such as `days_since_order`, `orders_365d`, `spend_365d`; those not in `train` are left
            out, so that a shop without money still has the baseline.

    Example:
        >>> frame = pd.DataFrame({"days_since_order": [1.0, 2, 90, 95] * 5})
        >>> model = LogisticRFM(columns=["days_since_order", "spend_365d"]).fit(frame, [0, 0, 1, 1] * 5)
        >>> bool(model.predict(frame)[2] > 0.5)
        True
    """

    name = "logistic_rfm"

    def __init__(self, *, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)

    def fit(self, train: pd.DataFrame, label: Any) -> Self:
        """Learn the weights.

        Raises:
            DataError: none of the columns is there, or the label has one class.
        """
        from sklearn.impute import SimpleImputer  # noqa: PLC0415 - only fitting needs scikit-learn
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
        from sklearn.pipeline import make_pipeline  # noqa: PLC0415
        from sklearn.preprocessing import FunctionTransformer, StandardScaler  # noqa: PLC0415

        self.used = [name for name in self.columns if name in train]
        y = np.asarray(label)
        if not self.used or len(np.unique(y)) < 2:
            raise DataError(
                f"logistic_rfm needs one of {', '.join(self.columns)} and labels of both classes; "
                f"found {self.used or 'none'} and {len(np.unique(y))}."
            )
        self._pipeline: Pipeline = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True),
            FunctionTransformer(_signed_log),
            StandardScaler(),
            LogisticRegression(),
        ).fit(self._matrix(train), y)
        return self

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """Probabilities, shape (n,).

        Raises:
            NotFittedError: `fit` comes first.
        """
        if not hasattr(self, "_pipeline"):
            raise NotFittedError("logistic_rfm has not learnt yet: call fit(...) first.")
        probability: np.ndarray = self._pipeline.predict_proba(self._matrix(frame))[:, 1]
        return probability

    def _matrix(self, frame: pd.DataFrame) -> np.ndarray:
        return frame[self.used].astype("float64").replace([np.inf, -np.inf], np.nan).to_numpy(na_value=np.nan)


def _signed_log(x: np.ndarray) -> np.ndarray:
    signed: np.ndarray = np.sign(x) * np.log1p(np.abs(x))
    return signed
