"""The routes that machines use: predict, health, metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import marshmallow as ma
from flask import Response, g, request
from flask_smorest import Api, Blueprint
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.exceptions import HTTPException, ServiceUnavailable
from werkzeug.wrappers import Response as AnyResponse

from . import schemas
from .encode import MEDIA_TYPES, Answer, choose_form
from .metrics import Metrics
from .problems import PROBLEM_TYPE, ProblemSchema, problem_response
from .security import check_api_key
from .settings import Settings
from .uploads import Upload, decode, read_upload
from .worker import ClientGone, InferenceWorker

_REFUSALS = {
    400: "no photo, or a bad query parameter",
    401: "API key missing or wrong",
    406: "none of the accepted media types is on offer",
    413: "too many bytes or pixels",
    415: "not a photo",
    422: "truncated or corrupt photo",
    503: "the model is not loaded, or the queue is full: see Retry-After",
    504: "waited past the deadline",
}


class ProblemApi(Api):
    """flask-smorest's API, with problem documents for errors."""

    ERROR_SCHEMA = ProblemSchema
    # Each route names its own errors, as problem documents.
    DEFAULT_ERROR_RESPONSE_NAME = None

    def handle_http_exception(self, error: HTTPException) -> AnyResponse:
        """Answer with the problem document."""
        return problem_response(error)


def make_blueprint(settings: Settings, worker: InferenceWorker, metrics: Metrics) -> Blueprint:
    """Build the routes around a worker."""
    blueprint = Blueprint("api", __name__, description="Crack prediction")

    @blueprint.route("/predict", methods=["POST"])
    @blueprint.doc(requestBody=schemas.REQUEST_BODY)
    # Raising: a misspelt threshold must not be answered as if it had been obeyed.
    @blueprint.arguments(
        schemas.PredictQuery, location="query", error_status_code=400, unknown=ma.RAISE
    )
    @_predict_responses(blueprint)
    def predict(query: Mapping[str, Any]) -> Response:
        """Find the cracks on a photo."""
        check_api_key(request, settings.api_key)
        form = choose_form(request, query.get("format"))
        upload = read_upload(request)
        try:
            with worker.slot():
                return _predict(upload, form, query, settings, worker, metrics)
        except ClientGone:
            # Nobody reads this; the logs and metrics show the status as nginx would write it.
            return Response(status="499 Client Closed Request")

    _add_state_routes(blueprint, worker, metrics)
    return blueprint


def _predict(
    upload: Upload,
    form: str,
    query: Mapping[str, Any],
    settings: Settings,
    worker: InferenceWorker,
    metrics: Metrics,
) -> Response:
    started = time.perf_counter()
    image = decode(upload, settings.max_pixels)
    decoded = time.perf_counter()
    prediction, waited_ms = worker.predict(image, query.get("threshold"), _client_gone())
    predicted = time.perf_counter()
    answer = Answer(upload.name, image, prediction)
    body = answer.encode(form, query["overlay"])
    stages = {
        "decode": (decoded - started) * 1000,
        "queue": waited_ms,
        "predict": (predicted - decoded) * 1000 - waited_ms,
        "encode": (time.perf_counter() - predicted) * 1000,
    }
    metrics.observe_photo(prediction.height * prediction.width, stages)
    g.log_fields = {f"{stage}_ms": round(ms, 1) for stage, ms in stages.items()}
    response = Response(body, content_type=MEDIA_TYPES[form], headers=answer.headers())
    timing = ", ".join(f"{stage};dur={ms:.1f}" for stage, ms in stages.items())
    response.headers["Server-Timing"] = timing
    response.headers["Vary"] = "Accept"
    return response


def _client_gone() -> Callable[[], bool]:
    """Waitress' test of the connection; under another server every client counts as present."""
    return request.environ.get("waitress.client_disconnected", lambda: False)


def _predict_responses(blueprint: Blueprint) -> Callable[[Callable], Callable]:
    """Describe every answer of /predict."""

    def describe(view: Callable) -> Callable:
        headers = schemas.PREDICT_HEADERS
        for status, why in _REFUSALS.items():
            view = blueprint.alt_response(
                status, schema=ProblemSchema, content_type=PROBLEM_TYPE, description=why
            )(view)
        for media_type in ("image/png", "image/jpeg"):
            view = blueprint.alt_response(
                200, schema=schemas.PICTURE, content_type=media_type, headers=headers, success=True
            )(view)
        return blueprint.response(
            200, schemas.PredictionSchema, headers=headers, description="the prediction"
        )(view)

    return describe


def _add_state_routes(blueprint: Blueprint, worker: InferenceWorker, metrics: Metrics) -> None:
    @blueprint.route("/healthz")
    @blueprint.response(200, schemas.StateSchema)
    def healthz() -> Mapping[str, str]:
        """Say that the process is alive."""
        return {"status": "alive"}

    @blueprint.route("/readyz")
    @blueprint.alt_response(503, schema=ProblemSchema, content_type=PROBLEM_TYPE)
    @blueprint.response(200, schemas.StateSchema)
    def readyz() -> Mapping[str, str]:
        """Say whether photos can be predicted now."""
        if worker.failure is not None:
            raise ServiceUnavailable(f"the model could not be loaded: {worker.failure}")
        if not worker.ready:
            raise ServiceUnavailable("the model is not loaded yet", retry_after=1)
        return {"status": "ready"}

    @blueprint.route("/metrics")
    @blueprint.response(200, {"type": "string"}, content_type="text/plain")
    def metrics_page() -> Response:
        """Give the metrics to Prometheus."""
        return Response(metrics.render(), content_type=CONTENT_TYPE_LATEST)
