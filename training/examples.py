"""The questions that are stored with a version, with its answers: plausible ones, and nobody's own data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from models.kinds import write_examples
from models.offers import OfferModel
from models.recommenders import Recommender
from models.stored import StoredPropensity
from models.timing import Timing
from models.variants import Variant, VariantModel
from models.worth import CustomerValue

K = 10
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""An example customer has the same quantile of every feature: plausible, and no real person."""


def write_recommender_examples(model: Recommender, popular: Sequence[int], folder: Path) -> None:
    """Rank for a stranger, for each of a few popular items alone, and for all of them.

    Args:
        model: Fitted.
        popular: Codes of a few popular items.
        folder: The version's folder.
    """
    ids = model.items.ids(popular)
    asked = [{"items": items, "weights": [1.0] * len(items)} for items in ([], *([id_] for id_ in ids), ids)]
    write_examples("recommender", model, {"histories": asked, "k": K}, folder)


def write_feature_examples(
    name: str, model: StoredPropensity | CustomerValue | OfferModel, features: pd.DataFrame, folder: Path
) -> None:
    """Ask about customers who have the same quantile of every feature.

    Args:
        name: Registered model.
        model: Fitted.
        features: Of customers, with the model's features.
        folder: The version's folder.
    """
    rows = [{name: _quantile(features[name], quantile) for name in model.features} for quantile in QUANTILES]
    write_examples(name, model, {"rows": rows}, folder)


def write_timing_examples(model: Timing, folder: Path) -> None:
    """Ask for a stranger, and for people who answer or shop at a few hours.

    Args:
        model: Fitted.
        folder: The version's folder.
    """
    people: list[dict[str, Any]] = [{}]
    for own in (8, 13, 20):
        hours = [8, 8, 13, 13, 20, 20]
        answered = [hour == own for hour in hours]
        people.append({"channel": [model.channels[0]] * len(hours), "hour": hours, "answered": answered})
        people.append({"active": [own] * 4})
    write_examples("send-time", model, {"people": people}, folder)


def write_variant_examples(model: VariantModel, variants: Sequence[Variant], folder: Path) -> None:
    """Ask about a few variants, old and new, and about one that nobody knows, with nobody in particular.

    Args:
        model: Fitted.
        variants: That it knows, the oldest first.
        folder: The version's folder.
    """
    asked = [asdict(variant) for variant in (*variants[:2], *variants[-2:])]
    unknown = Variant("nobody knows it", variants[0].slot, text="Something new for you", attributes='{"tone": "warm"}')
    write_examples("variants", model, {"rows": [*asked, asdict(unknown)]}, folder)


def _quantile(values: pd.Series, quantile: float) -> float | str | None:
    """The value at a quantile; of words and yes or no the one at that place in their order, None if all are missing."""
    known = values.dropna()
    if known.empty:
        return None
    if pd.api.types.is_bool_dtype(known):
        return bool(known.astype(float).quantile(quantile) > 0.5)
    if pd.api.types.is_numeric_dtype(known):
        return float(known.astype(float).quantile(quantile))
    ordered = np.sort(known.astype(str).to_numpy(dtype=object))
    return str(ordered[int(quantile * (len(ordered) - 1))])
