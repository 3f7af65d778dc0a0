"""What operators watch, as Prometheus text."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.champions import Champions

BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """The service's own collectors, in a registry of their own.

    Attributes:
        decisions_lost: Decisions answered without an id because the state could not be written.
        media_type: Of `text`.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("attune_requests", "Requests answered", ["route", "status"], registry=self._registry)
        self._seconds = Histogram(
            "attune_request_seconds", "Time to answer", ["route"], buckets=BUCKETS_SECONDS, registry=self._registry
        )
        self._answered: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._versions = Gauge(
            "attune_model_version", "Number of the version in force, 0 = none", ["model"], registry=self._registry
        )
        self._refusals = Gauge("attune_swap_refusals", "Versions refused since the start", registry=self._registry)
        self.decisions_lost = Counter(
            "attune_decisions_lost", "Decisions that could not be stored", registry=self._registry
        )

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        if (found := self._answered.get((route, status))) is None:
            found = self._answered[route, status] = self._requests.labels(route, status), self._seconds.labels(route)
        count, took = found
        count.inc()
        took.observe(seconds)

    def observe_champions(self, champions: Champions) -> None:
        """Tell which versions are in force."""
        for name in {*champions.current, *champions.troubles}:
            champion = champions.current.get(name)
            self._versions.labels(name).set(champion.number if champion else 0)
        self._refusals.set(champions.refusals)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)
