"""What a version keeps of the people it learnt from: histograms of the features and the score, and nobody's row."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data.errors import ModelFileError
from evaluation.drift import Histogram, from_json, histograms, to_json
from models.stored import StoredPropensity

REFERENCE = "reference.json"
"""In a version's folder."""


def write_reference(model: StoredPropensity, features: pd.DataFrame, name: str, folder: Path) -> None:
    """Keep with a version how the features and the score were spread.

    Args:
        model: Fitted.
        features: Of the latest people it learnt from, one row each.
        name: Registered model: what the score is called.
        folder: The version's folder.
    """
    told = features[model.features].assign(**{name: model.predict(features)})
    (folder / REFERENCE).write_text(to_json(histograms(told)), encoding="utf-8")


def read_reference(folder: Path) -> dict[str, Histogram]:
    """By column, what `write_reference` kept; empty where a version has none.

    Raises:
        ModelFileError: it is damaged.
    """
    path = folder / REFERENCE
    try:
        return from_json(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged: {error}. Train anew with `attune train propensity`.") from error
