"""A stored propensity, whichever kind it is: trees, or a rule that stands in for them."""

from __future__ import annotations

from pathlib import Path

from models import saving
from models.baselines import BaseRate, LogisticRFM
from models.propensity import Propensity

StoredPropensity = Propensity | LogisticRFM | BaseRate
RULES = {rule.name: rule for rule in (LogisticRFM, BaseRate)}
"""By the name that they are stored with; any other is a `Propensity`."""


def load_propensity(folder: Path) -> StoredPropensity:
    """Read what any of the models' `save` wrote.

    Raises:
        ModelFileError: a file is missing, cut short or changed.
    """
    with saving.reading(folder) as about:
        kind = RULES.get(about["name"], Propensity)
    return kind.load(folder)
