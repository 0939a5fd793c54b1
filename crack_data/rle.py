"""Labelled components → COCO's run-length encoding, all of a photo's in one pass."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def encode_labels(labels: np.ndarray, count: int) -> list[dict[str, Any]]:
    """Encode the components 1..count of a label map, HxW, as compressed RLE.

    Returns:
        One ``{"size": [H, W], "counts": str}`` per label, the very bytes that
        `pycocotools.mask.encode` gives for ``labels == i``.
    """
    if not count:
        return []
    height, width = labels.shape
    starts, ends, owners = _runs(labels)
    order = np.argsort(owners, kind="stable")
    starts, ends, owners = starts[order], ends[order], owners[order]
    bounds = np.searchsorted(owners, np.arange(1, count + 2))
    uncompressed = [
        {"size": [height, width], "counts": _counts(starts[a:b], ends[a:b], height * width)}
        for a, b in pairwise(bounds)
    ]
    encoded = coco_mask.frPyObjects(uncompressed, height, width)
    return [{"size": [height, width], "counts": rle["counts"].decode()} for rle in encoded]


def _runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, end (exclusive) and label of every run of crack pixels in column-major order."""
    flat = labels.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], edges])
    ends = np.concatenate([edges, [flat.size]])
    owners = flat[starts]
    inside = owners > 0
    return starts[inside], ends[inside], owners[inside]


def _counts(starts: np.ndarray, ends: np.ndarray, size: int) -> list[int]:
    """Lengths of background and crack runs in turn, background first."""
    bounds = np.empty(2 * len(starts) + 1, np.int64)
    bounds[0] = 0
    bounds[1::2] = starts
    bounds[2::2] = ends
    lengths = np.diff(bounds).tolist()
    tail = size - int(bounds[-1])
    return [*lengths, tail] if tail else lengths
