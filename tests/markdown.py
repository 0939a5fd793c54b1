"""What the tests of the documentation read out of Markdown files."""

from __future__ import annotations

import re
from pathlib import Path

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return [text for name, text in _FENCE.findall(path.read_text("utf-8")) if name == language]


def commands(path: Path) -> list[str]:
    """Every command in the file's bash blocks, one a line, in order."""
    return [line for block in blocks(path, "bash") for line in block.splitlines() if line.strip()]


def links(path: Path) -> list[str]:
    """Targets of the file's links and pictures that are not on the web."""
    return [link for link in _LINK.findall(path.read_text("utf-8")) if "://" not in link]
