"""``python -m serve``: the production server."""

from __future__ import annotations

import logging
import sys
import threading

from crack_data.errors import run_tool

from .app import CrackApp, create_app
from .logs import configure_logging
from .memory import give_back, spare_memory
from .settings import parse_settings
from .wsgi import Server

_LOG = logging.getLogger("serve")

# How long a thread may keep the interpreter from the others, s. By default it is 0.005, for which
# the inference thread then waits again and again while answers are made.
_SWITCH_INTERVAL = 0.0005


def main() -> None:
    """Serve until told to stop.

    Raises:
        CrackError: a setting is bad, the port is taken, or the model cannot be loaded.
    """
    spare_memory()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    settings = parse_settings()
    configure_logging(settings.log_level)
    app = create_app(settings)
    try:
        server = Server(app, settings)
        # Before the port is announced: whoever reads it may at once ask the server to stop.
        server.stop_on_signals()
        _LOG.info(
            "listening on http://%s:%d; loading the model",
            settings.host,
            server.port,
            extra={"port": server.port},
        )
        app.worker.on_built(lambda: _on_built(app, server))
        server.run()
    finally:
        app.worker.close()
    if app.worker.failure is not None:
        raise app.worker.failure
    _LOG.info("stopped")


def _on_built(app: CrackApp, server: Server) -> None:
    if app.worker.failure is None:
        give_back()
        _LOG.info("ready on port %d", server.port)
    else:
        # A server without its model is of no use: end, and let `main` say why.
        threading.Thread(target=server.stop).start()


if __name__ == "__main__":
    run_tool(main)
