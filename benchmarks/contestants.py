"""Recommenders of any library on the same people and days: figures of each, and what the winner gains over it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.intervals import Interval
from evaluation.ranking import Metric, RankingQuality, Who, compare

Kind = Literal["winner", "baseline", "peer"]


@dataclass(frozen=True, eq=False)
class Contestant:
    """A recommender, learnt anew before each test window, and how it did on all of them.

    Attributes:
        name: How it was made, in words; of one that failed, why.
        kind: `winner` is what the search chose; a baseline that was chosen is among the baselines too.
        quality: Of what it showed, a row per person and window; None for a peer that failed.
        trials: Of the search that it came from; NaN where that is the winner's.
        search_seconds: Of that search.
        fit_seconds: Of learning what was known before a window, their mean.
        p95_latency_ms: Of one user's ranking in the last window.
    """

    name: str
    kind: Kind
    quality: RankingQuality | None
    trials: float = math.nan
    search_seconds: float = math.nan
    fit_seconds: float = math.nan
    p95_latency_ms: float = math.nan

    @property
    def metrics(self) -> dict[str, float]:
        """What the table and the JSON line say of it; none for one that failed."""
        if self.quality is None:
            return {}
        k = self.quality.k
        return {
            f"recall_at_{k}": self._mean(self.quality, "recall", "warm"),
            f"ndcg_at_{k}": self._mean(self.quality, "ndcg", "warm"),
            f"recall_at_{k}_cold_users": self._mean(self.quality, "recall", "cold"),
            f"recall_at_{k}_cold_items": self._mean(self.quality, "recall_of_cold_items", "all"),
            f"coverage_at_{k}": self.quality.coverage,
            f"novelty_bits_at_{k}": self._mean(self.quality, "novelty", "warm"),
            "trials": self.trials,
            "search_seconds": self.search_seconds,
            "fit_seconds": self.fit_seconds,
            "p95_latency_ms": self.p95_latency_ms,
        }

    @property
    def intervals(self) -> dict[str, Interval]:
        """Of recall and NDCG."""
        if self.quality is None:
            return {}
        return {
            f"recall_at_{self.quality.k}": self.quality.interval("recall", "warm"),
            f"ndcg_at_{self.quality.k}": self.quality.interval("ndcg", "warm"),
        }

    @staticmethod
    def _mean(quality: RankingQuality, metric: Metric, who: Who) -> float:
        values = quality.values(metric, who)
        return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


HEADINGS = (
    "recall", "NDCG", "strangers", "new items", "coverage", "novelty", "trials", "search, s", "fit, s", "p95, ms",
)  # fmt: skip
"""Of `Contestant.metrics`."""


@dataclass(frozen=True, eq=False)
class Contest:
    """A data set's contestants, all judged on the same people.

    Attributes:
        name: Of the data set.
        about: What they were judged on, in words.
        contestants: The winner first.
    """

    name: str
    about: str
    contestants: tuple[Contestant, ...]

    @property
    def winner(self) -> Contestant:
        """What the search chose."""
        return self.contestants[0]

    def gain_over(self, other: Contestant) -> Interval | None:
        """The winner's NDCG less the other's on people who are no strangers, paired; None over one that failed."""
        if self.winner.quality is None or other.quality is None:
            return None
        return compare(self.winner.quality, other.quality, "ndcg", "warm")

    def gains(self) -> dict[str, Interval]:
        """Over the best baseline and the best peer: those that did best on these very people."""
        found = {}
        for kind in ("baseline", "peer"):
            gains = [self.gain_over(contestant) for contestant in self.contestants if contestant.kind == kind]
            known = [gain for gain in gains if gain]
            if known:
                found[kind] = min(known, key=lambda gain: gain.estimate)
        return found

    def verdict(self) -> str:
        """The winner against the peers, in words."""
        gains = [self.gain_over(contestant) for contestant in self.contestants if contestant.kind == "peer"]
        if not gains:
            return "no peers beside it: run `make bench-setup`"
        ahead = sum(gain is not None and gain.low > 0 for gain in gains)
        behind = sum(gain is not None and gain.estimate < 0 for gain in gains)
        surely = sum(gain is not None and gain.high < 0 for gain in gains)
        failed = gains.count(None)
        told = f"surely ahead of {ahead} of {len(gains)} peers, behind {behind}, {surely} of them surely"
        return f"{told}, {failed} failed" if failed else told

    def table(self) -> str:
        """A line per contestant."""
        lines = [
            f"{self.name}: {self.verdict()}",
            f"{self.about}; the winner is {self.winner.name}",
            f"{'':<9}" + "".join(f"{name:>11}" for name in HEADINGS) + f"  {'NDCG that the winner gains':<26}  model",
        ]
        for one in self.contestants:
            cells = "".join("           " if math.isnan(value) else f"{value:>11.4g}" for value in one.metrics.values())
            gain = "" if one is self.winner else str(self.gain_over(one) or "failed")
            lines.append(f"{one.kind:<9}{cells:<{11 * len(HEADINGS)}}  {gain:<26}  {one.name}")
        return "\n".join(lines)
