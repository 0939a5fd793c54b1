"""Photos larger than the network sees at once: overlapping tiles, their crack maps blended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from detectron2.config import CfgNode

from ..errors import CrackError
from ..modeling.crack_rcnn import NetworkOutput
from ..modeling.instances import Detection

# The network pads its input to multiples of it.
_STRIDE = 32

Span = tuple[int, int]


@dataclass(frozen=True)
class TileGrid:
    """Tiles in rows and columns.

    Attributes:
        rows, columns: (start, stop) of each, px.
        overlap: least overlap of neighbours, px.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    overlap: int

    @classmethod
    def for_photo(cls, height: int, width: int, keys: CfgNode) -> TileGrid:
        """The tiles for a photo under CRACK.INFERENCE's keys: one where it needs no more.

        Raises:
            CrackError: an overlap of more than half a tile.
        """
        size, overlap = keys.TILE_SIZE, keys.TILE_OVERLAP
        if size == 0 or max(height, width) <= size:
            return cls(((0, height),), ((0, width),), overlap)
        if not 0 < 2 * overlap <= size:
            raise CrackError(
                f"CRACK.INFERENCE.TILE_OVERLAP is {overlap}; it must be more than 0 and at most "
                f"half of TILE_SIZE, {size}"
            )
        return cls(_spans(height, size, overlap), _spans(width, size, overlap), overlap)


def _spans(length: int, size: int, overlap: int) -> tuple[Span, ...]:
    """Evenly spread tiles of one length that cover ``length`` and overlap by at least ``overlap``.

    As few as tiles of ``size`` would be, and then as short as they may be: the overlap is computed
    twice.
    """
    if length <= size:
        return ((0, length),)
    count = -(-(length - overlap) // (size - overlap))
    shortest = -(-(length + (count - 1) * overlap) // count)
    size = min(size, -(-shortest // _STRIDE) * _STRIDE)
    starts = np.linspace(0, length - size, count).round().astype(int).tolist()
    return tuple((start, start + size) for start in starts)


def run_tiles(
    image_bgr: np.ndarray, grid: TileGrid, run_network: Callable[[np.ndarray], NetworkOutput]
) -> NetworkOutput:
    """Run the network over all tiles, blend their crack maps and collect their detections.

    In an overlap each tile counts the less the nearer its border is. One row of tiles at a time is
    held in floats.

    Args:
        image_bgr: the photo, uint8 (H, W, 3).
        grid: its tiles.
        run_network: runs the network on one tile.
    """
    if len(grid.rows) == len(grid.columns) == 1:
        return run_network(image_bgr)
    height, width = image_bgr.shape[:2]
    probability = np.zeros((height, width), dtype=np.uint8)
    detections: list[Detection] = []
    row_weights, column_weights = (_weights(x, grid.overlap) for x in (grid.rows, grid.columns))
    total = np.zeros((grid.rows[0][1], width), dtype=np.float32)
    for row, (y0, y1) in enumerate(grid.rows):
        for column, (x0, x1) in enumerate(grid.columns):
            found = run_network(np.ascontiguousarray(image_bgr[y0:y1, x0:x1]))
            total[:, x0:x1] += (
                np.outer(row_weights[row], column_weights[column]) * found.probability
            )
            detections += [_moved(x, x0, y0) for x in found.detections]
        end = grid.rows[row + 1][0] if row + 1 < len(grid.rows) else y1
        done = end - y0
        probability[y0:end] = np.rint(total[:done])
        total[: len(total) - done] = total[done:].copy()
        total[len(total) - done :] = 0
    return NetworkOutput(probability, detections)


def _weights(spans: tuple[Span, ...], overlap: int) -> list[np.ndarray]:
    """Weights of each tile along one side: they fall towards its neighbours and sum to 1."""
    total = np.zeros(spans[-1][1], dtype=np.float32)
    fades = []
    for index, (start, stop) in enumerate(spans):
        place = np.arange(stop - start, dtype=np.float32) + 0.5
        fade = np.ones(stop - start, dtype=np.float32)
        if index > 0:
            fade = np.minimum(fade, place / overlap)
        if index < len(spans) - 1:
            fade = np.minimum(fade, place[::-1] / overlap)
        total[start:stop] += fade
        fades.append(fade)
    return [fade / total[start:stop] for fade, (start, stop) in zip(fades, spans, strict=True)]


def _moved(detection: Detection, x: int, y: int) -> Detection:
    x0, y0, x1, y1 = detection.box
    return replace(detection, box=(x0 + x, y0 + y, x1 + x, y1 + y))
