"""The application factory and its routes, and what browsers are told with each answer."""

import hmac
import re
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from flask import Flask, Request, Response, render_template, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import BadRequest, HTTPException, ServiceUnavailable, Unauthorized

from crack_data import __version__
from crack_data.inference.drawing import COLOURS

from . import answers
from .logs import MEGAPIXELS, STAGES, begin_request, log_answer
from .settings import Settings
from .uploads import MemoryRequest, decode, read_upload
from .worker import BLANK, ClientGone, InferenceWorker, Predictor

# Keys in the WSGI environment: a function that says whether the client has left, and whether the
# body was dropped because there was no memory for it.
CLIENT_GONE, NO_MEMORY = "serve.client_gone", "serve.no_memory"

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


class CrackApp(Flask):
    """A Flask app that owns an inference worker."""

    request_class = MemoryRequest
    settings: Settings
    worker: InferenceWorker

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
            form = options.get("format") or answers.choose_form(request)
            overlay = options.get("overlay", False)
            if overlay and form != "json":
                raise BadRequest(f"overlay is for JSON, and the answer is {form}; give format=json")
            image = decode(data, self.settings.max_pixels, turn)
            decoded = time.perf_counter()
            prediction, waited_ms = self.worker.predict(image, options.get("threshold"), turn)
            predicted = time.perf_counter()
            body = answers.encode_answer(
                image, prediction, name, form, overlay, partial(turn.check, True)
            )
        stages = {
            "decode": (decoded - started) * 1000,
            "queue": waited_ms,
            "predict": (predicted - decoded) * 1000 - waited_ms,
            "encode": (time.perf_counter() - predicted) * 1000,
        }
        MEGAPIXELS.observe(prediction.probability.size / 1e6)
        for stage, ms in stages.items():
            STAGES.labels(stage).observe(ms / 1000)
        response = Response(body, content_type=answers.MEDIA_TYPES[form])
        response.headers.update(answers.percent_headers(prediction))
        timing = ", ".join(f"{stage};dur={ms:.1f}" for stage, ms in stages.items())
        response.headers.update({"Server-Timing": timing, "Vary": "Accept"})
        return response

    def readyz(self) -> dict[str, str]:
        """Say whether photos can be predicted now."""
        self.worker.check_ready()
        return {"status": "ready"}

    def index(self) -> str:
        """Show the page for people."""
        return render_template(
            "index.html",
            colours=" ".join(f"#{red:02x}{green:02x}{blue:02x}" for blue, green, red in COLOURS),
            megabytes=round(self.settings.max_bytes / 1e6),
        )

    def add_browser_headers(self, response: Response) -> Response:
        """Add the security headers, and where an origin is given those of CORS."""
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if self.settings.cors_origin:
            response.headers["Access-Control-Allow-Origin"] = self.settings.cors_origin
            response.headers.update(_CORS_HEADERS)
        return response

    def wsgi_app(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        """Answer with links below the path that a proxy serves the app under."""
        # The proxy says it by this header, unless a setting does, and may strip it or not.
        base = self.settings.url_prefix or environ.get("HTTP_X_FORWARDED_PREFIX", "")
        if re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", base):
            base, path = base.rstrip("/"), environ["PATH_INFO"]
            environ["SCRIPT_NAME"] = base
            if path == base or path.startswith(base + "/"):
                environ["PATH_INFO"] = path[len(base) :] or "/"
        return super().wsgi_app(environ, start_response)


def create_app(settings: Settings, predictor: Predictor | None = None) -> CrackApp:
    """Build the WSGI app; its first request, or ``app.worker.start()``, starts loading the model.

    A ``predictor`` stands in for the settings' model; ``app.worker.close()`` ends the app's thread.
    """
    app = CrackApp(__name__)
    app.settings = settings
    app.config["MAX_CONTENT_LENGTH"] = settings.max_bytes
    app.worker = InferenceWorker(lambda: predictor or load_predictor(settings), settings)
    description = yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text("utf-8"))
    description["info"]["version"] = __version__
    app.before_request(app.worker.start)
    app.before_request(begin_request)
    app.after_request(log_answer)  # the last to run: Flask goes backwards
    app.after_request(app.add_browser_headers)
    app.register_error_handler(HTTPException, answers.problem_response)
    # Nobody reads this; the logs and metrics show the status as nginx would write it.
    app.register_error_handler(ClientGone, lambda _: Response(status="499 Client Closed Request"))
    app.post("/predict")(app.predict)
    app.get("/")(app.index)
    app.get("/readyz")(app.readyz)
    app.get("/healthz", endpoint="healthz")(lambda: {"status": "alive"})
    app.get("/openapi.json", endpoint="openapi")(
        lambda: description | {"servers": [{"url": request.script_root or "/"}]}
    )
    app.get("/metrics", endpoint="metrics")(
        lambda: Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)
    )
    return app


def load_predictor(settings: Settings) -> Predictor:
    """Load the model, and run it once so that the first photo does not pay for the set-up."""
    # Detectron2 is imported here, in the inference thread, so that the port opens at once.
    from crack_data.config import load_predict_config
    from crack_data.inference.predictor import CrackPredictor

    predictor = CrackPredictor(load_predict_config(settings.config_file, settings.weights or None))
    predictor(BLANK)
    return predictor


def check_api_key(request: Request, api_key: str) -> None:
    """Raise `Unauthorized` unless the bearer token is the key; an empty key lets everyone in."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    # As bytes: a token that is not ASCII is then another one, and no error.
    same = hmac.compare_digest(token.encode("latin-1"), api_key.encode())
    if api_key and not (same and scheme.lower() == "bearer"):
        raise Unauthorized(
            "this server wants its API key: Authorization: Bearer KEY",
            www_authenticate=WWWAuthenticate("bearer", {"realm": "crack"}),
        )
