"""The wheel carries every module, the configs and the shipped checkpoint."""

from __future__ import annotations

import configparser
from pathlib import Path


def test_setup_cfg_lists_every_package(repo: Path) -> None:
    parser = configparser.ConfigParser()
    parser.read(repo / "setup.cfg")
    listed = set(parser["options"]["packages"].split())
    found = {
        ".".join(init.parent.relative_to(repo).parts)
        for top in ("crack_data", "serve")
        for init in (repo / top).rglob("__init__.py")
    }
    assert found <= listed
