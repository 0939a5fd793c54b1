"""Photos in and results out, on any path that fsspec knows: local folders, s3://, memory://."""

from __future__ import annotations

import importlib.util
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import fsspec

from .errors import CrackError
from .files import atomic_write

HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
PHOTO_SUFFIXES: tuple[str, ...] = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm",
    ".pgm", *((".heic", ".heif") if HAS_HEIF else ()),
)  # fmt: skip

_MAGIC = "*?["


@dataclass(frozen=True)
class PhotoFile:
    """A photo to predict.

    Attributes:
        path: where it lies, path or URL.
        file_name: how results call it: the path below the folder that was asked for.
    """

    path: str
    file_name: str


def find_photos(pattern: str) -> list[PhotoFile]:
    """The photos that a file, a folder or a glob names, sorted by path.

    A folder stands for the photos directly in it, by suffix; a glob may use ``**``.

    Raises:
        CrackError: there are none, or the storage cannot be reached.
    """
    fs, root = _resolve(pattern)
    try:
        if fs.isfile(root):
            return [PhotoFile(_full(fs, root), posixpath.basename(root))]
        if fs.isdir(root):
            # Not "file": a link to a photo has a type of its own.
            found = [x["name"] for x in fs.ls(root, detail=True) if x["type"] != "directory"]
            base = root
        elif any(x in pattern for x in _MAGIC):
            found = [x for x in fs.glob(root) if fs.isfile(x)]
            base = posixpath.dirname(root[: min(root.index(x) for x in _MAGIC if x in root)])
        else:
            raise CrackError(f"input {pattern} does not exist; give a photo, a folder or a glob")
    except (OSError, ImportError) as error:
        raise CrackError(f"input {pattern} cannot be read: {error}") from error
    photos = sorted(x for x in found if x.lower().endswith(PHOTO_SUFFIXES))
    if not photos:
        raise CrackError(f"input {pattern} holds no photos ({', '.join(PHOTO_SUFFIXES)})")
    base = base.rstrip("/")
    return [PhotoFile(_full(fs, x), x[len(base) :].lstrip("/")) for x in photos]


def read_bytes(path: str) -> bytes:
    """The content of a file.

    Raises:
        CrackError: it cannot be read.
    """
    try:
        fs, name = _resolve(path)
        return fs.cat_file(name)
    except OSError as error:
        raise CrackError(f"{path} cannot be read: {error.strerror or error}") from error


def write_bytes(path: str, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        CrackError: it cannot be written.
    """
    fs, name = _resolve(path)
    if _is_local(fs):
        with atomic_write(name) as stream:
            stream.write(data)
        return
    try:
        fs.pipe_file(name, data)  # object stores show an object when it is complete
    except OSError as error:
        raise CrackError(f"{path} cannot be written: {error.strerror or error}") from error


def list_names(folder: str) -> set[str]:
    """Names of the files in a folder; none where there is no folder."""
    fs, root = _resolve(folder)
    if not fs.isdir(root):
        return set()
    fs.invalidate_cache(root)
    return {posixpath.basename(x["name"]) for x in fs.ls(root, detail=True) if x["type"] == "file"}


def remove_files(folder: str, names: Iterable[str]) -> None:
    """Remove those of the named files that are in a folder."""
    fs, root = _resolve(folder)
    for name in list_names(folder).intersection(names):
        fs.rm_file(join(root, name))


def remove_folder(folder: str) -> None:
    """Remove a folder and what is in it, if it is there."""
    fs, root = _resolve(folder)
    fs.invalidate_cache(root)
    if fs.isdir(root):
        fs.rm(root, recursive=True)


def full_path(path: str) -> str:
    """The absolute path or URL, so that a worker elsewhere finds the same file."""
    fs, name = _resolve(path)
    return _full(fs, name)


def join(folder: str, name: str) -> str:
    """Path of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def _resolve(path: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise CrackError(f"{path} is on a storage that cannot be used here: {error}") from error


def _full(fs: Any, name: str) -> str:
    return name if _is_local(fs) else fs.unstrip_protocol(name)


def _is_local(fs: Any) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
