"""Files on any path that fsspec knows (local, s3://, memory://), complete or not there at all."""

import fcntl
import hashlib
import importlib.util
import io
import os
import posixpath
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple
from uuid import uuid4

import fsspec

from .errors import CrackError, as_crack_error

HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
HEIF_SUFFIXES = (".heic", ".heif")
PHOTO_SUFFIXES: tuple[str, ...] = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm",
    ".pgm", *(HEIF_SUFFIXES if HAS_HEIF else ()),
)  # fmt: skip

# One small file per finished photo, what --resume knows, and what they depend on.
RECORDS = ".records"
SETTINGS = f"{RECORDS}/-settings.json"
RESULTS = "predictions.json"
_TEMPORARY = ".crack.tmp"  # ends the names of files that are being written

AnyPath = str | os.PathLike[str]


class PhotoFile(NamedTuple):
    """A photo to predict."""

    path: str  # or URL
    file_name: str  # how results call it: the `printable` path below the folder that was asked for


def find_photos(
    *patterns: str, output: str = "", unread: Counter[str] | None = None
) -> list[PhotoFile]:
    """The photos that paths, URLs and globs name, each once, sorted by path.

    A folder, also one that a glob finds, stands for the photos in and below it, by suffix; a glob
    may use ``**``. Hidden files and folders are passed over, and so are folders of results and what
    lies below ``output``. ``unread`` counts the files of other suffixes, and pipes. Photos of one
    name are called by their paths below their common folder. A `CrackError` where one names no
    photos, the storage cannot be reached, or the output folder is that of the photos.
    """
    unread = Counter() if unread is None else unread
    folder = full_path(output).rstrip("/") if output else None
    found: dict[str, PhotoFile] = {}
    for pattern in patterns:
        for photo in _find(pattern, folder, unread):
            found.setdefault(photo.path, photo)
    photos = sorted(found.values())
    if len({photo.file_name for photo in photos}) < len(photos):
        parts = [printable(photo.path).split("/") for photo in photos]
        shared = len(posixpath.commonprefix(parts))
        return [PhotoFile(x.path, "/".join(y[shared:])) for x, y in zip(photos, parts, strict=True)]
    return photos


def _find(pattern: str, output: str | None, unread: Counter[str]) -> list[PhotoFile]:
    with _use(pattern, "read") as (fs, root):
        if fs.isfile(root):
            there, base = [root], posixpath.dirname(root)
        elif fs.isdir(root):
            there, base = [root], root
        elif any(x in pattern for x in "*?["):
            there, base = fs.glob(root), posixpath.dirname(re.split(r"[*?[]", root)[0])
        else:
            raise CrackError(f"input {pattern} does not exist; give a photo, a folder or a glob")
        folders = set(filter(fs.isdir, there))
        paths = [y for x in there for y in (fs.find(x) if x in folders else [x])]
        for folder in folders if _is_local(fs) else ():  # of which fsspec says nothing
            for _ in os.walk(folder, onerror=lambda _: unread.update(["folder without access"])):
                pass
    base = base.rstrip("/")
    place = _full(fs, base)
    if output == place:
        raise CrackError(f"output folder {output} holds the photos themselves; name another")
    names = {path: path[len(base) :].lstrip("/") for path in paths}
    if paths != [root]:
        inside = f"{place}/".startswith(f"{output}/")
        names = _choose_photos(fs, names, None if inside else output, unread)
    if not names:
        kinds = f"; found {count_kinds(unread)}" if unread else ""
        raise CrackError(f"input {pattern} holds no photos ({', '.join(PHOTO_SUFFIXES)}){kinds}")
    return [PhotoFile(_full(fs, path), printable(names[path])) for path in sorted(names)]


def _choose_photos(
    fs: Any, names: dict[str, str], output: str | None, unread: Counter[str]
) -> dict[str, str]:
    """Those of the files below a folder that are photos, not in ``output`` nor among results."""
    kept = {}
    parents = {  # of each file, from the folder on
        path: {path[:i] for i in range(len(path) - len(name) - 1, len(path)) if path[i] == "/"}
        for path, name in names.items()
    }
    # By asking, since a glob may list the pictures of results alone.
    results = {x for x in set().union(*parents.values()) if fs.isfile(f"{x}/{SETTINGS}")}
    unread.update(f"folder of results ({x})" for x in results if _full(fs, x) != output)
    for path, name in names.items():
        if name.startswith(".") or "/." in name or parents[path] & results:
            continue
        suffix = posixpath.splitext(name)[1].lower()
        if output is not None and _full(fs, path).startswith(f"{output}/"):
            if suffix in PHOTO_SUFFIXES:
                unread["photo in the output folder"] += 1
        elif _is_local(fs) and fs.exists(path) and not fs.isfile(path):  # to read a pipe is to wait
            unread["pipe, device or linked folder"] += 1
        elif suffix in PHOTO_SUFFIXES:
            kept[path] = name
        else:
            unread[suffix or "without ending"] += 1
    return kept


def count_kinds(unread: Counter[str]) -> str:
    """For example "3 .heic (install pillow-heif), 1 .txt"."""
    remedies = dict.fromkeys(HEIF_SUFFIXES, " (install pillow-heif)")
    kinds = sorted(unread.items())
    return ", ".join(f"{count} {suffix}{remedies.get(suffix, '')}" for suffix, count in kinds)


def printable(path: str) -> str:
    r"""A path as text that UTF-8 can hold: bytes that are none, such as Latin-1's, as \udcNN."""
    return path.encode("utf-8", "backslashreplace").decode()


def read_bytes(path: AnyPath) -> bytes:
    """The content of a file; a `CrackError` where it cannot be read."""
    with _use(os.fspath(path), "read") as (fs, name):
        return fs.cat_file(name)


@contextmanager
def open_bytes(path: AnyPath) -> Iterator[IO[bytes]]:
    """Open a file to read from any place in it; errors as of `read_bytes`."""
    with _use(os.fspath(path), "read") as (fs, name):
        whole = "http" in fs.protocol  # not every such server gives a part of a file
        with io.BytesIO(fs.cat_file(name)) if whole else fs.open(name, "rb") as stream:
            yield stream


def fingerprint(path: str) -> dict[str, Any]:
    """Size and hash of a file, {"bytes": int, "sha256": hex digits}; errors as of `read_bytes`."""
    digest = hashlib.sha256()
    with _use(path, "read") as (fs, name), fs.open(name, "rb") as stream:
        for block in iter(lambda: stream.read(2**20), b""):
            digest.update(block)
        return {"bytes": stream.tell(), "sha256": digest.hexdigest()}


def write_bytes(path: str | Path, data: bytes | Path) -> None:
    """Write a file, of bytes or a local file's, whole or not at all; else a `CrackError`."""
    place = str(path.absolute()) if isinstance(path, Path) else path  # a Path is local, "~" and all
    with _use(place, "written") as (fs, name):
        if not _is_local(fs):  # object stores show an object when it is complete
            fs.put_file(data, name) if isinstance(data, Path) else fs.pipe_file(name, data)
            return
        source = data.open("rb") if isinstance(data, Path) else io.BytesIO(data)
        with source, atomic_write(name) as stream:
            shutil.copyfileobj(source, stream)


def list_files(folder: str) -> dict[str, int]:
    """Sizes in bytes of the files below a folder, by relative path; none where there is none."""
    with _use(folder, "read") as (fs, root):
        fs.invalidate_cache(root)
        if not fs.isdir(root):
            return {}
        below = len(root.rstrip("/")) + 1
        return {name[below:]: x["size"] or 0 for name, x in fs.find(root, detail=True).items()}


def remove(path: str) -> None:
    """Remove a file, or a folder and what is in it, where there is one; else a `CrackError`."""
    with _use(path, "removed") as (fs, name):
        fs.invalidate_cache(name)
        if fs.exists(name):
            fs.rm(name, recursive=True)


def full_path(path: str) -> str:
    """The absolute path or URL, so that a worker elsewhere finds the same file."""
    with _use(path, "used") as (fs, name):
        return _full(fs, name)


@contextmanager
def _use(path: str, what: str) -> Iterator[tuple[Any, str]]:
    """The file system of a path and its name there; what fails becomes a sentence."""
    with as_crack_error(f"{path} cannot be {what}"):
        if "://" in path:
            fs, name = fsspec.core.url_to_fs(path)
        else:  # a name on this machine, "::" and all
            fs = fsspec.filesystem("file")
            name = fs._strip_protocol(path)
        if _is_local(fs):  # one name for a place; by "..", results would leave their folder
            name = os.path.realpath(name) if ".." in name.split("/") else os.path.normpath(name)
        yield fs, name


def _full(fs: Any, name: str) -> str:
    return name if _is_local(fs) else fs.unstrip_protocol(name)


def _is_local(fs: Any) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


@contextmanager
def atomic_write(path: AnyPath) -> Iterator[IO[bytes]]:
    """Open a binary file for writing that takes its name only when the block ends well.

    The bytes go to a hidden file in the same folder (made where missing), which replaces ``path``
    in one step; where ``path`` is a link, what it points to. An exception, Ctrl-C or a kill leaves
    what ``path`` held before. Hidden files of processes that were killed are removed. A
    `CrackError` where the place cannot be written to, or is a folder, pipe or device.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # a device would be replaced by a file
        raise CrackError(f"cannot write {path}: it is a folder, pipe or device; name a file")
    temporary = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        with _create(target.parent) as stream:
            temporary = stream.name
            yield stream
            stream.flush()
            os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        # An error with a file name of its own is about what the block reads.
        if isinstance(error, OSError) and (not temporary or error.filename in (None, temporary)):
            reason = error.strerror or error
            raise CrackError(
                f"cannot write {path}: {reason}; make room there or name another place"
            ) from error
        raise


def _create(folder: Path) -> IO[bytes]:
    """Create a hidden file, locked for as long as it is open."""
    while True:
        stream = (folder / f".{uuid4().hex}{_TEMPORARY}").open("xb")
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return stream
        stream.close()  # another process swept it away before it was locked


@cache
def _sweep(folder: Path) -> None:
    """Remove the hidden files that no living process has locked, once in a folder."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        with suppress(OSError), open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
