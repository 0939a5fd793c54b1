"""``python -m serve``: the production server."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from crack_data.errors import run_tool

from .app import CrackApp, create_app
from .logs import configure_logging
from .server import Server
from .settings import parse_settings

_LOG = logging.getLogger("serve")


def main() -> int:
    """Serve the model that the settings name; see `run`.

    Raises:
        CrackError: a setting is bad or the port is taken.
    """
    settings = parse_settings()
    configure_logging(settings.log_level)
    return run(create_app(settings))


def run(app: CrackApp) -> int:
    """Serve an app until a signal stops it, or until its model fails.

    Returns:
        0 after a signal, 1 where the model could not be loaded or does not work any more. The
        process ends in here where a prediction is still under way.

    Raises:
        CrackError: the port is taken.
    """
    server = Server(app, app.settings)
    app.worker.start()
    finished = asyncio.run(_serve(app, server))
    app.worker.close()
    failure = app.worker.failure
    if failure is not None:
        print(f"error: {failure}", file=sys.stderr)
    _LOG.info("stopped" if finished else "stopped at the end of the grace, with work under way")
    code = 0 if failure is None else 1
    if not (finished and app.worker.idle):
        logging.shutdown()
        os._exit(code)  # the interpreter would wait for the inference thread
    return code


async def _serve(app: CrackApp, server: Server) -> bool:
    server.stop_on_signals()
    host = app.settings.host
    _LOG.info(
        "listening on http://%s:%d; loading the model",
        f"[{host}]" if ":" in host else host,
        server.port,
        extra={"port": server.port},
    )
    watching = asyncio.create_task(_watch(app, server))
    finished = await server.run()
    watching.cancel()
    return finished


async def _watch(app: CrackApp, server: Server) -> None:
    """Log when the model is loaded, and stop the server when it fails."""
    announced = False
    while app.worker.failure is None:
        if app.worker.ready and not announced:
            announced = True
            _LOG.info("ready on port %d", server.port)
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)  # in which /readyz says why
    server.stopping.set()


if __name__ == "__main__":
    run_tool(main)
