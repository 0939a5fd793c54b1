"""Photos larger than the network sees at once: overlapping tiles, their crack maps blended.

Cracks too wide for a tile come from an overview, the photo made small.
"""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from detectron2.config import CfgNode

from ..modeling.crack_rcnn import NetworkOutput
from ..modeling.instances import Detection

Spans = list[tuple[int, int]]  # start and stop, px
# How many times smaller an overview may be than the photo: where it would be less, tiles know most
# widths themselves; where more, too many widths would be known to neither.
_LEAST_SHRINK, _MOST_SHRINK = 1.5, 8
# The least width of cracks that count in the overview, px of it and, to one of those, of the photo.
# Narrower ones the tiles know, and draw finer; the overview's hairlines come back 3 px wide.
_WIDE_IN_OVERVIEW, _WIDE = 7, 20


def tile_spans(height: int, width: int, keys: CfgNode) -> tuple[Spans, Spans]:
    """Rows and columns of tiles for a photo under CRACK.INFERENCE's keys: one where it fits."""
    size, overlap = keys.TILE_SIZE or max(height, width), keys.TILE_OVERLAP
    return _spans(height, size, overlap), _spans(width, size, overlap)


def _spans(length: int, size: int, overlap: int) -> Spans:
    """Evenly spread tiles: as few as of ``size`` with such an overlap, then as short as may be."""
    if length <= size:
        return [(0, length)]
    count = -(-(length - overlap) // (size - overlap))
    shortest = -(-(length + (count - 1) * overlap) // count)
    size = min(size, -(-shortest // 32) * 32)  # the network pads its input to multiples of it
    starts = np.linspace(0, length - size, count).round().astype(int).tolist()
    return [(start, start + size) for start in starts]


def run_tiles(
    image_bgr: np.ndarray, keys: CfgNode, run_network: Callable[[np.ndarray], NetworkOutput]
) -> NetworkOutput:
    """Run the network over all tiles, and over an overview of a photo of 1.5 tiles and more.

    ``image_bgr`` is uint8 (H, W, 3), ``keys`` CRACK.INFERENCE.
    """
    height, width = image_bgr.shape[:2]
    rows, columns = tile_spans(height, width, keys)
    if len(rows) == len(columns) == 1:
        return run_network(image_bgr)
    output = blend_tiles(image_bgr, keys, run_network)
    shrink = min(_MOST_SHRINK, max(height, width) / keys.TILE_SIZE)
    if shrink >= _LEAST_SHRINK:
        _add_wide_cracks(output, image_bgr, shrink, keys, run_network)
    return output


def blend_tiles(
    image_bgr: np.ndarray, keys: CfgNode, run_network: Callable[[np.ndarray], NetworkOutput]
) -> NetworkOutput:
    """Blend the tiles' crack maps and collect their detections; arguments as of `run_tiles`.

    In an overlap each tile counts the less the nearer its border is.
    """
    height, width = image_bgr.shape[:2]
    rows, columns = tile_spans(height, width, keys)
    total = np.zeros((height, width), dtype=np.float32)
    detections: list[Detection] = []
    row_weights, column_weights = (_weights(x, keys.TILE_OVERLAP) for x in (rows, columns))
    for (top, bottom), across in zip(rows, row_weights, strict=True):
        for (left, right), along in zip(columns, column_weights, strict=True):
            found = run_network(np.ascontiguousarray(image_bgr[top:bottom, left:right]))
            total[top:bottom, left:right] += np.outer(across, along) * found.probability
            for detection in found.detections:
                x0, y0, x1, y1 = detection.box
                box = (x0 + left, y0 + top, x1 + left, y1 + top)
                detections.append(replace(detection, box=box))
    return NetworkOutput(np.rint(total, out=total).astype(np.uint8), detections)


def _add_wide_cracks(
    tiled: NetworkOutput,
    image_bgr: np.ndarray,
    shrink: float,
    keys: CfgNode,
    run_network: Callable[[np.ndarray], NetworkOutput],
) -> None:
    """Add, in place, the wide cracks of an overview, ``shrink`` times smaller, to the tiles'.

    A tile shows little but the inside of a crack as wide as itself.
    """
    height, width = image_bgr.shape[:2]
    columns, rows = (max(1, round(side / shrink)) for side in (width, height))
    small = cv2.resize(image_bgr, (columns, rows), interpolation=cv2.INTER_AREA)
    found = run_tiles(small, keys, run_network)
    least = 2 * int(max(_WIDE_IN_OVERVIEW, _WIDE / shrink) / 2) + 1
    disc, rim = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (x, x)) for x in (least, least + 2))
    wide = cv2.dilate(cv2.erode((found.probability > 127).astype(np.uint8), disc), rim)
    enlarged = cv2.resize(found.probability * wide, (width, height))
    np.maximum(tiled.probability, enlarged, out=tiled.probability)
    for detection in found.detections:
        x0, y0, x1, y1 = detection.box
        if wide[y0:y1, x0:x1].any():
            low = x0 * width // columns, y0 * height // rows
            high = -(-x1 * width // columns), -(-y1 * height // rows)
            mask = detection.mask
            if mask is not None:
                size = (high[0] - low[0], high[1] - low[1])
                mask = cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
            tiled.detections.append(replace(detection, box=(*low, *high), mask=mask))


def _weights(spans: Spans, overlap: int) -> list[np.ndarray]:
    """Weights of each tile along one side: they fall towards its neighbours and sum to 1."""
    size = spans[0][1]
    rise = (np.arange(size, dtype=np.float32) + 0.5) / overlap
    fades = np.ones((len(spans), size), dtype=np.float32)
    fades[1:] = np.minimum(fades[1:], rise)
    fades[:-1] = np.minimum(fades[:-1], rise[::-1])
    total = np.zeros(spans[-1][1], dtype=np.float32)
    for fade, (start, stop) in zip(fades, spans, strict=True):
        total[start:stop] += fade
    return [fade / total[start:stop] for fade, (start, stop) in zip(fades, spans, strict=True)]
