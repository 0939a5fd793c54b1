"""Labelled components → COCO's run-length encoding, all of a photo's in one pass."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask


def encode_labels(
    labels: np.ndarray, count: int, shape: tuple[int, int], x: int = 0, y: int = 0
) -> list[dict[str, Any]]:
    """Encode the components 1..count of a label map, HxW, as compressed RLE.

    Args:
        labels: 0 for background; different labels touch nowhere within a column.
        count: their number.
        shape: height and width of the photo that the map is a box of, px.
        x, y: corner of the box in the photo, px.

    Returns:
        One ``{"size": [H, W], "counts": str}`` per label, the very bytes that
        `pycocotools.mask.encode` gives for ``labels == i`` in the whole photo.
    """
    if not count:
        return []
    height, width = shape
    column, row, lengths = _runs(labels)
    starts, owners = (x + column) * height + y + row, labels[row, column]
    order = np.argsort(owners, kind="stable")
    starts, owners, ends = starts[order], owners[order], (starts + lengths)[order]
    # A run to the foot of one column goes on from the head of the next.
    parted = np.concatenate([[True], (starts[1:] != ends[:-1]) | (owners[1:] != owners[:-1])])
    starts, owners, ends = starts[parted], owners[parted], ends[np.append(parted[1:], True)]
    bounds = np.searchsorted(owners, np.arange(1, count + 2))
    uncompressed = [
        {"size": [height, width], "counts": _counts(starts[a:b], ends[a:b], height * width)}
        for a, b in pairwise(bounds)
    ]
    encoded = coco_mask.frPyObjects(uncompressed, height, width)
    return [{"size": [height, width], "counts": rle["counts"].decode()} for rle in encoded]


def _runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, row and length, px, of the vertical runs of crack pixels, column by column."""
    inside = np.not_equal(labels, 0).view(np.uint8)
    columns = cv2.transpose(cv2.copyMakeBorder(inside, 1, 1, 0, 0, cv2.BORDER_CONSTANT))
    flat = columns.ravel().view(np.bool_)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    column, row = np.divmod(edges[::2], columns.shape[1])
    return column, row - 1, edges[1::2] - edges[::2]


def _counts(starts: np.ndarray, ends: np.ndarray, size: int) -> list[int]:
    """Lengths of background and crack runs in turn, background first."""
    bounds = np.empty(2 * len(starts) + 1, np.int64)
    bounds[0] = 0
    bounds[1::2] = starts
    bounds[2::2] = ends
    lengths = np.diff(bounds).tolist()
    tail = size - int(bounds[-1])
    return [*lengths, tail] if tail else lengths
