"""Logs as one JSON object per line on standard error, each with its request's id; metrics."""

from __future__ import annotations

import logging
import logging.config
import re
import time
import uuid
from collections.abc import Callable, Mapping

from flask import Flask, Request, Response, g, has_request_context, request
from prometheus_client import (
    GC_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

ACCESS_LOGGER = "serve.access"
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_MEGAPIXELS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 25, 50, 100)


def configure_logging(level: str) -> None:
    """Send every logger's records to standard error as JSON."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"request": {"()": RequestFilter}},
            "formatters": {
                "json": {
                    "()": "pythonjsonlogger.json.JsonFormatter",
                    "fmt": "{asctime}{levelname}{name}{message}{request_id}",
                    "style": "{",
                    "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
                }
            },
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "filters": ["request"],
                    "formatter": "json",
                }
            },
            "root": {"level": level, "handlers": ["stderr"]},
        }
    )
    logging.captureWarnings(True)


class RequestFilter(logging.Filter):
    """Gives each record the id of the request that it was written in, or null."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add ``request_id``; keep the record."""
        record.request_id = g.get("request_id") if has_request_context() else None
        return True


def request_id(request: Request) -> str:
    """The client's ``X-Request-ID`` if it is a plain one, else a new id."""
    given = request.headers.get("X-Request-ID", "")
    return given if _GOOD_ID.match(given) else uuid.uuid4().hex


def install_access_log(app: Flask) -> None:
    """Give every request an id, send it back, and log the request once it is answered."""

    @app.before_request
    def start() -> None:
        g.request_id = request_id(request)
        g.started = time.monotonic()

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        logging.getLogger(ACCESS_LOGGER).info(
            "%s %s %d",
            request.method,
            request.path,
            response.status_code,
            extra={
                "status": response.status_code,
                "ms": round((time.monotonic() - g.started) * 1000, 1),
                "bytes_in": request.content_length or 0,
                "bytes_out": response.content_length or 0,
                **g.get("log_fields", {}),
            },
        )
        return response


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

    def count(self, response: Response) -> Response:
        """Count an answered request; an ``after_request`` function."""
        # The route's pattern, not the path, and no invented methods: anybody can make up both.
        route = request.url_rule.rule if request.url_rule is not None else "(none)"
        method = request.method if request.method in _METHODS else "other"
        self._requests.labels(method, route, str(response.status_code)).inc()
        return response

    def observe_photo(self, pixels: int, stages_ms: Mapping[str, float]) -> None:
        """Record a predicted photo: its number of pixels and the ms of each stage."""
        self._photos.observe(pixels / 1e6)
        for stage, duration in stages_ms.items():
            self._stages.labels(stage).observe(duration / 1000)

    def render(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
