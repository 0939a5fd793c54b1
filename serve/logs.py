"""Logs as one JSON object per line on standard error, each with its request's id; metrics."""

from __future__ import annotations

import logging
import re
import time
import uuid

from flask import Flask, Response, g, has_request_context, request
from prometheus_client import Counter, Gauge, Histogram
from pythonjsonlogger.json import JsonFormatter

_ACCESS = logging.getLogger("serve.access")
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}

REQUESTS = Counter(
    "crack_requests", "Requests answered, by route and status", ["method", "route", "status"]
)
STAGES = Histogram("crack_stage_seconds", "Time of a prediction's stages", ["stage"])
MEGAPIXELS = Histogram(
    "crack_photo_megapixels",
    "Size of the photos predicted",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 25, 50, 100),
)
QUEUE_DEPTH = Gauge("crack_queue_depth", "Photos waiting in line")


def configure_logging(level: str) -> None:
    """Send every logger's records to standard error as JSON."""
    handler = logging.StreamHandler()
    handler.addFilter(_add_request_id)
    handler.setFormatter(
        JsonFormatter(
            "{asctime}{levelname}{name}{message}{request_id}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    )
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(True)


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = g.get("request_id") if has_request_context() else None
    return True


def install_access_log(app: Flask) -> None:
    """Give every request an id, send it back, and log and count the request once answered."""

    @app.before_request
    def start() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _GOOD_ID.fullmatch(given) else uuid.uuid4().hex
        g.started = time.monotonic()

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        # The route's pattern, not the path, and no invented methods: anybody can make up both.
        route = request.url_rule.rule if request.url_rule is not None else "(none)"
        method = request.method if request.method in _METHODS else "other"
        REQUESTS.labels(method, route, str(response.status_code)).inc()
        about = {
            "status": response.status_code,
            "ms": round((time.monotonic() - g.started) * 1000, 1),
            "bytes_in": request.content_length or 0,
            "bytes_out": response.content_length or 0,
        }
        line = f"{request.method} {request.path} {response.status_code}"
        _ACCESS.info("%s", line, extra=about)
        return response
