"""The page for people, and what browsers are told: security headers, CORS, the path of a proxy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint, Flask, Response, current_app, render_template, request

from crack_data.inference.drawing import instance_colour

from .answers import PREDICT_HEADERS

page = Blueprint("page", __name__)

# As many swatches as the list of instances is likely to need; further rows repeat them.
_SWATCHES = 100
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Nothing may be cached but /static.
    "Cache-Control": "no-store",
}
_PLAIN_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+/?\Z")


@page.route("/")
def index() -> str:
    """Show the page."""
    colours = (instance_colour(index) for index in range(_SWATCHES))
    return render_template(
        "index.html",
        colours=" ".join(f"#{red:02x}{green:02x}{blue:02x}" for blue, green, red in colours),
        megabytes=round(current_app.config["MAX_CONTENT_LENGTH"] / 1e6),
    )


def install_browser_headers(app: Flask, cors_origin: str) -> None:
    """Add the security headers to every answer, and where an origin is given those of CORS."""

    @app.after_request
    def add(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if cors_origin:
            _allow(response, cors_origin)
        return response


def _allow(response: Response, cors_origin: str) -> None:
    """Let pages of that origin read the answer; answer their browser's question beforehand."""
    headers = response.headers
    headers["Access-Control-Allow-Origin"] = cors_origin
    headers["Access-Control-Expose-Headers"] = ", ".join([*PREDICT_HEADERS, "X-Request-ID"])
    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    if request.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = "GET, POST"
        headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, X-Request-ID"
        headers["Access-Control-Max-Age"] = "600"


def under_prefix(app: Callable[..., Iterable[bytes]], prefix: str) -> Callable[..., Any]:
    """Wrap a WSGI app so that its links begin with the path that a proxy serves it under.

    Args:
        app: the WSGI app.
        prefix: the path; empty: each request's X-Forwarded-Prefix, if the proxy sends one.

    Returns:
        an app that takes paths with the prefix and without.
    """

    def wsgi(environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        base = prefix or environ.get("HTTP_X_FORWARDED_PREFIX", "")
        if _PLAIN_PATH.match(base):
            base = base.rstrip("/")
            environ["SCRIPT_NAME"] = base
            path = environ["PATH_INFO"]
            if path == base or path.startswith(base + "/"):
                environ["PATH_INFO"] = path[len(base) :] or "/"
        return app(environ, start_response)

    return wsgi
