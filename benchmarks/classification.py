"""A yes or a no from any plain table, beside logistic regression and LightGBM as they come: 5 folds x 3 seeds.

`python -m benchmarks classification --data FILE --target COL --drop COL...`. Every row is foreseen three times, by
models that did not see it. A measure is taken on all rows of a seed's five folds together, averaged over the seeds;
`calibration_error` is the expected calibration error over 10 bins of equal mass (Nixon et al. 2019, "adaptive"); beside
it is told what exactly right probabilities would show. Nothing is resampled, the held-out fold chooses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from benchmarks.result import Result
from data.errors import DataError
from data.files import read_rows
from data.progress import track
from evaluation.classification import MANY_ROWS, ProbabilityQuality, calibration_noise, repeated
from models.columns import Columns
from training.propensity import LEAK_AUC, alone
from training.tabular import MAX_TRIALS, as_words, fit_table, label_of, many_worded

FOLDS, SEEDS = 5, 3
MINUTES = 20.0
METRICS = ("roc_auc", "average_precision", "brier", "calibration_error")
ALSO_SHOWN = ("log_loss", "calibration_slope", "calibration_intercept")
ATTUNE = "attune"

Peer = Callable[[pd.DataFrame, np.ndarray, pd.DataFrame], np.ndarray]
"""From training rows, their labels and other rows to probabilities of those."""


def run(
    *,
    data: Path | None,
    target: str | None,
    drop: Sequence[str] | None = None,
    trials: int | None = None,
    minutes: float | None = None,
) -> Result:
    """Cross-validate on a CSV or Parquet file; `minutes` are for the searches of all 15 fits together."""
    if data is None or target is None:
        raise DataError(
            "say --data FILE and --target COL, such as ../shared/data/telco_churn/customers.parquet, Churn."
        )
    table, y, told = _read(data, target, drop or ())
    print(told)
    found = {name: np.empty((SEEDS, len(y))) for name in (ATTUNE, *PEERS)}
    folds = [
        (seed, learn, judge)
        for seed in range(SEEDS)
        for learn, judge in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(table, y)
    ]
    share = (MINUTES if minutes is None else minutes) / len(folds)
    for seed, learn, judge in track(folds, f"cross-validating {data.name}"):
        seen, asked = table.iloc[learn], table.iloc[judge]
        model = fit_table(seen, y[learn], trials=trials or MAX_TRIALS, minutes=share, seed=seed)
        found[ATTUNE][seed, judge] = model.predict(asked)
        many = () if model.rates is None else model.rates.feature_names_in_
        theirs = [model.columns(rows).assign(**as_words(rows, many)) for rows in (seen, asked)]
        for name, peer in PEERS.items():
            found[name][seed, judge] = peer(theirs[0], y[learn], theirs[1])
    resamples = 1000 if len(y) <= MANY_ROWS else 100
    quality = {name: repeated(y, p, resamples=resamples) for name, p in found.items()}
    print(_shown(quality).to_string())
    noise = calibration_noise(found[ATTUNE][0])
    print(f"exactly right probabilities would show a calibration error of {noise:.4f} on so few rows")
    for name in PEERS:
        ahead = repeated(y, found[ATTUNE], against=found[name], resamples=resamples)
        print(f"{ATTUNE} minus {name}, paired: ROC-AUC {ahead.roc_auc}, Brier {ahead.brier}, log loss {ahead.log_loss}")
    if quality[ATTUNE].roc_auc.estimate > LEAK_AUC:
        print(f"ROC-AUC above {LEAK_AUC}: {_suspect(Columns.learn(table)(table), y)}")
    return Result(
        metrics={metric: getattr(quality[ATTUNE], metric).estimate for metric in METRICS},
        intervals={metric: getattr(quality[ATTUNE], metric) for metric in METRICS},
        peers={
            name: {metric: round(getattr(quality[name], metric).estimate, 5) for metric in METRICS} for name in PEERS
        },
    )


def _read(data: Path, target: str, drop: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray, str]:
    """The columns to foresee from, the labels, and what to tell of them."""
    table = read_rows(data, (target, *drop), typed=False)
    label = label_of(table[target])
    kept = table.drop(columns=[target, *drop])[label.known].reset_index(drop=True)
    if (few := int(min(label.y.sum(), len(kept) - label.y.sum()))) < 4 * FOLDS:
        raise DataError(
            f"{target}: {few} rows have the rarer value; at least {4 * FOLDS} are needed to learn and judge."
        )
    columns = Columns.learn(kept)
    many = many_worded(kept, columns)
    told = [
        f"{len(kept):,} rows, {len(columns.read)} columns; {target} = {label.positive} in {100 * label.y.mean():.1f} %",
        *([f"{(~label.known).sum():,} rows without {target} are left out"] if not label.known.all() else []),
        *(f"{name} is left out: {why}" for name, why in columns.left_out.items() if name not in many),
        *(f"{name} is read by how often each of its many words was {label.positive}" for name in many),
    ]
    return kept, label.y, "\n".join(told)


def _suspect(frame: pd.DataFrame, y: np.ndarray) -> str:
    """Which column gives the answer away."""
    found = {str(name): alone(column, y) for name, column in frame.items()}
    first = max(found, key=lambda name: found[name])
    if found[first] <= LEAK_AUC:
        return f"no column alone says as much ({first}: {found[first]:.3f}), so it may be true."
    return f"{first} alone gives {found[first]:.3f} and probably knows the answer. Look at it, and --drop it."


def _logistic_regression(seen: pd.DataFrame, y: np.ndarray, asked: pd.DataFrame) -> np.ndarray:
    """scikit-learn's, with its default penalty, on standardised numbers and one column per category."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    prepared = make_column_transformer(
        (numbers, make_column_selector(dtype_include=np.number)),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude=np.number)),
    )
    return np.asarray(make_pipeline(prepared, LogisticRegression(max_iter=1000)).fit(seen, y).predict_proba(asked))[
        :, 1
    ]


def _lightgbm(seen: pd.DataFrame, y: np.ndarray, asked: pd.DataFrame) -> np.ndarray:
    """LightGBM with every default, told which columns are categories."""
    from lightgbm import LGBMClassifier

    plain = [f"column {number}" for number in range(seen.shape[1])]  # it takes no brackets, quotes or colons in names
    seen, asked = seen.set_axis(plain, axis=1), asked.set_axis(plain, axis=1)
    text = seen.select_dtypes(exclude="number").columns
    kinds = {name: pd.CategoricalDtype(sorted(seen[name].unique())) for name in text}
    classifier = LGBMClassifier(verbosity=-1, random_state=0, n_jobs=1 if seen.size < 500_000 else 0)
    return np.asarray(classifier.fit(seen.astype(kinds), y).predict_proba(asked.astype(kinds)))[:, 1]


PEERS: dict[str, Peer] = {"logistic regression": _logistic_regression, "LightGBM default": _lightgbm}


def _shown(quality: dict[str, ProbabilityQuality]) -> pd.DataFrame:
    """A row per model, its measures with their intervals."""
    shown = (*METRICS, *ALSO_SHOWN)
    return pd.DataFrame({metric: {name: str(getattr(q, metric)) for name, q in quality.items()} for metric in shown})
