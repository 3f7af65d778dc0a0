"""What the training jobs hand back: figures with their intervals, as tables a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluation.classification import Decile, Fairness, GroupQuality
from evaluation.intervals import Interval
from registry.versions import Version


@dataclass(frozen=True)
class Judged:
    """One model on the test rows.

    Attributes:
        name: The candidate, or `champion` or `challenger` with its version.
        recipe: How it was made: two of one recipe differ in their data only.
        is_baseline: Whether it is one of the honest baselines.
        metrics: Every metric with its interval.
        gain: What the first model of the table gains over this one on the main metric: mean difference on the same
            rows, with its interval. None for the first itself.
        size_bytes: What the stored model weighs; None where it is not stored.
    """

    name: str
    recipe: str
    is_baseline: bool
    metrics: Mapping[str, Interval]
    gain: Interval | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Models on the same test rows, the one in question first.

    Attributes:
        name: Registered model.
        metric: The main metric; higher is better.
        n_rows: How many users were judged.
        rows: The models.
        notes: What a reader must know to read the figures rightly.
        calibration_noise: The calibration error that the first one's probabilities would show with so few people if
            they were exactly right.
        yielding: Recipes of champions that make way for the first one unless they are surely better than it.
    """

    name: str
    metric: str
    n_rows: int
    rows: tuple[Judged, ...]
    notes: tuple[str, ...] = ()
    calibration_noise: float = 0.0
    yielding: tuple[str, ...] = ()

    @property
    def best_baseline(self) -> Judged:
        """The baseline with the highest main metric; the earlier of equals."""
        return max((row for row in self.rows if row.is_baseline), key=self._score)

    def _score(self, row: Judged) -> float:
        return float(np.nan_to_num(row.metrics[self.metric].estimate))

    @property
    def beats_baselines(self) -> bool:
        """Whether the first model's gain over the best baseline lies above zero with its whole interval."""
        gain = self.best_baseline.gain
        return gain is not None and gain.low > 0

    def frame(self) -> pd.DataFrame:
        """One row per model; each metric with `_low` and `_high`."""
        return pd.DataFrame(
            {"model": row.name, **flat(row.metrics), **(flat({"gain": row.gain}) if row.gain else {})}
            for row in self.rows
        )


@dataclass(frozen=True)
class InDetail:
    """For whom a model's probabilities are how good, so that nobody hides in the average.

    Attributes:
        deciles: Tenths of the people, the highest probabilities first.
        groups: By tenure, lifecycle stage and named segment.
        fairness: By the attributes that the settings name.
    """

    deciles: tuple[Decile, ...]
    groups: tuple[GroupQuality, ...]
    fairness: Fairness


@dataclass(frozen=True)
class TrainingResult:
    """A trained and registered version, and how it was judged.

    Attributes:
        version: The registered challenger.
        chosen: The candidate it was fitted by.
        test: The candidate and the baselines on the test rows.
    """

    version: Version
    chosen: str
    test: Comparison


def flat(metrics: Mapping[str, Interval]) -> dict[str, float]:
    """Each metric as three numbers: the value, and the ends of its interval as `_low` and `_high`.

    What could not be measured is left out: MLflow keeps a NaN of a model as 0.

    Example:
        >>> flat({"coverage": Interval(0.5, np.nan, np.nan, 0.95)})
        {'coverage': 0.5}
    """
    numbers: dict[str, float] = {}
    for name, interval in metrics.items():
        numbers |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return {name: number for name, number in numbers.items() if not np.isnan(number)}
