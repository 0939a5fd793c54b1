"""The application factory."""

from __future__ import annotations

from flask import Flask, Response, request

from crack_data import __version__

from .api import ProblemApi, make_blueprint
from .logs import install_access_log
from .metrics import Metrics
from .model import build_predictor
from .page import page
from .security import install_security_headers
from .settings import Settings
from .uploads import MemoryRequest
from .worker import InferenceWorker, Predictor


class CrackApp(Flask):
    """A Flask app that owns an inference worker."""

    request_class = MemoryRequest
    worker: InferenceWorker


def create_app(settings: Settings, predictor: Predictor | None = None) -> CrackApp:
    """Build the WSGI app and start loading the model in its inference thread.

    Args:
        settings: limits and the model to load.
        predictor: used instead of loading one: called with a BGR uint8 photo of shape
            (height, width, 3) and ``threshold``, returns a `CrackPrediction`.

    Returns:
        The app; ``app.worker.close()`` ends its thread.
    """
    app = CrackApp(__name__)
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_bytes,
        API_TITLE="Crack segmentation",
        API_VERSION=__version__,
        OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
    )
    app.worker = InferenceWorker(
        (lambda: predictor) if predictor is not None else (lambda: build_predictor(settings)),
        settings.queue_size,
        settings.deadline_s,
    )
    metrics = Metrics(lambda: app.worker.waiting)
    install_access_log(app)
    install_security_headers(app)
    _count_requests(app, metrics)
    api = ProblemApi(app)
    api.register_blueprint(make_blueprint(settings, app.worker, metrics))
    app.register_blueprint(page)
    return app


def _count_requests(app: Flask, metrics: Metrics) -> None:
    @app.after_request
    def count(response: Response) -> Response:
        # The route's pattern, not the path: anybody can invent paths.
        route = request.url_rule.rule if request.url_rule is not None else "(none)"
        metrics.count_request(request.method, route, response.status_code)
        return response
