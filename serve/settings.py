"""The server's settings: command-line flags, each with an environment variable as its default."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from crack_data.errors import CrackError

ENVIRONMENT_PREFIX = "CRACK_SERVE_"


def _setting(default: Any, help_text: str, minimum: float | None = None) -> Any:
    return field(default=default, metadata={"help": help_text, "minimum": minimum})


@dataclass(frozen=True)
class Settings:
    """What `create_app` and ``python -m serve`` can be told. Sizes in bytes, times in seconds."""

    config_file: str = _setting("", "YAML config of the model (default: the shipped model's)")
    weights: str = _setting("", "checkpoint to load instead of the config's MODEL.WEIGHTS")
    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8000, "TCP port to listen on; 0 lets the system choose", 0)
    queue_size: int = _setting(8, "photos that may wait while one is predicted", 1)
    deadline_s: float = _setting(10.0, "longest wait for the model before a 504", 0.001)
    max_bytes: int = _setting(20_000_000, "largest request body", 1)
    max_pixels: int = _setting(50_000_000, "largest photo, width x height", 1)
    api_key: str = _setting("", "if set, /predict wants 'Authorization: Bearer KEY'")
    shutdown_grace_s: float = _setting(25.0, "longest time that SIGTERM lets requests finish", 0)
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR")

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            CrackError: a value is below its minimum, or no such log level.
        """
        for item in fields(self):
            minimum, value = item.metadata["minimum"], getattr(self, item.name)
            if minimum is not None and not value >= minimum:
                raise CrackError(f"setting {item.name} is {value}; it must be at least {minimum}")
        if self.port > 65535:
            raise CrackError(f"setting port is {self.port}; it must be at most 65535")
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise CrackError(f"setting log_level is {self.log_level!r}, not a log level")


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
        parser.add_argument(flag, type=_type_of(item), default=default, help=shown)
    return Settings(**vars(parser.parse_args(arguments)))


def _type_of(item: Field[Any]) -> Callable[[str], Any]:
    if item.default is MISSING:
        raise TypeError(f"setting {item.name} has no default")
    return type(item.default)


def _from_environment(item: Field[Any], environment: Mapping[str, str]) -> Any:
    name = ENVIRONMENT_PREFIX + item.name.upper()
    if name not in environment:
        return item.default
    try:
        return _type_of(item)(environment[name])
    except ValueError as error:
        wanted = _type_of(item).__name__
        raise CrackError(
            f"environment variable {name} is {environment[name]!r}, not of type {wanted}"
        ) from error
