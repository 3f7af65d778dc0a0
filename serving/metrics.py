"""What operators watch, as Prometheus text."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import accumulate
from threading import Lock

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.champions import Champions

BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics(Collector):
    """Plain numbers, named and written when they are asked for; answers are counted on the event loop alone.

    The client's own counters would keep theirs in mapped files, for BentoML sets it up for many processes.

    Attributes:
        decisions_lost: Decisions answered without an id because the state could not be written.
        media_type: Of `text`.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.decisions_lost = 0
        self._lock = Lock()
        self._answered: Counter[tuple[str, int]] = Counter()
        self._took: dict[str, list[int]] = {}  # answers in each bucket, the last one above all of them
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._versions: dict[str, int] = {}
        self._refusals = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._answered[route, status] += 1
        if (took := self._took.get(route)) is None:
            took = self._took[route] = [0] * (len(BUCKETS_SECONDS) + 1)
        took[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self._seconds[route] += seconds

    def lose(self, decisions: int) -> None:
        """Count decisions that could not be stored; in any thread."""
        with self._lock:
            self.decisions_lost += decisions

    def observe_champions(self, champions: Champions) -> None:
        """Tell which versions are in force."""
        for name in {*champions.current, *champions.troubles}:
            champion = champions.current.get(name)
            self._versions[name] = champion.number if champion else 0
        self._refusals = champions.refusals

    def collect(self) -> Iterator[Metric]:
        """As `prometheus_client` asks for it."""
        requests = CounterMetricFamily("attune_requests", "Requests answered", labels=["route", "status"])
        for (route, status), n in self._answered.items():
            requests.add_metric([route, str(status)], n)
        times = HistogramMetricFamily("attune_request_seconds", "Time to answer", labels=["route"])
        for route, took in self._took.items():
            bounds = [*map(str, map(float, BUCKETS_SECONDS)), "+Inf"]
            times.add_metric([route], list(zip(bounds, accumulate(took), strict=True)), self._seconds[route])
        versions = GaugeMetricFamily(
            "attune_model_version", "Number of the version in force, 0 = none", labels=["model"]
        )
        for name, number in self._versions.items():
            versions.add_metric([name], number)
        yield requests
        yield times
        yield versions
        yield GaugeMetricFamily("attune_swap_refusals", "Versions refused since the start", self._refusals)
        yield CounterMetricFamily("attune_decisions_lost", "Decisions that could not be stored", self.decisions_lost)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)
