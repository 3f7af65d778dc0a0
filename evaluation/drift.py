"""Whether columns are still spread as they were: population stability against histograms kept from training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import TypeAdapter
from scipy.stats import chi2

QUANTILES = 10
"""A column of numbers is cut into so many bins of equal mass."""
TOP_WORDS = 20
"""Categories with a bin of their own; the others share one."""
SURELY = 0.999
"""Chance alone stays below `Stability.chance` in about so many comparisons: of a hundred features none may cry wolf."""
EXPECTED_OF_A_GONE = 10
"""A category is called gone only if so many rows of it were to be expected."""

WARN, ALARM = 0.1, 0.25
"""The usual readings of a population stability index (Siddiqi 2006): below the first nothing moved, above the second
much did."""

Verdict = Literal["steady", "warn", "alarm"]


@dataclass(frozen=True, slots=True)
class Stability:
    """How far two histograms of the same bins are from each other.

    Attributes:
        psi: Population stability index, less what chance alone is expected to give; 0 where that is more.
        chance: What `psi` stays below in about 999 of 1,000 comparisons where nothing moved.
    """

    psi: float
    chance: float

    def verdict(self, *, warn: float = WARN, alarm: float = ALARM) -> Verdict:
        """What to make of it. What chance explains is steady, however large: few rows prove little."""
        if self.psi <= max(warn, self.chance):
            return "steady"
        return "warn" if self.psi <= max(alarm, self.chance) else "alarm"


@dataclass(frozen=True)
class Histogram:
    """How often each kind of value was in one column.

    Attributes:
        kind: Of the column.
        bins: Of numbers the upper ends of all bins but the last, which has none, rising; of words the frequent ones.
        counts: Rows of each bin; then those above all ends, or all other words; then the missing ones.
    """

    kind: Literal["numbers", "words"]
    bins: tuple[float | str, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, values: pd.Series) -> Histogram:
        """The histogram of a column: bins of equal mass, or one for each value where there are few.

        Infinite numbers count as missing, as models take them.

        Example:
            >>> Histogram.of(pd.Series(["web", "web", "shop", None]))
            Histogram(kind='words', bins=('web', 'shop'), counts=(2, 1, 0, 1))
        """
        if _are_words(values):
            found = values.dropna().astype(str).value_counts()
            words = sorted(found.index, key=lambda word: (-found[word], word))[:TOP_WORDS]
            return cls("words", tuple(words), _counted("words", words, values))
        numbers = _numbers(values)
        known = np.unique(numbers[~np.isnan(numbers)])
        if 0 < len(known) <= QUANTILES:  # a bin each, and one on either side for what was never there
            ends = np.array([np.nextafter(known[0], -np.inf), *known])
        elif len(known):
            shares = np.arange(1, QUANTILES) / QUANTILES
            ends = np.unique(np.nanquantile(numbers, shares, method="lower"))
        else:
            ends = known
        bins = ends.tolist()
        return cls("numbers", tuple(bins), _counted("numbers", bins, values))

    @property
    def rows(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def missing_share(self) -> float:
        """Share of the rows without a value."""
        return self.counts[-1] / max(self.rows, 1)

    def again(self, values: pd.Series) -> Histogram:
        """The histogram of other values in the same bins."""
        return Histogram(self.kind, self.bins, _counted(self.kind, list(self.bins), values))


@dataclass(frozen=True)
class Drift:
    """What became of one column since training.

    Attributes:
        name: Of the column.
        psi: Population stability index, less what chance alone is expected to give; NaN if the column vanished.
        chance: What chance alone stays below (`Stability`).
        missing_before: Share of rows without a value, at training.
        missing_now: The same now.
        new: Categories that training never saw, the most frequent first.
        gone: Categories of training that nobody has any more, though ten rows or more were to be expected.
        verdict: What to make of it.
        note: What else is wrong with it; empty if nothing is.
    """

    name: str
    psi: float
    chance: float
    missing_before: float
    missing_now: float
    new: tuple[str, ...]
    gone: tuple[str, ...]
    verdict: Verdict
    note: str = ""


def population_stability(before: np.ndarray, now: np.ndarray) -> Stability:
    """Population stability index of two histograms: sum of (q - p) ln(q / p) over their bins (Siddiqi 2006).

    Each bin counts half a row more, so that an empty one is not infinitely far. Where nothing moved, the index of B
    bins is about (1/n + 1/m) times a chi-square with B - 1 degrees of freedom (Yurdakul 2018), so a sample of few
    people drifts on paper: the mean of that is subtracted, and its upper end is told.

    Args:
        before: Rows by bin, shape (B,).
        now: The same of what is compared, shape (B,). A bin that is empty in both is left out.

    Example:
        >>> found = population_stability(np.array([500, 500]), np.array([100, 900]))
        >>> round(found.psi, 2), found.verdict()
        (0.87, 'alarm')
        >>> population_stability(np.array([500, 500]), np.array([3, 7])).verdict()
        'steady'
    """
    used = (before > 0) | (now > 0)
    n, m, freedom = before.sum(), now.sum(), used.sum() - 1
    if not (n and m and freedom > 0):
        return Stability(0.0, 0.0)
    p, q = ((counts[used] + 0.5) / (counts[used] + 0.5).sum() for counts in (before, now))
    noise = 1 / n + 1 / m
    psi = float(((q - p) * np.log(q / p)).sum())
    expected = float(freedom * noise)
    return Stability(max(0.0, psi - expected), float(chi2.ppf(SURELY, freedom) * noise - expected))


def histograms(frame: pd.DataFrame) -> dict[str, Histogram]:
    """A histogram of every column: all that drift needs to know of training, and nobody's row."""
    return {str(name): Histogram.of(frame[name]) for name in frame}


def drift(
    before: Mapping[str, Histogram], frame: pd.DataFrame, *, warn: float = WARN, alarm: float = ALARM
) -> tuple[Drift, ...]:
    """What became of every column since, what moved most first.

    Args:
        before: By column, at training.
        frame: The columns now, a row per person; others than in `before` are ignored.
        warn: Population stability above it is a warning.
        alarm: Above it, an alarm; so is a column that vanished, or is no longer of its kind.

    Example:
        >>> was = pd.DataFrame({"orders": [0, 1, 2, 3] * 250, "country": ["DE", "AT"] * 500})
        >>> now = pd.DataFrame({"orders": [0, 1, 2, 3] * 250, "country": ["DE", "FR"] * 500})
        >>> [(d.name, d.verdict, d.new, d.gone) for d in drift(histograms(was), now)]
        [('country', 'alarm', ('FR',), ('AT',)), ('orders', 'steady', (), ())]
    """
    return ordered(_drift(name, histogram, frame, warn=warn, alarm=alarm) for name, histogram in before.items())


def ordered(found: Iterable[Drift]) -> tuple[Drift, ...]:
    """What moved most first."""
    order: tuple[Verdict, ...] = ("alarm", "warn", "steady")
    return tuple(sorted(found, key=lambda d: (order.index(d.verdict), -np.nan_to_num(d.psi, nan=np.inf), d.name)))


def to_json(before: Mapping[str, Histogram]) -> str:
    """The histograms as text, a line each."""
    lines = [f"{json.dumps(name)}: {json.dumps(asdict(histogram))}" for name, histogram in before.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def from_json(text: str) -> dict[str, Histogram]:
    """What `to_json` wrote.

    Raises:
        ValueError: it did not write this.

    Example:
        >>> was = histograms(pd.DataFrame({"orders": [0, 1, 2]}))
        >>> from_json(to_json(was)) == was
        True
    """
    return TypeAdapter(dict[str, Histogram]).validate_json(text)


def _drift(name: str, before: Histogram, frame: pd.DataFrame, *, warn: float, alarm: float) -> Drift:
    values = frame[name] if name in frame else pd.Series(dtype=float)
    if name not in frame or (values.notna().any() and _are_words(values) != (before.kind == "words")):
        is_now = "is not there any more" if name not in frame else f"held {before.kind} and is {values.dtype} now"
        missing_now = float(values.isna().mean()) if len(values) else 1.0
        return Drift(name, np.nan, 0.0, before.missing_share, missing_now, (), (), "alarm", is_now)
    now = before.again(values)
    stability = population_stability(np.array(before.counts), np.array(now.counts))
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    if before.kind == "words":
        if not before.counts[-2]:  # else the other words of training are not told apart
            known = values.dropna().astype(str)
            new = tuple(known[~known.isin(before.bins)].value_counts().index[:TOP_WORDS])
        expected = np.array(before.counts[:-2]) * now.rows / max(before.rows, 1)
        left = (np.array(now.counts[:-2]) == 0) & (expected >= EXPECTED_OF_A_GONE)
        gone = tuple(str(word) for word, is_left in zip(before.bins, left, strict=True) if is_left)
    return Drift(
        name,
        stability.psi,
        stability.chance,
        before.missing_share,
        now.missing_share,
        new,
        gone,
        stability.verdict(warn=warn, alarm=alarm),
    )


def _counted(kind: str, bins: list[float | str] | list[float] | list[str], values: pd.Series) -> tuple[int, ...]:
    if kind == "words":
        place = pd.Index(bins, dtype="object").get_indexer(pd.Index(values.astype("object")))
        codes = np.where(values.isna(), len(bins) + 1, np.where(place < 0, len(bins), place))
    else:
        numbers = _numbers(values)
        codes = np.where(np.isnan(numbers), len(bins) + 1, np.searchsorted(bins, numbers, side="left"))
    return tuple(np.bincount(codes.astype(np.int64), minlength=len(bins) + 2).tolist())


def _numbers(values: pd.Series) -> np.ndarray:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _are_words(values: pd.Series) -> bool:
    known = values.dropna()
    if not len(known):
        return False
    return not (
        pd.api.types.is_numeric_dtype(known.infer_objects()) or pd.api.types.is_bool_dtype(known.infer_objects())
    )
