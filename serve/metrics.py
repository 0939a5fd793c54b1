"""What the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import (
    GC_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_MEGAPIXELS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 25, 50, 100)


class Metrics:
    """The metrics of one app, in a registry of their own so that two apps do not collide."""

    def __init__(self, waiting: Callable[[], float]) -> None:
        """Register the metrics; ``waiting`` gives the number of photos in line."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(GC_COLLECTOR)
        self._requests = Counter(
            "crack_requests",
            "Requests answered, by route and status",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._stages = Histogram(
            "crack_stage_seconds",
            "Time of a prediction's stages",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._photos = Histogram(
            "crack_photo_megapixels",
            "Size of the photos predicted",
            buckets=_MEGAPIXELS,
            registry=self.registry,
        )
        depth = Gauge("crack_queue_depth", "Photos waiting in line", registry=self.registry)
        depth.set_function(waiting)

    def count_request(self, method: str, route: str, status: int) -> None:
        """Count an answered request."""
        self._requests.labels(method, route, str(status)).inc()

    def observe_photo(self, pixels: int, stages_ms: Mapping[str, float]) -> None:
        """Record a predicted photo: its number of pixels and the ms of each stage."""
        self._photos.observe(pixels / 1e6)
        for stage, duration in stages_ms.items():
            self._stages.labels(stage).observe(duration / 1000)

    def render(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
