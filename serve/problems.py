"""Every error as a problem document (RFC 9457, ``application/problem+json``)."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import g, json, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.wrappers import Response

PROBLEM_TYPE = "application/problem+json"


class ProblemSchema(ma.Schema):
    """The members of a problem document, for the OpenAPI description."""

    type = ma.fields.String(required=True)
    title = ma.fields.String(required=True)
    status = ma.fields.Integer(required=True)
    detail = ma.fields.String(required=True)
    instance = ma.fields.String()
    request_id = ma.fields.String()


def problem_document(status: int, detail: str, **members: Any) -> dict[str, Any]:
    """Build a problem document; the type is ``about:blank``, so the title is the status phrase."""
    title = HTTP_STATUS_CODES[status]
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}


def body_too_large(limit: int) -> str:
    """The sentence about a body of more than ``limit`` bytes."""
    return f"the request's body is larger than the limit of {limit} bytes"


def problem_response(error: HTTPException) -> Response:
    """Turn an HTTP exception into its problem document; a redirect passes unchanged."""
    response = error.get_response(request.environ)
    if not isinstance(response, Response) or response.status_code < 400:
        return response
    document = problem_document(
        response.status_code,
        _sentence(error),
        instance=request.path,
        request_id=g.get("request_id", ""),
    )
    response.set_data(json.dumps(document))
    response.content_type = PROBLEM_TYPE
    return response


def _sentence(error: HTTPException) -> str:
    """The description of the error; for a bad query, which parameter and why."""
    messages = getattr(error, "data", {}).get("messages")
    if not messages:
        return " ".join((error.description or error.name).split())
    return "; ".join(
        f"{place} parameter {name!r}: {' '.join(map(str, why))}"
        for place, names in messages.items()
        for name, why in names.items()
    )
