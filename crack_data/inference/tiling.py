"""Photos larger than the network sees at once: overlapping tiles, and cracks whole again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from detectron2.config import CfgNode
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..errors import CrackError
from .detector import Detector, Region
from .prediction import CrackInstance

# Pieces from neighbouring tiles are one crack when, within the tiles' overlap, they share this part
# of the smaller one's pixels. Not of both: what hangs together in one tile may do so outside the
# other, which then holds it in several pieces.
_SAME_CRACK_SHARE = 0.5

# The network pads its input to multiples of it.
_STRIDE = 32

Span = tuple[int, int]
Box = tuple[int, int, int, int]


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
    def for_photo(cls, height: int, width: int, keys: CfgNode) -> TileGrid | None:
        """The tiles for a photo under CRACK.INFERENCE's keys, or None where it needs none.

        Raises:
            CrackError: an overlap of more than half a tile.
        """
        if keys.MAX_SIZE == 0 or max(height, width) <= keys.MAX_SIZE:
            return None
        size, overlap = keys.TILE_SIZE, keys.TILE_OVERLAP
        if not 0 < 2 * overlap <= size:
            raise CrackError(
                f"CRACK.INFERENCE.TILE_OVERLAP is {overlap}; it must be more than 0 and at most "
                f"half of TILE_SIZE, {size}"
            )
        return cls(_spans(height, size, overlap), _spans(width, size, overlap), overlap)

    def boxes(self) -> list[Box]:
        """Box (x0, y0, x1, y1) of each tile, row by row."""
        return [(x0, y0, x1, y1) for y0, y1 in self.rows for x0, x1 in self.columns]

    def neighbours(self) -> Iterator[tuple[int, int]]:
        """Pairs of tiles that overlap, as positions in `boxes`, each once."""
        boxes = self.boxes()
        for first, box in enumerate(boxes):
            # Where the last tile is pushed back to fit, even the next but one may overlap.
            for second in range(first + 1, len(boxes)):
                if boxes[second][1] >= box[3]:
                    break
                if not _is_empty(_intersect(box, boxes[second])):
                    yield first, second


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


def detect_tiled(
    image_bgr: np.ndarray, detect: Detector, grid: TileGrid
) -> tuple[np.ndarray, list[tuple[Region, ...]]]:
    """Run the detector over all tiles and blend their crack maps.

    In an overlap each tile counts the less the nearer its border is, and only tiles that found a
    crack there count: what one of them missed has no cut edge. One row of tiles at a time is
    held in floats.

    Args:
        image_bgr: the photo, uint8 (H, W, 3).
        detect: see `Detector`.
        grid: the tiles.

    Returns:
        the crack probability of the photo, uint8 (H, W), x 255, and each tile's regions, boxes on
        the photo.
    """
    height, width = image_bgr.shape[:2]
    probability = np.zeros((height, width), dtype=np.uint8)
    regions: list[tuple[Region, ...]] = []
    total = np.zeros((grid.rows[0][1], width), dtype=np.float32)
    weight = np.zeros_like(total)
    for row, (y0, y1) in enumerate(grid.rows):
        for column, (x0, x1) in enumerate(grid.columns):
            found = detect(np.ascontiguousarray(image_bgr[y0:y1, x0:x1]))
            fade = np.outer(_fade(grid.rows, row, grid), _fade(grid.columns, column, grid))
            fade *= found.crack_map > 0
            weight[:, x0:x1] += fade
            total[:, x0:x1] += fade * found.crack_map
            regions.append(tuple(_moved(x, x0, y0) for x in found.regions))
        end = grid.rows[row + 1][0] if row + 1 < len(grid.rows) else y1
        done = end - y0
        ready = total[:done] / np.maximum(weight[:done], 1e-9)
        probability[y0:end] = np.rint(255.0 * ready)
        for band in (total, weight):
            band[: len(band) - done] = band[done:].copy()
            band[len(band) - done :] = 0
    return probability, regions


def _fade(spans: tuple[Span, ...], index: int, grid: TileGrid) -> np.ndarray:
    """Weight along one side of a tile: 1, falling towards the borders that have a neighbour."""
    start, stop = spans[index]
    place = np.arange(stop - start, dtype=np.float32) + 0.5
    fade = np.ones(stop - start, dtype=np.float32)
    if index > 0:
        fade = np.minimum(fade, place / grid.overlap)
    if index < len(spans) - 1:
        fade = np.minimum(fade, place[::-1] / grid.overlap)
    return fade


def _moved(region: Region, x: int, y: int) -> Region:
    x0, y0, x1, y1 = region.box
    return replace(region, box=(x0 + x, y0 + y, x1 + x, y1 + y))


def join_pieces(pieces: list[list[CrackInstance]], grid: TileGrid) -> list[CrackInstance]:
    """Make one instance of the pieces that neighbouring tiles hold of one crack.

    Args:
        pieces: of each tile, on the photo, cut from the blended map.
        grid: the tiles.

    Returns:
        whole instances, each with the score of its best piece.
    """
    flat = [piece for tile in pieces for piece in tile]
    first = np.cumsum([0] + [len(tile) for tile in pieces])
    boxes = grid.boxes()
    links: list[tuple[int, int]] = []
    for a, b in grid.neighbours():
        overlap = _intersect(boxes[a], boxes[b])
        same = _shared(pieces[a], pieces[b], overlap) >= _SAME_CRACK_SHARE
        links += [(first[a] + i, first[b] + j) for i, j in np.argwhere(same)]
    ends = np.array(links, dtype=int).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(flat),) * 2)
    count, labels = connected_components(graph, directed=False)
    groups: list[list[CrackInstance]] = [[] for _ in range(count)]
    for piece, label in zip(flat, labels, strict=True):
        groups[label].append(piece)
    return [_union(group) for group in groups]


def _shared(a: list[CrackInstance], b: list[CrackInstance], box: Box) -> np.ndarray:
    """(len(a), len(b)) shared pixels within a box, as part of the smaller mask's pixels there."""
    if not a or not b:
        return np.zeros((len(a), len(b)))
    in_a = np.stack([_window(x, box).ravel() for x in a]).astype(np.float32)
    in_b = np.stack([_window(x, box).ravel() for x in b]).astype(np.float32)
    smaller = np.minimum(in_a.sum(axis=1)[:, None], in_b.sum(axis=1)[None, :])
    return in_a @ in_b.T / np.maximum(smaller, 1.0)


def _window(instance: CrackInstance, box: Box) -> np.ndarray:
    """The instance's mask as seen through a box, bool (y1 - y0, x1 - x0)."""
    x0, y0, x1, y1 = box
    view = np.zeros((y1 - y0, x1 - x0), dtype=bool)
    left, top, right, bottom = _intersect(box, instance.box)
    if not _is_empty((left, top, right, bottom)):
        ix, iy = instance.box[:2]
        inside = instance.mask[top - iy : bottom - iy, left - ix : right - ix]
        view[top - y0 : bottom - y0, left - x0 : right - x0] = inside
    return view


def _union(group: list[CrackInstance]) -> CrackInstance:
    if len(group) == 1:
        return group[0]
    corners = np.array([piece.box for piece in group])
    x0, y0 = (int(x) for x in corners[:, :2].min(axis=0))
    x1, y1 = (int(x) for x in corners[:, 2:].max(axis=0))
    mask = np.zeros((y1 - y0, x1 - x0), dtype=bool)
    for piece in group:
        left, top, right, bottom = piece.box
        mask[top - y0 : bottom - y0, left - x0 : right - x0] |= piece.mask
    return CrackInstance.from_mask(max(x.score for x in group), mask, (x0, y0))


def _intersect(a: Box, b: Box) -> Box:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _is_empty(box: Box) -> bool:
    return box[0] >= box[2] or box[1] >= box[3]
