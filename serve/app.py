"""The application factory and its routes."""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from flask import Flask, Request, Response, render_template, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException, ServiceUnavailable, Unauthorized

from crack_data import __version__
from crack_data.inference.drawing import instance_colour

from . import answers
from .browsers import install_browser_headers, under_prefix
from .logs import MEGAPIXELS, STAGES, install_access_log
from .settings import Settings
from .uploads import MemoryRequest, decode, read_upload
from .worker import BLANK, ClientGone, InferenceWorker, Predictor

# Keys in the WSGI environment: a function that says whether the client has left, and whether the
# body was dropped because there was no memory for it.
CLIENT_GONE, NO_MEMORY = "serve.client_gone", "serve.no_memory"


class CrackApp(Flask):
    """A Flask app that owns an inference worker."""

    request_class = MemoryRequest
    settings: Settings
    worker: InferenceWorker
    description: dict[str, Any]  # of the routes, OpenAPI's

    def predict(self) -> Response:
        """Find the cracks on a photo."""
        check_api_key(request, self.settings.api_key)
        if request.environ.get(NO_MEMORY):
            raise ServiceUnavailable("uploads take all of their memory; try again", retry_after=1)
        # Under another server than ours every client counts as present.
        gone: Callable[[], bool] = request.environ.get(CLIENT_GONE, lambda: False)
        with self.worker.slot(gone) as turn:
            started = time.perf_counter()
            name, data, options = read_upload(request)
            form = answers.choose_form(request, options.get("format"))
            image = decode(data, self.settings.max_pixels, turn.check)
            decoded = time.perf_counter()
            prediction, waited_ms = self.worker.predict(image, options.get("threshold"), turn)
            predicted = time.perf_counter()
            overlay = options.get("overlay", False)
            body = answers.encode_answer(image, prediction, name, form, overlay)
        stages = {
            "decode": (decoded - started) * 1000,
            "queue": waited_ms,
            "predict": (predicted - decoded) * 1000 - waited_ms,
            "encode": (time.perf_counter() - predicted) * 1000,
        }
        MEGAPIXELS.observe(prediction.height * prediction.width / 1e6)
        for stage, ms in stages.items():
            STAGES.labels(stage).observe(ms / 1000)
        response = Response(body, content_type=answers.MEDIA_TYPES[form])
        response.headers.update(answers.percent_headers(prediction))
        timing = ", ".join(f"{stage};dur={ms:.1f}" for stage, ms in stages.items())
        response.headers.update({"Server-Timing": timing, "Vary": "Accept"})
        return response

    def healthz(self) -> dict[str, str]:
        """Say that the process is alive."""
        return {"status": "alive"}

    def readyz(self) -> dict[str, str]:
        """Say whether photos can be predicted now."""
        self.worker.check_ready()
        return {"status": "ready"}

    def metrics(self) -> Response:
        """Give the metrics to Prometheus."""
        return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)

    def openapi(self) -> dict[str, Any]:
        """Describe the routes for programs."""
        return self.description

    def index(self) -> str:
        """Show the page for people."""
        # As many swatches as its list of cracks is likely to need; further rows repeat them.
        colours = (instance_colour(index) for index in range(100))
        return render_template(
            "index.html",
            colours=" ".join(f"#{red:02x}{green:02x}{blue:02x}" for blue, green, red in colours),
            megabytes=round(self.settings.max_bytes / 1e6),
        )


def create_app(settings: Settings, predictor: Predictor | None = None) -> CrackApp:
    """Build the WSGI app; its first request, or ``app.worker.start()``, starts loading the model.

    ``predictor``, called as a `CrackPredictor` is, is used instead of loading the model that the
    settings name. ``app.worker.close()`` ends the app's thread.
    """
    app = CrackApp(__name__)
    app.settings = settings
    app.config["MAX_CONTENT_LENGTH"] = settings.max_bytes
    app.worker = InferenceWorker(lambda: predictor or load_predictor(settings), settings)
    app.description = yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text("utf-8"))
    app.description["info"]["version"] = __version__
    app.before_request(app.worker.start)
    install_access_log(app)
    install_browser_headers(app, settings.cors_origin)
    app.wsgi_app = under_prefix(app.wsgi_app, settings.url_prefix)  # type: ignore[method-assign]
    app.register_error_handler(HTTPException, answers.problem_response)
    # Nobody reads this; the logs and metrics show the status as nginx would write it.
    app.register_error_handler(ClientGone, lambda _: Response(status="499 Client Closed Request"))
    app.post("/predict")(app.predict)
    for view in (app.healthz, app.readyz, app.metrics):
        app.get(f"/{view.__name__}")(view)
    app.get("/openapi.json")(app.openapi)
    app.get("/")(app.index)
    return app


def load_predictor(settings: Settings) -> Predictor:
    """Load the model, and run it once so that the first photo does not pay for the set-up.

    Detectron2 is imported here, in the inference thread, so that the port opens at once.
    """
    # Threads that spin while they wait for each other take seconds instead of milliseconds as soon
    # as other processes want the same cores. OpenMP reads this when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from crack_data.inference.defaults import load_predict_config
    from crack_data.inference.predictor import CrackPredictor

    config, weights = settings.config_file or None, settings.weights or None
    predictor = CrackPredictor(load_predict_config(config, weights))
    predictor(BLANK)
    return predictor


def check_api_key(request: Request, api_key: str) -> None:
    """Raise `Unauthorized` unless the bearer token is the key; an empty key lets everyone in."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    # As bytes: HTTP headers reach WSGI as Latin-1, the key comes from the command line's encoding.
    same = hmac.compare_digest(token.encode("latin-1"), os.fsencode(api_key))
    if api_key and not (same and scheme.lower() == "bearer"):
        raise Unauthorized(
            "this server wants its API key: Authorization: Bearer KEY",
            www_authenticate=WWWAuthenticate("bearer", {"realm": "crack"}),
        )
