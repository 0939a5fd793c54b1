"""COCO segmentations (polygons, run lengths) and the masks that they stand for."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

BoolMask = npt.NDArray[np.bool_]
Record = dict[str, Any]  # a photo in Detectron2's format, as `crack_data.annotations` reads it
Rle = dict[str, Any]

# Numbers of a compressed RLE, of 32 bits: bytes that say "goes on", and one that does not.
_NUMBERS = re.compile(rb"([P-o]{0,6}[0-O])+")
NO_SEGMENTATION = "has no segmentation (a box is no mask): export polygons or RLE"


def decode_mask(segmentation: Any, height: int, width: int, contours: bool = False) -> BoolMask:
    """The pixels of a segmentation, bool (H, W); see `encode_segmentation`, but it may be empty."""
    if not segmentation:
        return np.zeros((height, width), bool)
    return coco_mask.decode(encode_segmentation(segmentation, height, width, contours)).view(bool)


def has_crack(record: Record) -> bool:
    """Whether a record has an instance; ignored areas are none."""
    return any(not each.get("iscrowd") for each in record.get("annotations", []))


def instance_masks(record: Record) -> Iterator[BoolMask]:
    """The pixels of each instance of a record, in its order; ignored areas are none."""
    return (coco_mask.decode(rle).view(bool) for rle in _rles(record, crowd=0))


def ignored_pixels(record: Record) -> BoolMask:
    """The pixels of a record that count neither as crack nor as background: bool (H, W)."""
    return union_mask(record, crowd=1)


def union_mask(record: Record, crowd: int = 0) -> BoolMask:
    """The pixels of all instances of a record, or of all its ignored areas: bool (H, W)."""
    rles = list(_rles(record, crowd))
    if not rles:
        return np.zeros((record["height"], record["width"]), bool)
    return coco_mask.decode(coco_mask.merge(rles)).view(bool)


def _rles(record: Record, crowd: int) -> Iterator[Rle]:
    for each in record.get("annotations", []):
        if int(each.get("iscrowd", 0)) == crowd:
            given = each["segmentation"]
            is_rle = isinstance(given, dict)  # checked when it was read
            yield given if is_rle else encode_segmentation(given, record["height"], record["width"])


def encode_segmentation(segmentation: Any, height: int, width: int, contours: bool = False) -> Rle:
    """A COCO segmentation of any kind as compressed run lengths, ``{"size", "counts": str}``.

    It comes as run lengths, compressed or not, or as polygons ``[x, y, x, y, …]`` in px. With
    ``contours`` these may be such as OpenCV draws, through the mask's outermost pixels: COCO's
    rule, under which a polygon runs along the edges of pixels, would take a pixel off every side.
    A ValueError, the rest of a sentence, where it is empty or faulty.
    """
    if not segmentation:
        raise ValueError(NO_SEGMENTATION)
    pieces = segmentation if isinstance(segmentation, list) else [segmentation]
    if all(isinstance(piece, dict) and "counts" in piece for piece in pieces):
        rle = coco_mask.merge([_check_runs(piece, height, width) for piece in pieces])
    elif not isinstance(segmentation, list):
        raise ValueError(f"has a segmentation of the type {type(segmentation).__name__}")
    else:
        if isinstance(pieces[0], int | float):  # one polygon without the list around it
            pieces = [pieces]
        polygons = [_polygon(piece, height, width) for piece in pieces]
        if contours and _are_pixel_contours(polygons):
            mask = np.zeros((height, width), np.uint8)
            for polygon in polygons:
                cv2.fillPoly(mask, [np.array(polygon, np.int32).reshape(-1, 2)], 1)
            rle = coco_mask.encode(np.asfortranarray(mask))
        else:
            rle = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}


def _are_pixel_contours(polygons: list[list[float]]) -> bool:
    """Whether all steps go to whole pixels in one of eight directions, some diagonally."""
    points = [np.reshape(polygon, (-1, 2)) for polygon in polygons]
    steps = np.concatenate([np.abs(np.diff(x, axis=0, append=x[:1])) for x in points])
    straight = (steps == 0).any(axis=1)
    diagonal = (steps[:, 0] == steps[:, 1]) & ~straight
    whole = all((x % 1 == 0).all() for x in points)
    return bool(whole and (straight | diagonal).all() and diagonal.any())


def points_of(values: Any) -> list[list[float]]:
    """Points of a JSON, [[x, y], …]; a ValueError, the rest of a sentence, where they are none."""
    points = numbers_of(values)
    if points.shape[1:] != (2,) or not np.isfinite(points).all():
        raise ValueError("has points that are no list of numbers [x, y]")
    return points.tolist()


def _polygon(points: Any, height: int, width: int) -> list[float]:
    numbers = numbers_of(points)
    if numbers.ndim == 2:  # [[x, y], [x, y], …]
        numbers = numbers.ravel()
    if numbers.ndim != 1 or len(numbers) % 2 or len(numbers) < 6:
        raise ValueError("has a polygon that is no list of numbers x, y, x, y of three points")
    if numbers.max() <= 1 and (2 * numbers % 1).any():  # a pixel's own outline has halves
        raise ValueError("has a polygon in shares of the photo; multiply it by the size in px")
    if not _is_near(numbers, height, width):
        raise ValueError(
            "has a polygon with coordinates that are no numbers, or far outside its photo of "
            f"{width} x {height} px"
        )
    return numbers.tolist()


def _is_near(coordinates: np.ndarray, height: int, width: int) -> bool:
    """Whether points are on the photo or not far from it; NaN is neither."""
    reach = max(height, width)
    return bool(coordinates.min() >= -reach and coordinates.max() <= 2 * reach)


def numbers_of(values: Any) -> npt.NDArray[np.float64]:
    """Numbers of a JSON or a text as an array; none where they are not numbers."""
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError):
        return np.empty(0)


def _check_runs(rle: Rle, height: int, width: int) -> Rle:
    """Run lengths, compressed or not, as pycocotools has them, once they are known to fit."""
    counts, size = rle["counts"], rle.get("size")
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        raise ValueError(f"has an RLE of size {size}, but its photo is [{height}, {width}]")
    compressed = isinstance(counts, str)
    if compressed:
        counts = counts.encode("ascii", "replace")
    runs = _run_lengths(counts) if compressed else numbers_of(counts)
    whole = runs.ndim == 1 and len(runs) > 0 and runs.min() >= 0 and not (runs % 1).any()
    if not whole or runs.sum() != height * width:
        raise ValueError(f"has an RLE whose counts do not add up to {height * width} px")
    rle = {"size": [height, width], "counts": counts}
    return rle if compressed else coco_mask.frPyObjects(rle, height, width)


def _run_lengths(counts: bytes) -> np.ndarray:
    """Run lengths of COCO's compressed RLE (pycocotools, rleFrString): int64 (N,).

    Six bits a byte, from 48 on: five of the number, lowest first, and one for "goes on"; from the
    fourth number on, the difference from the one two before. What is damaged, beyond whose end
    pycocotools would read, gives none.
    """
    if not _NUMBERS.fullmatch(counts):
        return np.empty(0, np.int64)
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(digits < 32)
    first = np.append(0, last[:-1] + 1)
    shifts = 5 * (np.arange(len(digits)) - np.repeat(first, last - first + 1))
    numbers = np.add.reduceat((digits & 31) << shifts, first)
    numbers -= np.where(digits[last] & 16, np.int64(1) << (shifts[last] + 5), 0)
    for start in (1, 2):
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers


def draw_line(mask: npt.NDArray[np.uint8], points: npt.NDArray[np.float64], width: float) -> None:
    """Set, in place, the pixels whose centre is nearer than width / 2 to a line of two points.

    A ValueError, the rest of a sentence, where the line is far outside the photo.
    """
    rows, columns = mask.shape
    if not _is_near(points, rows, columns):
        raise ValueError(f"has a line far outside its photo of {columns} x {rows} px")
    # Moved by a hair, a straight line is as wide on whole as on half coordinates.
    ends = points + np.array([1e-6, 2e-6])
    # In parts, each in its own box: that of a long slanted line takes 80 bytes a pixel.
    count = 1 + int(np.abs(ends[1] - ends[0]).max() / 64)
    for start, end in itertools.pairwise(np.linspace(ends[0], ends[1], count + 1)):
        low = np.maximum(np.minimum(start, end) - width, 0).astype(int)
        high = np.maximum(np.maximum(start, end) + width + 1, 0).astype(int)
        part = mask[low[1] : high[1], low[0] : high[0]]
        y, x = np.indices(part.shape) + 0.5
        offset = np.stack([x + low[0], y + low[1]], axis=-1) - start
        way = end - start
        along = np.clip(offset @ way / max(float(way @ way), 1e-9), 0, 1)
        part[np.linalg.norm(offset - along[..., None] * way, axis=-1) < width / 2] = 1
