"""Writes COCO JSON piece by piece, so that memory does not grow with the set."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

CATEGORIES = [{"id": 1, "name": "crack", "supercategory": "damage"}]


class AnnotationSpool:
    """Keeps annotations of many photos in a temporary file until they are wanted, in order."""

    def __init__(self) -> None:
        self._file: IO[bytes] = _temporary()
        self._places: list[tuple[int, int]] = []

    def add(self, annotations: list[str]) -> None:
        """Keep the annotations of the next photo: JSON objects without braces and ids."""
        text = "\n".join(annotations).encode()
        self._places.append((self._file.tell(), len(text)))
        self._file.write(text)

    def get(self, index: int) -> list[str]:
        """Return the annotations of the photo that was added as number ``index``."""
        start, length = self._places[index]
        self._file.seek(start)
        return self._file.read(length).decode().splitlines()

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()


class CocoWriter:
    """Streams one COCO JSON: images and annotations as they come, ids counted from 1."""

    def __init__(self) -> None:
        self._images: IO[bytes] = _temporary()
        self._annotations: IO[bytes] = _temporary()
        self.images = 0
        self.annotations = 0

    def add(self, file_name: str, width: int, height: int, annotations: list[str]) -> None:
        """Append a photo, sizes in px, and its annotations (JSON without braces and ids)."""
        self.images += 1
        image = {"id": self.images, "file_name": file_name, "width": width, "height": height}
        self._images.write(_separator(self.images) + _dump(image))
        for annotation in annotations:
            self.annotations += 1
            ids = f'{{"id":{self.annotations},"image_id":{self.images},'
            self._annotations.write(_separator(self.annotations) + f"{ids}{annotation}}}".encode())

    def write_to(self, out: IO[bytes], info: dict[str, Any]) -> None:
        """Write the whole JSON."""
        out.write(b'{"info":' + _dump(info) + b',\n"licenses":[],\n"categories":')
        out.write(_dump(CATEGORIES) + b',\n"images":[')
        _append(self._images, out)
        out.write(b'],\n"annotations":[')
        _append(self._annotations, out)
        out.write(b"]}\n")

    def close(self) -> None:
        """Give the disk space back."""
        self._images.close()
        self._annotations.close()


def _temporary() -> IO[bytes]:
    return tempfile.TemporaryFile()  # it lives as long as its owner


def _append(part: IO[bytes], out: IO[bytes]) -> None:
    part.seek(0)
    shutil.copyfileobj(part, out)


def _separator(number: int) -> bytes:
    return b"\n" if number == 1 else b",\n"


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(
        errors="surrogateescape"
    )


def image_root_for(json_path: Path, images: Path) -> str:
    """The folder of the photos as the JSON records it.

    Relative to the JSON's folder where the photos lie below it, so that both can move together;
    absolute elsewhere.
    """
    folder, root = json_path.parent.resolve(), images.resolve()
    if root.is_relative_to(folder):
        return root.relative_to(folder).as_posix()
    return os.fspath(root)
