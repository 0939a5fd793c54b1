"""The server's settings: command-line flags, each with an environment variable as its default."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from crack_data.errors import CrackError

ENVIRONMENT_PREFIX = "CRACK_SERVE_"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*\Z")
_ORIGIN = re.compile(r"\*\Z|https?://[^/\s]+\Z")


def _setting(
    default: Any, help_text: str, minimum: float | None = None, maximum: float | None = None
) -> Any:
    return field(
        default=default, metadata={"help": help_text, "minimum": minimum, "maximum": maximum}
    )


@dataclass(frozen=True)
class Settings:
    """What `create_app` and ``python -m serve`` can be told. Sizes in bytes, times in seconds."""

    config_file: str = _setting("", "YAML config of the model (default: the shipped model's)")
    weights: str = _setting("", "checkpoint to load instead of the config's MODEL.WEIGHTS")
    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8000, "TCP port to listen on; 0 lets the system choose", 0, 65535)
    queue_size: int = _setting(8, "photos that may wait while one is predicted", 1, 1000)
    deadline_s: float = _setting(10.0, "longest decoding and wait before a 504", 0.001, 3600)
    client_timeout_s: float = _setting(
        30.0, "time for a client to send its headers, its body, and to read its answer", 0.1, 3600
    )
    model_timeout_s: float = _setting(
        300.0, "a prediction that takes longer counts as hung and ends the server", 0.001, 86400
    )
    max_bytes: int = _setting(20_000_000, "largest request body", 1, 2_000_000_000)
    max_pixels: int = _setting(50_000_000, "largest photo, width x height", 1, 2_000_000_000)
    api_key: str = _setting("", "if set, /predict wants 'Authorization: Bearer KEY'")
    url_prefix: str = _setting("", "path that a proxy serves this under, such as /cracks")
    cors_origin: str = _setting("", "origin whose pages may ask, such as https://example.org, or *")
    shutdown_grace_s: float = _setting(25.0, "longest time that stopping takes", 0, 3600)
    log_level: str = _setting("INFO", ", ".join(_LEVELS[:-1]) + " or ERROR")

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            CrackError: a value is out of its range, or not of its form.
        """
        for item in fields(self):
            low, high = item.metadata["minimum"], item.metadata["maximum"]
            value = getattr(self, item.name)
            if low is not None and not low <= value <= high:
                raise CrackError(
                    f"setting {item.name} is {value}; it must be at least {low} and at most {high}"
                )
        if self.log_level not in _LEVELS:
            raise CrackError(f"setting log_level is {self.log_level!r}, not a log level")
        if not _PREFIX.match(self.url_prefix):
            raise CrackError(
                f"setting url_prefix is {self.url_prefix!r}; give a path such as /cracks"
            )
        if self.cors_origin and not _ORIGIN.match(self.cors_origin):
            raise CrackError(
                f"setting cors_origin is {self.cors_origin!r}; give one origin such as "
                "https://example.org, or *"
            )


def parse_settings(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ
) -> Settings:
    """Read the settings from flags (first choice), environment variables, and defaults.

    Raises:
        CrackError: an environment variable or a flag holds a value that does not fit.
    """
    parser = argparse.ArgumentParser(
        prog="python -m serve",
        description="Serve crack predictions over HTTP. Every flag can also be set by an "
        f"environment variable: {ENVIRONMENT_PREFIX}PORT for --port, and so on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for item in fields(Settings):
        flag = "--" + item.name.replace("_", "-")
        default = _from_environment(item, environment)
        # The key itself must not be printed by --help.
        shown = argparse.SUPPRESS if item.name == "api_key" else item.metadata["help"]
        parser.add_argument(flag, type=type(item.default), default=default, help=shown)
    return Settings(**vars(parser.parse_args(arguments)))


def _from_environment(item: Field[Any], environment: Mapping[str, str]) -> Any:
    name = ENVIRONMENT_PREFIX + item.name.upper()
    if name not in environment:
        return item.default
    wanted: Callable[[str], Any] = type(item.default)
    try:
        return wanted(environment[name])
    except ValueError as error:
        raise CrackError(
            f"environment variable {name} is {environment[name]!r}, not of type {item.type}"
        ) from error
