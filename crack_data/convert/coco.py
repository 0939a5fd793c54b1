"""COCO's annotations: run-length encoding, polygons, and the JSON that holds them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from .cleaning import ByteMask
from .pairing import PairRecord

CATEGORIES = [{"id": 1, "name": "crack", "supercategory": "damage"}]

# ASCII: a name in any encoding gives valid JSON. Bytes that are not UTF-8 become lone surrogates,
# \udc80 to \udcff, which Python's open() takes back (surrogateescape).
to_json = json.JSONEncoder(separators=(",", ":")).encode

# Turns at a lattice corner, left first: of two ways on, the left one keeps diagonal pixels in
# separate rings, whose even-odd union is the same.
_LEFT_FIRST = (1, 0, 3)
# Directions east, south, west, north as (dx, dy).
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def encode_mask(mask: ByteMask, x: int, y: int, shape: tuple[int, int]) -> dict[str, Any]:
    """Encode a mask as COCO's compressed RLE.

    Args:
        mask: HxW of 0 and 1, or bool: a box of the photo.
        x, y: the box's corner in the photo, px.
        shape: height and width of the photo, px.

    Returns:
        ``{"size": [H, W], "counts": str}``, the very bytes that `pycocotools.mask.encode` gives
        for the mask of the whole photo, without the time for all of its pixels.
    """
    height, width = shape
    flat = np.zeros(mask.shape[1] * height + 2, np.bool_)  # columns, between two of background
    flat[1:-1].reshape(-1, height)[:, y : y + mask.shape[0]] = mask.T
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + x * height
    runs = np.diff(np.concatenate([[0], edges, [height * width]]))
    if len(runs) > 1 and not runs[-1]:
        runs = runs[:-1]
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode()}


def annotation(
    mask: ByteMask, x: int, y: int, shape: tuple[int, int], mask_format: str, crowd: bool = False
) -> str:
    """One instance as a JSON object, its ids and opening brace left to the writer.

    Args:
        mask, x, y, shape: as in `encode_mask`; the mask reaches all sides of its box.
        mask_format: "rle" or "polygon".
        crowd: the pixels are to be ignored (always RLE, as COCO wants it).
    """
    polygons = mask_format == "polygon" and not crowd
    entry = {
        "category_id": 1,
        "bbox": [x, y, mask.shape[1], mask.shape[0]],
        "area": cv2.countNonZero(mask.view(np.uint8)),
        "iscrowd": int(crowd),
        "segmentation": to_polygons(mask, x, y) if polygons else encode_mask(mask, x, y, shape),
    }
    return to_json(entry)[1:]


def to_polygons(mask: ByteMask, x: int, y: int) -> list[list[int]]:
    """Outline each piece of a mask, HxW of 0 and 1, as a polygon x0, y0, x1, y1, ... in px.

    Polygons run along pixel edges. Holes, and parts that touch by a corner only, are further rings
    of their piece, joined by seams that are walked there and back, which the even-odd rule
    ignores: COCO's rasterization gives the mask back bit for bit.

    Args:
        x, y: the corner of the mask in the photo, px.
    """
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    return [_polygon(labels == piece, x, y) for piece in range(1, count)]


def _polygon(piece: npt.NDArray[np.bool_], x: int, y: int) -> list[int]:
    rings = list(_rings(_edges(piece)))
    start = rings[0][0]
    points = [*rings[0], start]
    for ring in rings[1:]:
        points += [*ring, ring[0], start]
    return [value for px, py in points for value in (px + x, py + y)]


def _rings(edges: dict[tuple[int, int], set[int]]) -> Iterator[list[tuple[int, int]]]:
    """Closed chains of lattice corners, crack on their right, straight runs in one step."""
    while edges:
        corner = min(edges, key=lambda place: (place[1], place[0]))
        direction, previous = min(edges[corner]), -1
        ring: list[tuple[int, int]] = []
        while direction >= 0:
            edges[corner].discard(direction)
            if not edges[corner]:
                del edges[corner]
            if direction != previous:
                ring.append(corner)
            previous = direction
            corner = (corner[0] + _STEPS[direction][0], corner[1] + _STEPS[direction][1])
            turns = ((direction + turn) % 4 for turn in _LEFT_FIRST)
            direction = next((turn for turn in turns if turn in edges.get(corner, ())), -1)
        yield ring


def _edges(piece: npt.NDArray[np.bool_]) -> dict[tuple[int, int], set[int]]:
    """From each lattice corner, the directions in which a rim with crack on its right leaves."""
    padded = np.pad(piece, 1)
    inside = padded[1:-1, 1:-1]
    rims = (
        (inside & ~padded[:-2, 1:-1], 0, (0, 0)),  # top edge, eastward
        (inside & ~padded[1:-1, 2:], 1, (1, 0)),  # right edge, southward
        (inside & ~padded[2:, 1:-1], 2, (1, 1)),  # bottom edge, westward
        (inside & ~padded[1:-1, :-2], 3, (0, 1)),  # left edge, northward
    )
    edges: dict[tuple[int, int], set[int]] = {}
    for rim, direction, (dx, dy) in rims:
        for py, px in np.argwhere(rim).tolist():
            edges.setdefault((px + dx, py + dy), set()).add(direction)
    return edges


def write_coco(stream: IO[bytes], records: Iterable[PairRecord], info: dict[str, Any]) -> None:
    """Write a COCO JSON: ids count from 1 in order, one line for each image and annotation.

    Args:
        records: of the photos to write, with their annotations.
        info: goes into the JSON as it is.
    """
    images: list[str] = []
    annotations: list[str] = []
    for number, record in enumerate(records, start=1):
        size = {"width": record.width, "height": record.height}
        images.append(to_json({"id": number, "file_name": record.file_name, **size}))
        for entry in record.annotations:
            annotations.append(f'{{"id":{len(annotations) + 1},"image_id":{number},{entry}')
    parts = (
        ('{"info":', to_json(info)),
        (',\n"licenses":[],\n"categories":', to_json(CATEGORIES)),
        (',\n"images":[\n', ",\n".join(images)),
        ('],\n"annotations":[\n', ",\n".join(annotations)),
    )
    for key, value in parts:
        stream.write((key + value).encode("ascii"))
    stream.write(b"]}\n")


def image_root_for(json_path: Path, images: Path) -> str:
    """The folder of the photos as the JSON records it.

    Relative to the JSON's folder where the photos lie below it, so that both can move together;
    absolute elsewhere.
    """
    folder, root = json_path.parent.resolve(), images.resolve()
    if root.is_relative_to(folder):
        return root.relative_to(folder).as_posix()
    return os.fspath(root)


def digest(texts: Iterable[str]) -> str:
    """A short digest that the same texts share."""
    found = hashlib.blake2b(digest_size=16)
    for text in texts:
        found.update(text.encode(errors="surrogateescape") + b"\n")
    return found.hexdigest()
