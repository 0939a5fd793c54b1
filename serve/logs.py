"""Logs as one JSON object per line on standard error, each with its request's id; metrics."""

import logging
import re
import time
import uuid

from flask import Response, g, has_request_context, request
from prometheus_client import Counter, Gauge, Histogram
from pythonjsonlogger.json import JsonFormatter

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
    columns = "{asctime}{levelname}{name}{message}{request_id}"
    renamed = {"asctime": "time", "levelname": "level", "name": "logger"}
    handler.setFormatter(JsonFormatter(columns, style="{", rename_fields=renamed))
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(True)


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = g.get("request_id") if has_request_context() else None
    return True


def begin_request() -> None:
    """Give the request an id, its own where that is plain, and note the time."""
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", given) else uuid.uuid4().hex
    g.started = time.monotonic()


def log_answer(response: Response) -> Response:
    """Send the request's id back, and log and count the request."""
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
    logging.getLogger("serve.access").info("%s", line, extra=about)
    return response
