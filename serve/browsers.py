"""What browsers are told (security headers, CORS), and the path that a proxy serves this under."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response

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
# Where pages of another origin may ask, for them and for their browser's question beforehand.
_CORS_HEADERS = {
    "Access-Control-Expose-Headers": (
        "X-Crack-Percent-Masked, X-Crack-Percent-Unmasked, X-Crack-Percent-Low, "
        "X-Crack-Percent-High, X-Crack-Count, Server-Timing, X-Request-ID"
    ),
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-ID",
    "Access-Control-Max-Age": "600",
}
_PLAIN_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+/?\Z")


def install_browser_headers(app: Flask, cors_origin: str) -> None:
    """Add the security headers to every answer, and where an origin is given those of CORS."""

    @app.after_request
    def add(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if cors_origin:
            response.headers["Access-Control-Allow-Origin"] = cors_origin
            response.headers.update(_CORS_HEADERS)
        return response


def under_prefix(app: Callable[..., Iterable[bytes]], prefix: str) -> Callable[..., Any]:
    """Make a WSGI app's links begin with the path that a proxy serves it under.

    An empty ``prefix`` means each request's X-Forwarded-Prefix, if the proxy sends one. The result
    takes paths with the prefix and without.
    """

    def wsgi(environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        base = prefix or environ.get("HTTP_X_FORWARDED_PREFIX", "")
        if _PLAIN_PATH.match(base):
            base, path = base.rstrip("/"), environ["PATH_INFO"]
            environ["SCRIPT_NAME"] = base
            if path == base or path.startswith(base + "/"):
                environ["PATH_INFO"] = path[len(base) :] or "/"
        return app(environ, start_response)

    return wsgi
