"""Foresee a yes or a no from any plain table: columns are read as they come, everything is chosen on inner folds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import TargetEncoder

from data.chance import some_rows
from data.errors import DataError
from models.calibration import Calibration
from models.columns import MISSING, NO_CATEGORIES, Columns, as_text
from models.propensity import LearningRows, Propensity

INNER_FOLDS = 5
RATE_FOLDS = 10
"""More, for a model asked about new rows knows the rates of all."""
SEARCH_ROWS = 50_000
"""Drawn to choose on, at the most: with more rows the choice is clear."""
MAX_TRIALS = 8
LADDER = ((4, 300), (8, 300), (16, 400), (32, 600), (64, 1000))
"""Leaves and rounds, from the simplest trees on; a table is climbed while it rewards more."""
FEW_COLUMNS, MOST_COLUMNS = 0.3, 0.8
"""Share of the columns that a tree may look at."""
PENALTIES = (30.0, 300.0, 3.0)
"""Of the regression, the first tried first."""
WEIGHT_SPREAD = 0.1
"""Standard deviation of the normal prior on the weight of each half, about one half."""
MANY_RARE = 0.2
"""Share of the rows whose word is rare, but not alone: from there on a column is also read by its words' rates."""
YES = frozenset({"1", "1.0", "yes", "y", "true", "t", "positive", "churned", "churn"})


@dataclass(frozen=True, eq=False)
class Label:
    """A column of two values as a label.

    Attributes:
        y: 1 = the positive value; int64, a row per known one.
        known: Which rows of the column have a value, bool of shape (n,).
        positive: Which value is 1: a yes or a 1 where there is one, else the rarer.
        negative: The other.
    """

    y: np.ndarray
    known: np.ndarray
    positive: str
    negative: str


@dataclass(frozen=True, eq=False)
class TableModel:
    """A propensity and how its columns are read.

    Attributes:
        columns: How.
        rates: How often each word of columns with many was positive; None where there is no such column.
        model: What foresees.
        log_loss: Of the stack on the inner folds.
        trials: How many settings of trees were tried.
    """

    columns: Columns
    rates: TargetEncoder | None
    model: Propensity
    log_loss: float
    trials: int

    def predict(self, table: pd.DataFrame) -> np.ndarray:
        """Probabilities of the positive value, float64 of shape (n,).

        Raises:
            DataError: a column is not there.
        """
        frame = self.columns(table)
        if self.rates is not None:
            words = as_words(table, self.rates.feature_names_in_)
            frame = _with_rates(frame, words, self.rates.transform(words))
        return self.model.predict(frame)


def fit_table(
    table: pd.DataFrame,
    label: np.ndarray,
    *,
    trials: int = MAX_TRIALS,
    minutes: float | None = None,
    seed: int = 0,
) -> TableModel:
    """Learn on a table; no row of it is judged by a model that saw it.

    The penalty of the regression and the size of the trees are those with the least log loss on five inner folds.
    How far each half of the model is believed, and the calibration, are one logistic regression on the two halves'
    log-odds out of those folds, with weights of at least zero (stacking; Wolpert 1992, Breiman 1996), held near one
    half each: few rows say little of which to believe. Both halves then learn on all rows. Nothing is resampled or
    reweighted, so that probabilities mean what they say. Columns of many rare words are also read by how often each
    word was positive among other rows (Micci-Barreca 2001).

    Args:
        table: Whatever columns; see `models.columns`.
        label: 0 or 1 per row.
        trials: Settings of trees to try at the most; a size that is no better ends the climb.
        minutes: After which no further setting is tried.
        seed: Of the folds, the draw and the trees.

    Raises:
        DataError: under ten of a class, no column that says anything, or not one label per row.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> table = pd.DataFrame({"days": rng.uniform(0, 99, 300).round().astype(str), "shop": "one"})
        >>> label = (rng.random(300) < table.days.astype(float) / 99).astype(int)
        >>> model = fit_table(table, label, trials=1)
        >>> low, high = model.predict(pd.DataFrame({"days": ["5", "95"]}))
        >>> bool(low < 0.3 < 0.7 < high)
        True
    """
    until = time.monotonic() + (np.inf if minutes is None else 60 * minutes)
    columns, y = Columns.learn(table), np.asarray(label, dtype=np.int64)
    frame, rates = columns(table), None
    if many := many_worded(table, columns):
        words = as_words(table, many)
        rates = TargetEncoder(target_type="binary", cv=_folds(RATE_FOLDS, seed))
        frame = _with_rates(frame, words, rates.fit_transform(words, y))
    folds = _Folds(frame, y, seed)
    linear = _best_linear(folds, until)
    trees, tried = _best_trees(folds, trials, until)
    share, calibration = _stacked(linear.log_odds, trees.log_odds, folds.y)
    chosen = trees.params if share < 1 else linear.params
    model = Propensity(**chosen | {"linear_share": share, "linear_l2": linear.params["linear_l2"]})
    model.fit(frame, y, seed=seed)
    model.calibration = calibration
    stacked = calibration(share * linear.log_odds + (1 - share) * trees.log_odds)
    return TableModel(columns, rates, model, _log_loss(folds.y, stacked), tried)


def label_of(column: pd.Series) -> Label:
    """Two values, whatever they are called, as 0 and 1; rows without one are not known.

    Raises:
        DataError: there are not exactly two values.

    Example:
        >>> found = label_of(pd.Series(["No", "Yes", None, "No"]))
        >>> found.y.tolist(), found.known.tolist(), found.positive
        ([0, 1, 0], [True, True, False, True], 'Yes')
    """
    text = column.astype("object").where(column.notna(), None).map(str, na_action="ignore").astype("str").str.strip()
    text = text.where(text != "")
    counts = text.value_counts()
    if len(counts) > 2:  # such as "?": what is said where there is nothing is no third value
        text = as_text(column)
        counts = text.value_counts()
    if len(counts) != 2:
        first = ", ".join(repr(value) for value in counts.index[:5])
        raise DataError(f"{column.name}: {len(counts)} values ({first}); a yes or no has two. Name another target.")
    said_yes = [value for value in counts.index if value.lower() in YES]
    positive = said_yes[0] if len(said_yes) == 1 else str(counts.index[-1])
    negative = next(str(value) for value in counts.index if value != positive)
    known = text.notna().to_numpy()
    return Label((text[known] == positive).to_numpy(np.int64), known, positive, negative)


def many_worded(table: pd.DataFrame, columns: Columns) -> list[str]:
    """Columns of words of which many rows have one that is no category of its own, nor theirs alone.

    Example:
        >>> table = pd.DataFrame({"plan": ["a", "b"] * 300, "shop": [f"shop {i % 200}" for i in range(600)]})
        >>> many_worded(table, Columns.learn(table))
        ['shop']
    """
    categories = {name: how.categories for name, how in columns.read.items() if how.kind == "category"}
    categories |= {name: () for name, why in columns.left_out.items() if why == NO_CATEGORIES}
    found = []
    for name in table.columns.intersection(list(categories), sort=False):
        words = as_text(table[name])
        rare = (words.map(words.value_counts()) > 1) & ~words.isin(categories[name])
        if rare.mean() >= MANY_RARE:
            found.append(str(name))
    return found


def as_words(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Some columns as text; what is missing is a word."""
    return pd.DataFrame({name: as_text(table[name]).fillna(MISSING).astype(object) for name in names})


def _with_rates(frame: pd.DataFrame, words: pd.DataFrame, rates: np.ndarray) -> pd.DataFrame:
    return frame.assign(**{f"rate of {name}": rate for name, rate in zip(words, rates.T, strict=True)})


def _folds(n: int, seed: int) -> StratifiedKFold:
    return StratifiedKFold(n, shuffle=True, random_state=seed)


class _Folds:
    """Inner folds, made ready once: what each setting foresees for the rows that it did not learn from."""

    def __init__(self, frame: pd.DataFrame, y: np.ndarray, seed: int) -> None:
        drawn = some_rows(len(y), SEARCH_ROWS, seed=seed)
        self.frame, self.y, self.seed = frame.iloc[drawn].reset_index(drop=True), y[drawn], seed
        if min(self.y.sum(), len(self.y) - self.y.sum()) < INNER_FOLDS:
            LearningRows(self.frame, self.y)  # says what is missing
        folds = _folds(INNER_FOLDS, seed).split(self.frame, self.y)
        self.parts = [(LearningRows(self.frame.iloc[learn], self.y[learn]), judge) for learn, judge in folds]

    def log_odds(self, model: dict[str, Any]) -> np.ndarray:
        """Out of fold, shape (n,)."""
        found = np.empty(len(self.y))
        for rows, judge in self.parts:
            found[judge] = Propensity(**model).learn(rows, seed=self.seed).log_odds(self.frame.iloc[judge])
        return found


@dataclass(frozen=True, eq=False)
class _Half:
    """One half of the model on the inner folds: its log-odds out of fold, and the setting that they came from."""

    loss: float
    log_odds: np.ndarray
    params: dict[str, Any]


def _half(folds: _Folds, params: dict[str, Any]) -> _Half:
    log_odds = folds.log_odds(params)
    return _Half(_log_loss(folds.y, expit(log_odds)), log_odds, params)


def _best_linear(folds: _Folds, until: float) -> _Half:
    best: _Half | None = None
    for penalty in PENALTIES:
        if best is None or time.monotonic() < until:
            half = _half(folds, {"linear_share": 1.0, "linear_l2": penalty, "rounds": 1})
            best = half if best is None or half.loss < best.loss else best
    assert best is not None  # noqa: S101 - the first is always tried
    return best


def _best_trees(folds: _Folds, trials: int, until: float) -> tuple[_Half, int]:
    """The best, and how many were tried."""
    common = {"linear_share": 0.0, "min_rows_in_leaf": int(np.clip(len(folds.y) // 100, 5, 60))}
    sizes = [common | {"leaves": leaves, "rounds": rounds, "column_share": FEW_COLUMNS} for leaves, rounds in LADDER]
    best, tried = _half(folds, sizes[0]), 1

    def may_go_on() -> bool:
        return tried < trials and time.monotonic() < until

    for size in sizes[1:]:
        if not may_go_on():
            break
        half, tried = _half(folds, size), tried + 1
        if half.loss >= best.loss:
            break
        best = half
    if may_go_on():
        half, tried = _half(folds, best.params | {"column_share": MOST_COLUMNS}), tried + 1
        best = half if half.loss < best.loss else best
    return best, tried


def _stacked(linear: np.ndarray, trees: np.ndarray, y: np.ndarray) -> tuple[float, Calibration]:
    """The regression's share of the log-odds, and what makes probabilities of their average."""
    X = np.column_stack([linear, trees])

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        z = X @ theta[:2] + theta[2]
        missed, away = expit(z) - y, (theta[:2] - 0.5) / WEIGHT_SPREAD
        value = (np.logaddexp(0, z) - y * z).sum() + away @ away / 2
        return float(value) / len(y), np.append(missed @ X + away / WEIGHT_SPREAD, missed.sum()) / len(y)

    found = minimize(loss, [0.5, 0.5, 0.0], jac=True, method="L-BFGS-B", bounds=[(0, None), (0, None), (None, None)])
    slope = float(found.x[:2].sum())
    if slope < 1e-6:  # nothing can be foreseen: the rate for everybody
        return 1.0, Calibration("logistic", 0.0, float(logit(y.mean())))
    return float(found.x[0] / slope), Calibration("logistic", slope, float(found.x[2]))


def _log_loss(y: np.ndarray, p: np.ndarray) -> float:
    held = np.clip(p, 1e-15, 1 - 1e-15)
    return float(-np.where(y == 1, np.log(held), np.log1p(-held)).mean())
