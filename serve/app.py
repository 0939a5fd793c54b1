"""The application factory and the routes that machines use: predict, health, metrics."""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable, Mapping

from flask import Flask, Request, Response, g, request
from flask_smorest import Api, Blueprint
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException, ServiceUnavailable, Unauthorized
from werkzeug.wrappers import Response as AnyResponse

from crack_data import __version__

from . import answers
from .logs import Metrics, install_access_log
from .page import install_browser_headers, page, under_prefix
from .server import CLIENT_GONE, NO_MEMORY
from .settings import Settings
from .uploads import REQUEST_BODY, MemoryRequest, PredictOptions, decode, read_upload
from .worker import ClientGone, InferenceWorker, Predictor, blank_photo

_REFUSALS = {
    400: "no photo or more than one, or a bad option",
    401: "API key missing or wrong",
    406: "none of the accepted media types is on offer",
    413: "too many bytes or pixels",
    415: "not a photo",
    422: "truncated or corrupt photo",
    503: "the model is not loaded, or the queue or the memory is full: see Retry-After",
    504: "not decoded and at the model by the deadline",
}


class CrackApp(Flask):
    """A Flask app that owns an inference worker."""

    request_class = MemoryRequest
    settings: Settings
    worker: InferenceWorker


class ProblemApi(Api):
    """flask-smorest's API, with problem documents for errors."""

    ERROR_SCHEMA = answers.ProblemSchema
    # Each route names its own errors, as problem documents.
    DEFAULT_ERROR_RESPONSE_NAME = None

    def handle_http_exception(self, error: HTTPException) -> AnyResponse:
        """Answer with the problem document."""
        return answers.problem_response(error)


def create_app(settings: Settings, predictor: Predictor | None = None) -> CrackApp:
    """Build the WSGI app; its first request, or ``app.worker.start()``, starts loading the model.

    Args:
        settings: limits and the model to load.
        predictor: used instead of loading one: called with a BGR uint8 photo of shape
            (height, width, 3) and a threshold or None, returns a `CrackPrediction`.

    Returns:
        The app; ``app.worker.close()`` ends its thread.
    """
    app = CrackApp(__name__)
    app.settings = settings
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_bytes,
        API_TITLE="Crack segmentation",
        API_VERSION=__version__,
        OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
    )
    build = (lambda: predictor) if predictor is not None else (lambda: load_predictor(settings))
    app.worker = InferenceWorker(build, settings)
    metrics = Metrics(lambda: app.worker.waiting)
    app.before_request(app.worker.start)
    install_access_log(app)
    install_browser_headers(app, settings.cors_origin)
    app.after_request(metrics.count)
    app.wsgi_app = under_prefix(app.wsgi_app, settings.url_prefix)  # type: ignore[method-assign]
    blueprint = Blueprint("api", __name__, description="Crack prediction")
    _add_predict_route(blueprint, app, metrics)
    _add_state_routes(blueprint, app.worker, metrics)
    ProblemApi(app).register_blueprint(blueprint)
    app.register_blueprint(page)
    return app


def load_predictor(settings: Settings) -> Predictor:
    """Load the model, and run it once so that the first photo does not pay for the set-up.

    Detectron2 is imported here, in the inference thread, so that the port opens at once.

    Raises:
        CrackError: the config or the checkpoint is missing or does not fit.
    """
    # Threads that spin while they wait for each other take seconds instead of milliseconds as soon
    # as other processes want the same cores. OpenMP reads this when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from crack_data.inference.defaults import load_predict_config
    from crack_data.inference.predictor import CrackPredictor

    config, weights = settings.config_file or None, settings.weights or None
    predictor = CrackPredictor(load_predict_config(config, weights))
    predictor(blank_photo())
    return predictor


def _add_predict_route(blueprint: Blueprint, app: CrackApp, metrics: Metrics) -> None:
    @blueprint.route("/predict", methods=["POST"])
    @blueprint.doc(requestBody=REQUEST_BODY, parameters=[{"in": "query", "schema": PredictOptions}])
    @_predict_responses(blueprint)
    def predict() -> Response:
        """Find the cracks on a photo."""
        check_api_key(request, app.settings.api_key)
        if request.environ.get(NO_MEMORY):
            raise ServiceUnavailable("uploads take all of their memory; try again", retry_after=1)
        try:
            with app.worker.slot() as deadline:
                return _predict(app, metrics, deadline)
        except ClientGone:
            # Nobody reads this; the logs and metrics show the status as nginx would write it.
            return Response(status="499 Client Closed Request")


def _predict(app: CrackApp, metrics: Metrics, deadline: float) -> Response:
    # Under another server than ours every client counts as present.
    gone: Callable[[], bool] = request.environ.get(CLIENT_GONE, lambda: False)
    started = time.perf_counter()
    upload = read_upload(request)
    form = answers.choose_form(request, upload.options.get("format"))
    if gone():
        raise ClientGone
    image = decode(upload, app.settings.max_pixels)
    decoded = time.perf_counter()
    threshold = upload.options.get("threshold")
    prediction, waited_ms = app.worker.predict(image, threshold, deadline, gone)
    predicted = time.perf_counter()
    overlay = upload.options.get("overlay", False)
    body = answers.encode_answer(image, prediction, upload.name, form, overlay)
    stages = {
        "decode": (decoded - started) * 1000,
        "queue": waited_ms,
        "predict": (predicted - decoded) * 1000 - waited_ms,
        "encode": (time.perf_counter() - predicted) * 1000,
    }
    metrics.observe_photo(prediction.height * prediction.width, stages)
    g.log_fields = {f"{stage}_ms": round(ms, 1) for stage, ms in stages.items()}
    response = Response(body, content_type=answers.MEDIA_TYPES[form])
    response.headers.update(answers.percent_headers(prediction))
    timing = ", ".join(f"{stage};dur={ms:.1f}" for stage, ms in stages.items())
    response.headers["Server-Timing"] = timing
    response.headers["Vary"] = "Accept"
    return response


def check_api_key(request: Request, api_key: str) -> None:
    """Compare the bearer token with the key, in constant time; an empty key lets everyone in.

    Raises:
        Unauthorized: the key is missing or wrong.
    """
    if not api_key:
        return
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    # As bytes: HTTP headers reach WSGI as Latin-1, the key comes from the command line's encoding.
    same = hmac.compare_digest(token.strip().encode("latin-1"), os.fsencode(api_key))
    if scheme.lower() != "bearer" or not same:
        raise Unauthorized(
            "this server wants its API key: Authorization: Bearer KEY",
            www_authenticate=WWWAuthenticate("bearer", {"realm": "crack"}),
        )


def _predict_responses(blueprint: Blueprint) -> Callable[[Callable], Callable]:
    """Describe every answer of /predict."""

    def describe(view: Callable) -> Callable:
        headers = answers.PREDICT_HEADERS
        for status, why in _REFUSALS.items():
            view = blueprint.alt_response(
                status,
                schema=answers.ProblemSchema,
                content_type=answers.PROBLEM_TYPE,
                description=why,
            )(view)
        for media_type in ("image/png", "image/jpeg"):
            picture = {"type": "string", "format": "binary"}
            view = blueprint.alt_response(
                200, schema=picture, content_type=media_type, headers=headers, success=True
            )(view)
        return blueprint.response(
            200, answers.PredictionSchema, headers=headers, description="the prediction"
        )(view)

    return describe


def _add_state_routes(blueprint: Blueprint, worker: InferenceWorker, metrics: Metrics) -> None:
    problem = {"schema": answers.ProblemSchema, "content_type": answers.PROBLEM_TYPE}

    @blueprint.route("/healthz")
    @blueprint.response(200, answers.StateSchema)
    def healthz() -> Mapping[str, str]:
        """Say that the process is alive."""
        return {"status": "alive"}

    @blueprint.route("/readyz")
    @blueprint.alt_response(503, **problem)
    @blueprint.response(200, answers.StateSchema)
    def readyz() -> Mapping[str, str]:
        """Say whether photos can be predicted now."""
        if worker.failure is not None:
            raise ServiceUnavailable(f"the model does not work: {worker.failure}")
        if not worker.ready:
            raise ServiceUnavailable("the model is not loaded yet", retry_after=1)
        return {"status": "ready"}

    @blueprint.route("/metrics")
    @blueprint.response(200, {"type": "string"}, content_type="text/plain")
    def metrics_page() -> Response:
        """Give the metrics to Prometheus."""
        return Response(metrics.render(), content_type=CONTENT_TYPE_LATEST)
