"""What a model leans on, measured from outside: by shuffling a feature, and by setting it for everybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from data.chance import some_rows
from evaluation.classification import roc_auc
from evaluation.intervals import Interval

Predict = Callable[[pd.DataFrame], np.ndarray]
SHUFFLES = 5
"""Of each feature."""
LEVEL = 0.95
MAX_ROWS = 2_000
"""Of a partial dependence: each point asks about all of them."""


@dataclass(frozen=True)
class PartialDependence:
    """The mean prediction with one feature set to a value for everybody (Friedman 2001, section 8.2).

    Attributes:
        values: What it is set to, rising, or the categories, the most frequent first.
        mean: Mean predictions, shape (len(values),).
        low: Their tenth percentile over the people.
        high: Their ninetieth.
    """

    values: list[float] | list[str]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def permutation_importance(
    predict: Predict,
    frame: pd.DataFrame,
    label: np.ndarray,
    *,
    features: Sequence[str],
    seed: int = 0,
) -> Mapping[str, Interval]:
    """What ROC AUC falls by when a feature is shuffled among the people (Breiman 2001; Fisher et al. 2019).

    On rows that the model has not seen. Features that say the same stand in for each other, and each falls little. The
    interval is of the mean of a few shuffles (Student's t), the people taken as they are.

    Args:
        predict: From features to probabilities.
        frame: Features, n rows.
        label: 0 or 1, shape (n,).
        features: Which are shuffled.
        seed: Of the shuffles.

    Example:
        >>> frame = pd.DataFrame({"knows": [0.1, 0.9] * 50, "noise": [0.5] * 100})
        >>> found = permutation_importance(lambda f: f["knows"].to_numpy(), frame, np.array([0, 1] * 50),
        ...     features=["knows", "noise"])
        >>> found["knows"].low > 0.3, found["noise"].estimate
        (True, 0.0)
    """
    rng = np.random.default_rng(seed)
    whole = roc_auc(label, predict(frame))
    found = {}
    for name in features:
        falls = []
        for _ in range(SHUFFLES):
            shuffled = frame[name].iloc[rng.permutation(len(frame))].set_axis(frame.index)
            falls.append(whole - roc_auc(label, predict(frame.assign(**{name: shuffled}))))
        half = stdtrit(SHUFFLES - 1, (1 + LEVEL) / 2) * np.std(falls, ddof=1) / np.sqrt(SHUFFLES)
        found[name] = Interval.around(float(np.mean(falls)), half, level=LEVEL)
    return found


def partial_dependence(
    predict: Predict, frame: pd.DataFrame, feature: str, *, points: int = 20, seed: int = 0
) -> PartialDependence:
    """Everybody's prediction at quantiles of a feature, from the 2nd percentile to the 98th, or at its categories.

    Example:
        >>> frame = pd.DataFrame({"x": np.linspace(0, 1, 100)})
        >>> curve = partial_dependence(lambda f: f["x"].to_numpy() / 2, frame, "x", points=3)
        >>> curve.mean.round(2).tolist()
        [0.01, 0.25, 0.49]
    """
    frame = frame.iloc[some_rows(len(frame), MAX_ROWS, seed=seed)]
    known = frame[feature].dropna()
    values: list[float] | list[str]
    if pd.api.types.is_numeric_dtype(known.dtype):
        values = np.unique(np.quantile(known.astype(float), np.linspace(0.02, 0.98, points))).tolist()
    else:
        values = known.astype(str).value_counts().index[:points].tolist()
    asked = [predict(frame.assign(**{feature: value})) for value in values]
    ends = np.array([np.quantile(p, [0.1, 0.9]) for p in asked]).reshape(-1, 2)
    return PartialDependence(values, np.array([p.mean() for p in asked]), ends[:, 0], ends[:, 1])
