"""Logs as one JSON object per line on standard error, each with its request's id."""

from __future__ import annotations

import logging
import logging.config
import re
import time
import uuid

from flask import Flask, Request, Response, g, has_request_context, request

ACCESS_LOGGER = "serve.access"
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


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
            # Its warning that a request waits for a thread says nothing that the metrics do not.
            "loggers": {"waitress.queue": {"level": "ERROR"}},
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
