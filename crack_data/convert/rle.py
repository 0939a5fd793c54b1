"""Cracks as runs of pixels → COCO's run-length encoding, boxes and areas, all in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from .components import Labels
from .runs import Runs

Numbers = npt.NDArray[np.int64]


def encode_labels(
    labels: Labels, count: int, shape: tuple[int, int], x: int = 0, y: int = 0
) -> list[dict[str, Any]]:
    """Encode the components 1..count of a label map, HxW; see `encode_runs`.

    Args:
        labels: 0 for background; different labels touch nowhere within a column.
        count, shape, x, y: as for `encode_runs`.
    """
    runs = Runs.of(np.not_equal(labels, 0).view(np.uint8), labels)
    return encode_runs(runs.renumbered(np.arange(count + 1)), count, shape, x, y)


def encode_runs(
    runs: Runs, count: int, shape: tuple[int, int], x: int = 0, y: int = 0
) -> list[dict[str, Any]]:
    """Encode the instances 1..count as compressed RLE.

    Args:
        runs: sorted by owner, then column by column; each of 1..count owns some.
        count: their number.
        shape: height and width of the photo, px.
        x, y: where in the photo the runs' columns and rows begin, px.

    Returns:
        One ``{"size": [H, W], "counts": str}`` per instance, the very bytes that
        `pycocotools.mask.encode` gives for its mask in the whole photo.
    """
    if not count:
        return []
    height, width = shape
    counts = _counts(*_joined(runs, height, x, y), count, height * width)
    uncompressed = [{"size": [height, width], "counts": each} for each in counts]
    encoded = coco_mask.frPyObjects(uncompressed, height, width)
    return [{"size": [height, width], "counts": rle["counts"].decode()} for rle in encoded]


def _joined(runs: Runs, height: int, x: int, y: int) -> tuple[Numbers, Numbers, Numbers]:
    """Where in the photo's pixels, column by column, runs start and end, and their owners.

    A run to the foot of one column goes on from the head of the next.
    """
    starts = (x + runs.columns) * height + y + runs.rows
    ends, owners = starts + runs.lengths, runs.owners
    parted = (starts[1:] != ends[:-1]) | (owners[1:] != owners[:-1])
    if parted.all():
        return starts, ends, owners
    first, last = np.append(True, parted), np.append(parted, True)
    return starts[first], ends[last], owners[first]


def _counts(
    starts: Numbers, ends: Numbers, owners: Numbers, count: int, size: int
) -> list[Numbers]:
    """For each instance, lengths of background and crack runs in turn, background first."""
    bounds = np.searchsorted(owners, np.arange(1, count + 2))
    # One array for all; each instance has one place more than its runs, for the rest of the photo.
    lengths = np.empty(2 * len(starts) + count, np.int64)
    places = 2 * np.arange(len(starts)) + owners - 1
    lengths[places[1:]] = starts[1:] - ends[:-1]
    lengths[places[bounds[:-1]]] = starts[bounds[:-1]]
    lengths[places + 1] = ends - starts
    tails = 2 * bounds[1:] + np.arange(count)
    lengths[tails] = size - ends[bounds[1:] - 1]
    stops = np.where(lengths[tails] > 0, tails + 1, tails)
    firsts = np.append(0, tails[:-1] + 1)
    return [lengths[a:b] for a, b in zip(firsts.tolist(), stops.tolist(), strict=True)]


def boxes_and_areas(
    runs: Runs, count: int, x: int = 0, y: int = 0
) -> tuple[list[list[int]], list[int]]:
    """The box, x, y, width, height in px, and the area in px, of each instance 1..count.

    Args:
        runs, count, x, y: as for `encode_runs`.
    """
    if not count:
        return [], []
    bounds = np.searchsorted(runs.owners, np.arange(1, count + 2))
    first, last = bounds[:-1], bounds[1:] - 1
    left, right = runs.columns[first], runs.columns[last] + 1
    top = np.minimum.reduceat(runs.rows, first)
    bottom = np.maximum.reduceat(runs.rows + runs.lengths, first)
    boxes = np.stack([left + x, top + y, right - left, bottom - top], axis=1)
    return boxes.tolist(), np.add.reduceat(runs.lengths, first).tolist()
