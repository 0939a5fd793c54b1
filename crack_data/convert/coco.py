"""COCO's annotations: run-length encoding, polygons, and the JSON that holds them."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import find_objects

from .cleaning import ByteMask
from .pairing import PairRecord

Piece = tuple[ByteMask, int, int]  # an instance cut out by its box, and the box's corner x, y, px

# ASCII: a name in any encoding gives valid JSON. Bytes that are not UTF-8 become lone surrogates,
# \udc80 to \udcff, which Python's open() takes back (surrogateescape).
to_json = json.JSONEncoder(separators=(",", ":")).encode

# Directions east, south, west, north as (dx, dy), in which the rim runs along a pixel's top, right,
# bottom and left, and the pixel's corners where these begin.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
_CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))


def cut_instances(labels: np.ndarray) -> Iterator[Piece]:
    """Cut the instances 1, 2, ..., those that have pixels, out of a label map, HxW."""
    for number, box in enumerate(find_objects(labels) if labels.any() else [], start=1):
        if box:
            y, x = box
            yield (labels[box] == number).view(np.uint8), x.start, y.start


def encode_mask(mask: ByteMask, x: int, y: int, shape: tuple[int, int]) -> dict[str, Any]:
    """Encode a mask of 0, 1 or bool at x, y of a photo of (H, W) ``shape``, px, as COCO's RLE."""
    whole = np.zeros(shape, np.uint8, order="F")
    whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return {"size": [*shape], "counts": coco_mask.encode(whole)["counts"].decode()}


def annotation(
    mask: ByteMask, x: int, y: int, shape: tuple[int, int], mask_format: str, crowd: bool = False
) -> str:
    """One instance, cut out by its box, as JSON; ids and opening brace are left to the writer."""
    is_rle = mask_format == "rle"
    entry = {
        "category_id": 1,
        "bbox": [x, y, mask.shape[1], mask.shape[0]],
        "area": cv2.countNonZero(mask.view(np.uint8)),
        "iscrowd": int(crowd),
        "segmentation": encode_mask(mask, x, y, shape) if is_rle else list(to_polygons(mask, x, y)),
    }
    return to_json(entry)[1:]


def to_polygons(mask: ByteMask, x: int, y: int) -> Iterator[list[int]]:
    """Outline each piece of a mask, HxW at x, y, as a polygon x0, y0, x1, y1, ... in px.

    Polygons run along pixel edges. Holes, and parts that touch by a corner only, are rings joined
    by seams walked there and back: COCO's rasterization gives the mask back bit for bit.
    """
    _, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    for piece, left, top in cut_instances(labels):
        first, *others = _rings(piece)
        points = [*first, first[0]]
        for ring in others:
            points += [*ring, ring[0], first[0]]
        yield [value for px, py in points for value in (px + left + x, py + top + y)]


def _rings(piece: ByteMask) -> Iterator[list[tuple[int, int]]]:
    """Closed chains of lattice corners, crack on their right, straight runs in one step."""
    padded = np.pad(piece, 1)
    edges: set[tuple[int, int, int]] = set()  # y and x where one begins, and its direction
    for direction, (dx, dy) in enumerate(_CORNERS):
        out_x, out_y = _STEPS[direction - 1]
        rim = padded & ~np.roll(padded, (-out_y, -out_x), axis=(0, 1))
        edges |= {(y + dy - 1, x + dx - 1, direction) for y, x in np.argwhere(rim).tolist()}
    for start in sorted(edges):
        if start not in edges:  # a ring before has it
            continue
        (y, x, direction), previous = start, -1
        ring: list[tuple[int, int]] = []
        while direction >= 0:
            edges.remove((y, x, direction))
            if direction != previous:
                ring.append((x, y))
            previous = direction
            x, y = x + _STEPS[direction][0], y + _STEPS[direction][1]
            # Of two ways on, the left one keeps diagonal pixels in rings of their own.
            turns = ((direction + turn) % 4 for turn in (1, 0, 3))
            direction = next((turn for turn in turns if (y, x, turn) in edges), -1)
        yield ring


def write_coco(stream: IO[bytes], records: Iterable[PairRecord], info: dict[str, Any]) -> None:
    """Write a COCO JSON: ids count from 1 in order, one line for each image and annotation."""
    images: list[str] = []
    annotations: list[str] = []
    for number, record in enumerate(records, start=1):
        size = {"width": record.width, "height": record.height}
        images.append(to_json({"id": number, "file_name": record.file_name, **size}))
        for entry in record.annotations:
            annotations.append(f'{{"id":{len(annotations) + 1},"image_id":{number},{entry}')
    categories = to_json([{"id": 1, "name": "crack", "supercategory": "damage"}])
    text = f'{{"info":{to_json(info)},\n"licenses":[],\n"categories":{categories},\n'
    text += '"images":[\n' + ",\n".join(images) + "],\n"
    text += '"annotations":[\n' + ",\n".join(annotations) + "]}\n"
    stream.write(text.encode("ascii"))


def digest(texts: Iterable[str]) -> str:
    """A short digest that the same texts share."""
    joined = "".join(f"{text}\n" for text in texts).encode(errors="surrogateescape")
    return hashlib.blake2b(joined, digest_size=16).hexdigest()
