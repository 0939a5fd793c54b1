"""``python -m serve``: the production server."""

from crack_data.errors import run_tool

from .app import create_app
from .logs import configure_logging
from .server import run
from .settings import parse_settings


def main() -> None:
    """Serve the model that the settings name."""
    settings = parse_settings()
    configure_logging(settings.log_level)
    run(create_app(settings))


if __name__ == "__main__":
    run_tool(main)
