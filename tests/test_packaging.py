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
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from .conftest import UNMEASURED

# Installed by tools/install.sh, not by the package's own requirements.
OUTSIDE = {"detectron2"}
OURS = {"benchmarks", "crack_data", "serve", "tests"}
# Chosen by the user's index, and so not locked: torch, and what comes with it for a GPU.
NOT_LOCKED = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*)$")


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
        "import json, crack_data; from crack_data.config import load_predict_config;"
        "print(json.dumps([crack_data.__file__, load_predict_config().MODEL.WEIGHTS]))"
    )
    environment = {**os.environ, **UNMEASURED, "PYTHONPATH": str(site)}
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
    shipped = base.union(*(names for extra, names in extras.items() if extra != "dev"))
    assert not _undeclared((repo / "crack_data").rglob("*.py"), shipped)
    assert not _undeclared((repo / "tools").glob("*.py"), shipped)
    assert not _undeclared((repo / "serve").glob("*.py"), base | extras["serve"])
    checks = [*(repo / "tests").rglob("*.py"), *(repo / "benchmarks").rglob("*.py")]
    # benchmarks/yolo.py is given ultralytics by whoever compares with it.
    assert not _undeclared(checks, shipped | extras["dev"] | {"ultralytics"})


def test_every_package_is_listed(repo: Path, setup_cfg: configparser.ConfigParser) -> None:
    listed = setup_cfg["options"]["packages"].split()
    there = [
        path.parent for top in ("crack_data", "serve") for path in (repo / top).rglob("__init__.py")
    ]
    wanted = {".".join(folder.relative_to(repo).parts) for folder in there}
    assert sorted(listed) == sorted(wanted | {"crack_data.configs", "crack_data.checkpoints"})


@pytest.mark.parametrize(
    ("name", "extras"),
    [("runtime", ("serve", "export")), ("dev", ("serve", "export", "ray", "geo", "heic", "dev"))],
)
def test_the_lock_holds_every_requirement(
    repo: Path, setup_cfg: configparser.ConfigParser, name: str, extras: tuple[str, ...]
) -> None:
    """Within its bounds, for every Python, and with hashes; `make lock` renews it."""
    locked = _locked(repo / "requirements" / f"{name}.txt")
    texts = [setup_cfg["options"]["install_requires"]]
    texts += [setup_cfg["options.extras_require"][extra] for extra in extras]
    for wanted in map(Requirement, filter(None, "\n".join(texts).splitlines())):
        if wanted.name == "crack-segmentation" or NOT_LOCKED.match(wanted.name):
            continue
        versions = locked.get(_normal(wanted.name), [])
        assert versions, f"{wanted} is not in {name}.txt"
        assert all(version in wanted.specifier for version in versions), wanted
    assert not [package for package in locked if NOT_LOCKED.match(package)]


def test_both_locks_agree(repo: Path) -> None:
    dev = _locked(repo / "requirements" / "dev.txt")
    runtime = _locked(repo / "requirements" / "runtime.txt")
    assert {name: dev.get(name) for name in runtime} == runtime


def _locked(path: Path) -> dict[str, list[str]]:
    """The versions of each package in a locked file, every one of them with a hash."""
    versions: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\w)", path.read_text("utf-8")):
        assert "--hash=sha256:" in entry, entry
        requirement = Requirement(entry.split("\\", 1)[0])
        version = str(requirement.specifier).removeprefix("==")
        versions.setdefault(_normal(requirement.name), []).append(version)
    return versions


def _names(requirements: str) -> set[str]:
    lines = filter(None, map(str.strip, requirements.splitlines()))
    return {_normal(Requirement(line).name) for line in lines}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


_distributions = cache(packages_distributions)


def _undeclared(files: Iterable[Path], declared: set[str]) -> set[str]:
    # Python 3.10 knows no packages without a top_level.txt.
    distributions = {"skimage": ["scikit-image"], **_distributions()}
    return {
        module
        for module in _imports(files)
        if module not in sys.stdlib_module_names | OURS | OUTSIDE
        and not declared & set(map(_normal, distributions.get(module, [module])))
    }


def _imports(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield node.module.split(".")[0]
