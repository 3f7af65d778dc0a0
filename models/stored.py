"""A stored propensity, whichever kind it is: trees, or the rule that stands in for them."""

from __future__ import annotations

import json
from pathlib import Path

from data.errors import ModelFileError
from models.baselines import LogisticRFM
from models.propensity import Propensity

StoredPropensity = Propensity | LogisticRFM


def load_propensity(folder: Path) -> StoredPropensity:
    """Read what either model's `save` wrote.

    Raises:
        ModelFileError: a file is missing, cut short or changed.
    """
    try:
        name = json.loads((folder / "model.json").read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{folder} is damaged: {error}. Fetch the version again, or train anew.") from error
    return LogisticRFM.load(folder) if name == LogisticRFM.name else Propensity.load(folder)
