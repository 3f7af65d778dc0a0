"""What a version keeps of the people it learnt from: histograms of the features and the score, and nobody's row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from data.errors import ModelFileError
from evaluation.drift import Histogram, from_json, histograms, to_json

REFERENCE = "reference.json"
"""In a version's folder."""


def write_reference(features: pd.DataFrame, score: np.ndarray, name: str, folder: Path) -> None:
    """Keep with a version how the features and the score were spread.

    Args:
        features: That the model reads, of the latest people it learnt from, one row each.
        score: What it says of them, (n,).
        name: Registered model: what the score is called.
        folder: The version's folder.
    """
    told = features.assign(**{name: score})
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
        raise ModelFileError(f"{path} is damaged: {error}. Train anew with `attune train`.") from error
