"""The package metadata matches the code, and the wheel works outside the checkout."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

# Installed by tools/install.sh, not by the package's own requirements.
OUTSIDE = {"detectron2"}
OURS = {"crack_data", "serve", "tests"}


@pytest.fixture(scope="module")
def setup_cfg(repo: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(repo / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def wheel(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since building leaves files beside the sources."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repo / name, source)
    for name in ("crack_data", "serve", "configs", "checkpoints"):
        shutil.copytree(repo / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(source / "dist"), str(source)], check=True)
    return next((source / "dist").glob("*.whl"))


def test_the_wheel_carries_every_module_config_and_checkpoint(repo: Path, wheel: Path) -> None:
    carried = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(repo))
        for top in ("crack_data", "serve")
        for path in (repo / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for folder in ("configs", "checkpoints"):
        files = [path for path in (repo / folder).rglob("*.*") if path.is_file()]
        wanted |= {f"crack_data/{path.relative_to(repo)}" for path in files}
    assert sorted(wanted - carried) == []


def test_shipped_files_are_found_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import json, crack_data; from crack_data.inference.defaults import load_predict_config;"
        "print(json.dumps([crack_data.__file__, load_predict_config().MODEL.WEIGHTS]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    for path in json.loads(done.stdout.splitlines()[-1]):
        assert Path(path).is_relative_to(site)
        assert Path(path).is_file()


def test_every_import_is_a_declared_requirement(
    repo: Path, setup_cfg: configparser.ConfigParser
) -> None:
    base = _names(setup_cfg["options"]["install_requires"])
    extras = {name: _names(text) for name, text in setup_cfg["options.extras_require"].items()}
    everything = base.union(*extras.values())
    shipped = [*(repo / "crack_data").rglob("*.py"), *(repo / "tools").glob("*.py")]
    assert not _undeclared(shipped, everything - extras["dev"])
    assert not _undeclared((repo / "serve").glob("*.py"), base | extras["serve"])
    trials = [*(repo / "tests").rglob("*.py"), *(repo / "serve" / "trial").rglob("*.py")]
    assert not _undeclared(trials, everything)


def _names(requirements: str) -> set[str]:
    lines = filter(None, map(str.strip, requirements.splitlines()))
    return {_normal(Requirement(line).name) for line in lines}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _undeclared(files: Iterable[Path], declared: set[str]) -> set[str]:
    distributions = packages_distributions()
    return {
        module
        for module in _imports(files)
        if module not in sys.stdlib_module_names | OURS | OUTSIDE
        and not declared & set(map(_normal, distributions.get(module, [])))
    }


def _imports(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield node.module.split(".")[0]
