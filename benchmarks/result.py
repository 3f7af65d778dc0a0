"""What a benchmark found, and how it is printed: the last line is one JSON object."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from evaluation.intervals import Interval

KIB_PER_GB = 1_000_000_000 / 1024


@dataclass(frozen=True)
class Result:
    """What a benchmark found.

    Attributes:
        metrics: Name (snake case, with the cut in it) -> value.
        intervals: The intervals of those that have one.
        peers: The same metrics of what was measured beside, or the limits that were held.
    """

    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    peers: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Usage:
    """What the body of `measured` took."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def measured() -> Iterator[Usage]:
    """Wall and CPU seconds of the body, its finished child processes included."""
    usage, started, used = Usage(), time.perf_counter(), _cpu_seconds()
    yield usage
    usage.seconds, usage.cpu_seconds = time.perf_counter() - started, _cpu_seconds() - used


def as_json(name: str, result: Result, usage: Usage) -> str:
    """The last line of a benchmark."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return json.dumps(
        {
            "name": name,
            "metrics": {metric: _rounded(value) for metric, value in result.metrics.items()},
            "intervals": {metric: [_rounded(i.low), _rounded(i.high)] for metric, i in result.intervals.items()},
            "seconds": round(usage.seconds, 1),
            "cpu_seconds": round(usage.cpu_seconds, 1),
            "peak_gb": round(peak / KIB_PER_GB, 2),
            "peers": result.peers,
        }
    )


def _cpu_seconds() -> float:
    mine, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime


def _rounded(value: float) -> float | None:
    return None if value != value else float(f"{value:.5g}")  # noqa: PLR0124 - JSON has no NaN
