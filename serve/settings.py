"""The server's settings: command-line flags, each with an environment variable as its default."""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from crack_data.errors import CrackError, as_crack_error
from crack_data.photos import MAX_PIXELS

ENVIRONMENT_PREFIX = "CRACK_SERVE_"


def _number(default: float, help_text: str, low: float, high: float) -> Any:
    about = f"{help_text} ({low:,} to {high:,})"
    return field(default=default, metadata={"help": about, "valid": lambda x: low <= x <= high})


def _text(default: str, help_text: str, pattern: str = ".*") -> Any:
    valid = re.compile(pattern, re.DOTALL).fullmatch
    return field(default=default, metadata={"help": help_text, "valid": valid})


@dataclass(frozen=True)
class Settings:
    """What `create_app` and ``python -m serve`` can be told. Sizes in bytes, times in seconds."""

    config_file: str = _text("", "YAML config of the model (default: the shipped model's)")
    weights: str = _text("", "checkpoint to load instead of the config's MODEL.WEIGHTS")
    host: str = _text("127.0.0.1", "address to listen on", ".+")
    port: int = _number(8000, "TCP port to listen on; 0 lets the system choose", 0, 65535)
    queue_size: int = _number(8, "photos that may wait while one is predicted", 1, 1000)
    deadline_s: float = _number(10.0, "longest decoding and wait before a 504", 0.001, 3600)
    client_timeout_s: float = _number(
        30.0, "time for a client to send its headers, its body, and to read its answer", 0.1, 3600
    )
    model_timeout_s: float = _number(
        300.0, "a prediction that takes longer counts as hung and ends the server", 0.001, 86400
    )
    max_bytes: int = _number(20_000_000, "largest request body", 1, 2_000_000_000)
    max_pixels: int = _number(50_000_000, "largest photo, width x height", 1, MAX_PIXELS)
    api_key: str = _text(
        "", "give ASCII without spaces at its ends, as browsers send it", "([!-~]([ -~]*[!-~])?)?"
    )
    url_prefix: str = _text(
        "", "path that a proxy serves this under, such as /cracks", r"(/[A-Za-z0-9._~-]+)*"
    )
    cors_origin: str = _text(
        "", "origin whose pages may ask, such as https://example.org, or *", r"|\*|https?://[^/\s]+"
    )
    shutdown_grace_s: float = _number(25.0, "longest time that stopping takes", 0, 3600)
    log_level: str = _text("INFO", "DEBUG, INFO, WARNING or ERROR", "DEBUG|INFO|WARNING|ERROR")

    def __post_init__(self) -> None:
        """Raise `CrackError` if a value is out of its range, or not of its form."""
        for item in fields(self):
            value = getattr(self, item.name)
            if not item.metadata["valid"](value):
                shown = "not usable" if item.name == "api_key" else repr(value)  # it is a secret
                raise CrackError(f"setting {item.name} is {shown}; {item.metadata['help']}")


def parse_settings(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ
) -> Settings:
    """Read flags, else environment variables, else defaults; a `CrackError` if one is unusable."""
    parser = argparse.ArgumentParser(
        prog="python -m serve",
        description="Serve crack predictions over HTTP. Every flag can also be set by an "
        f"environment variable: {ENVIRONMENT_PREFIX}PORT for --port, and so on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for item in fields(Settings):
        variable = ENVIRONMENT_PREFIX + item.name.upper()
        kind: Any = type(item.default)
        with as_crack_error(f"environment variable {variable} is no {kind.__name__}"):
            default = kind(environment.get(variable, item.default))
        if item.default == default == "" and variable not in environment:
            default = argparse.SUPPRESS  # to tell it from one that is given and empty
        parser.add_argument(
            "--" + item.name.replace("_", "-"),
            type=kind,
            default=default,
            # The key itself must not be printed by --help.
            help=argparse.SUPPRESS if item.name == "api_key" else item.metadata["help"],
        )
    given = vars(parser.parse_args(arguments))
    for name in ("config_file", "weights"):
        if given.get(name) == "":
            raise CrackError(
                f"setting {name} is empty, perhaps by a variable that is not set; name a file, or "
                "leave it out for the shipped model's"
            )
    return Settings(**given)
