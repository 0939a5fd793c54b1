"""Photos in and results out, on any path that fsspec knows: local folders, s3://, memory://."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import posixpath
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec

from .errors import CrackError
from .files import atomic_write

HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
PHOTO_SUFFIXES: tuple[str, ...] = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm",
    ".pgm", *((".heic", ".heif") if HAS_HEIF else ()),
)  # fmt: skip

# The file that makes a folder one of results.
RESULTS = "predictions.json"

_MAGIC = "*?["


@dataclass(frozen=True)
class PhotoFile:
    r"""A photo to predict.

    Attributes:
        path: where it lies, path or URL.
        file_name: how results call it: the path below the folder that was asked for, as text that
            UTF-8 can hold (bytes that are none, such as Latin-1's, as \udcNN).
    """

    path: str
    file_name: str


def find_photos(
    *patterns: str, output: str = "", unread: Counter[str] | None = None
) -> list[PhotoFile]:
    """The photos that files, folders and globs name, each once, sorted by path.

    A folder stands for the photos in it and in its subfolders, by suffix; a glob may use ``**``.
    Hidden files and folders (macOS' ``._`` files among them) are passed over, and so are folders
    of results. Photos of one name are called by their paths below their common folder.

    Args:
        patterns: paths, URLs or globs.
        output: folder for results.
        unread: counts the files left out by their suffix.

    Raises:
        CrackError: one names no photos, the storage cannot be reached, or a photo lies directly
            in the output folder.
    """
    unread = Counter() if unread is None else unread
    found: dict[str, PhotoFile] = {}
    for pattern in patterns:
        for photo in _find(pattern, full_path(output).rstrip("/") if output else None, unread):
            found.setdefault(photo.path, photo)
    photos = list(found.values())
    if len({photo.file_name for photo in photos}) < len(photos):
        parts = [printable(photo.path).split("/") for photo in photos]
        shared = len(posixpath.commonprefix(parts))
        photos = [
            PhotoFile(x.path, "/".join(y[shared:])) for x, y in zip(photos, parts, strict=True)
        ]
    return photos


def _find(pattern: str, output: str | None, unread: Counter[str]) -> list[PhotoFile]:
    fs, root = _resolve(pattern)
    try:
        if fs.isfile(root):
            paths, base = [root], posixpath.dirname(root)
        elif fs.isdir(root):
            paths, base = fs.find(root), root
        elif any(x in pattern for x in _MAGIC):
            paths = [x for x in fs.glob(root) if fs.isfile(x)]
            base = posixpath.dirname(root[: min(root.index(x) for x in _MAGIC if x in root)])
        else:
            raise CrackError(f"input {pattern} does not exist; give a photo, a folder or a glob")
    except (OSError, ImportError) as error:
        raise CrackError(f"input {pattern} cannot be read: {error}") from error
    names = {x: x[len(base.rstrip("/")) :].lstrip("/") for x in paths}
    if paths != [root]:
        below = None if output == _full(fs, base).rstrip("/") else output
        names = _plain_files(fs, names, below, unread)
    if not names:
        kinds = f"; found {count_kinds(unread)}" if unread else ""
        raise CrackError(f"input {pattern} holds no photos ({', '.join(PHOTO_SUFFIXES)}){kinds}")
    for path, name in names.items():
        if output == posixpath.dirname(_full(fs, path)):
            raise CrackError(f"output folder {output} holds the photo {name} itself; name another")
    return [PhotoFile(_full(fs, path), printable(names[path])) for path in sorted(names)]


def _plain_files(
    fs: Any, names: dict[str, str], output: str | None, unread: Counter[str]
) -> dict[str, str]:
    """Those of the files below a folder that are photos and no results, nor in ``output``."""
    kept = {}
    results = {posixpath.dirname(x) for x in names if posixpath.basename(x) == RESULTS}
    for path, name in names.items():
        parents = {path[:place] for place, letter in enumerate(path) if letter == "/"}
        inside = output is not None and _full(fs, path).startswith(f"{output}/")
        is_hidden = any(part.startswith(".") for part in name.split("/"))
        if is_hidden or inside or parents & results:
            continue
        suffix = posixpath.splitext(name)[1].lower()
        if suffix not in PHOTO_SUFFIXES:
            unread[suffix or "without ending"] += 1
        elif not fs.isdir(path):  # what a link points to
            kept[path] = name
    return kept


def count_kinds(unread: Counter[str]) -> str:
    """For example "3 .heic, 1 .txt"."""
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(unread.items()))


def printable(path: str) -> str:
    """A path as text that UTF-8 can hold."""
    return path.encode("utf-8", "backslashreplace").decode()


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


def write_bytes(path: str, data: bytes | Path) -> None:
    """Write a file, of bytes or a local file's, whole or not at all.

    Raises:
        CrackError: it cannot be written.
    """
    fs, name = _resolve(path)
    try:
        if _is_local(fs):
            with atomic_write(name) as stream, _open(data) as source:
                shutil.copyfileobj(source, stream)
        elif isinstance(data, Path):
            fs.put_file(data, name)
        else:
            fs.pipe_file(name, data)  # object stores show an object when it is complete
    except OSError as error:
        raise CrackError(f"{path} cannot be written: {error.strerror or error}") from error


def list_files(folder: str) -> dict[str, int]:
    """Sizes in bytes of the files below a folder, by relative path; none where there is none."""
    fs, root = _resolve(folder)
    fs.invalidate_cache(root)
    if not fs.isdir(root):
        return {}
    below = len(root.rstrip("/")) + 1
    return {name[below:]: x["size"] or 0 for name, x in fs.find(root, detail=True).items()}


def remove_files(folder: str, names: Iterable[str]) -> None:
    """Remove files of a folder.

    Raises:
        CrackError: one cannot be removed.
    """
    fs, root = _resolve(folder)
    try:
        for name in names:
            fs.rm_file(join(root, name))
    except OSError as error:
        raise CrackError(f"cannot remove {name} in {folder}: {error.strerror or error}") from error


def remove_folder(folder: str) -> None:
    """Remove a folder and what is in it, if it is there.

    Raises:
        CrackError: it cannot be removed.
    """
    fs, root = _resolve(folder)
    fs.invalidate_cache(root)
    try:
        if fs.isdir(root):
            fs.rm(root, recursive=True)
    except OSError as error:
        raise CrackError(f"cannot remove {folder}: {error.strerror or error}") from error


def fingerprint(path: str) -> dict[str, Any]:
    """Size and hash of a file: {"bytes": int, "sha256": hex digits}.

    Raises:
        CrackError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        fs, name = _resolve(path)
        with fs.open(name, "rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise CrackError(f"{path} cannot be read: {error.strerror or error}") from error
    return {"bytes": size, "sha256": digest.hexdigest()}


def full_path(path: str) -> str:
    """The absolute path or URL, so that a worker elsewhere finds the same file."""
    fs, name = _resolve(path)
    return _full(fs, name)


def join(folder: str, name: str) -> str:
    """Path of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def _open(data: bytes | Path) -> IO[bytes]:
    return data.open("rb") if isinstance(data, Path) else io.BytesIO(data)


def _resolve(path: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise CrackError(f"{path} is on a storage that cannot be used here: {error}") from error


def _full(fs: Any, name: str) -> str:
    return name if _is_local(fs) else fs.unstrip_protocol(name)


def _is_local(fs: Any) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
