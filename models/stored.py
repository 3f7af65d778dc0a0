"""A stored propensity, whichever kind it is: trees, or the rule that stands in for them."""

from __future__ import annotations

from pathlib import Path

from models import saving
from models.baselines import LogisticRFM
from models.propensity import Propensity

StoredPropensity = Propensity | LogisticRFM


def load_propensity(folder: Path) -> StoredPropensity:
    """Read what either model's `save` wrote.

    Raises:
        ModelFileError: a file is missing, cut short or changed.
    """
    with saving.reading(folder) as about:
        name = about["name"]
    return LogisticRFM.load(folder) if name == LogisticRFM.name else Propensity.load(folder)
