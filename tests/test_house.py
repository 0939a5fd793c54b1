"""Rules of the house that a linter does not know."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .conftest import REPO

PACKAGES = ("crack_data", "serve")
PRODUCT = sorted(path for top in (*PACKAGES, "tools") for path in (REPO / top).rglob("*.py"))
TOOLS = sorted((REPO / "tools").glob("*.py"))
# What makes a tool, run by its path, import the checkout that it lies in, installed or not.
FROM_CHECKOUT = "sys.path.insert(0, str(Path(__file__).resolve().parent.parent))"
# The server opens its port before it loads torch, which takes seconds.
WITHOUT_TORCH = (
    "crack_data.convert.conversion",
    "crack_data.annotations",
    "crack_data.report",
    "crack_data.synthetic",
    "crack_data.photos",
    "serve.server",
)


def test_files_are_short() -> None:
    checks = [path for top in ("tests", "benchmarks") for path in (REPO / top).rglob("*.py")]
    lengths = {str(x): len(x.read_text("utf-8").splitlines()) for x in [*PRODUCT, *checks]}
    assert {path: length for path, length in lengths.items() if length > 300} == {}


def test_functions_are_short() -> None:
    lengths = {name: length for path in PRODUCT for name, length in _functions(path)}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.name)
def test_tools_import_the_checkout_that_they_lie_in(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    ours = [i for i, line in enumerate(lines) if line.startswith(("from crack_data", "from serve"))]
    assert lines.count(FROM_CHECKOUT) == 1
    assert lines.index(FROM_CHECKOUT) < min(ours)


def test_modules_do_not_import_in_circles() -> None:
    assert not _circle()


def test_imports_without_torch() -> None:
    """One process imports them one after the other, until one brings torch."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(name)\n"
    )
    command = [sys.executable, "-c", code, *WITHOUT_TORCH]
    done = subprocess.run(command, check=False, cwd=REPO, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name of each function, and its lines without its docstring."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                yield f"{path}: {node.name}", (body[-1].end_lineno or 0) - body[0].lineno + 1


def _circle() -> list[str]:
    """Modules of ours that import each other in a circle, empty if there is none."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        done.add(module)
        found = (visit(other, [*path, module]) for other in _imports(module))
        return next(filter(None, found), [])

    return next(filter(None, (visit(module, []) for module in _modules())), [])


@cache
def _modules() -> dict[str, Path]:
    found = {}
    for top in PACKAGES:
        for path in (REPO / top).rglob("*.py"):
            parts = path.relative_to(REPO).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


def _imports(module: str) -> Iterator[str]:
    """Our modules that ``module`` imports: at once, in a function, or for its types."""
    ours = _modules()
    path = ours[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(filter(None, (base, node.module)))
            names = [f"{base}.{alias.name}" for alias in node.names]
            yield from (name if name in ours else base for name in names if base in _modules())
