"""The API key and the headers that tell browsers to be strict."""

from __future__ import annotations

import hmac

from flask import Flask, Request, Response
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

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
}


def install_security_headers(app: Flask) -> None:
    """Add the security headers to every answer; nothing of it may be cached but /static."""

    @app.after_request
    def add(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def check_api_key(request: Request, api_key: str) -> None:
    """Compare the bearer token with the key, in constant time; an empty key lets everyone in.

    Raises:
        Unauthorized: the key is missing or wrong.
    """
    if not api_key:
        return
    given = request.authorization
    token = (given.token or "") if given is not None and given.type == "bearer" else ""
    if not hmac.compare_digest(token.encode(), api_key.encode()):
        raise Unauthorized(
            "this server wants its API key: Authorization: Bearer KEY",
            www_authenticate=WWWAuthenticate("bearer", {"realm": "crack"}),
        )
