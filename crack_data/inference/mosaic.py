"""Cracks of a GeoTIFF larger than the pixel limit, window by window.

Memory holds one window at a time, beside the centrelines found and the pixels of what crosses a
window's border and scores too low in it: it does not grow with the raster.
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from ..errors import CrackError
from ..photos import pixel_limit
from ..samples import sample_range
from ..storage import PhotoFile
from .lines import find_place, find_scale, import_rasterio, to_geojson
from .measuring import Measurement, measure, way_along
from .prediction import Box, CrackInstance, CrackPrediction
from .predictor import CrackPredictor
from .results import OutputOptions, Record, Scale, instance_json, uncertainty

# Side of a window, px, and how much of its surroundings is predicted with it on each side.
WINDOW = 4096
HALO = 256


class Part(NamedTuple):
    """What one window holds of a crack, px of the raster."""

    score: float  # of the instance in the window
    area: int  # number of its pixels within the window
    box: Box  # around them: x0, y0, x1, y1
    max_width_px: float  # of the instance, surroundings included
    lines: list[np.ndarray]  # its centreline within the window, each (N, 2) x, y
    # Pixels, (N,) indices into the raster, of a part that its window alone would not draw.
    undrawn: np.ndarray | None = None


class Joiner:
    """Says which parts are one crack: those that share a pixel where surroundings overlap."""

    def __init__(self) -> None:
        self.parts: list[Part] = []  # of all windows
        self._linked = DisjointSet()  # of their numbers: a subset is one crack
        # Of each window that may have neighbours to come: row, pixels of its parts (indices into
        # the raster, each once), their numbers.
        self._seen: list[tuple[int, np.ndarray, np.ndarray]] = []

    def add(self, row: int, parts: list[tuple[Part, np.ndarray]]) -> None:
        """Link a window's parts, each with its pixels in reach of others; they come row by row."""
        if not parts:
            return
        numbers = len(self.parts) + np.repeat(range(len(parts)), [len(x) for _, x in parts])
        pixels, first = np.unique(np.concatenate([x for _, x in parts]), return_index=True)
        numbers = numbers[first]
        for part, _ in parts:
            self._linked.add(len(self.parts))
            self.parts.append(part)
        self._seen = [x for x in self._seen if x[0] >= row - 1]
        for _, others, theirs in self._seen:
            _, here, there = np.intersect1d(pixels, others, assume_unique=True, return_indices=True)
            for pair in np.unique([numbers[here], theirs[there]], axis=1).T.tolist():
                self._linked.merge(*pair)
        self._seen.append((row, pixels, numbers))

    def cracks(self) -> list[list[Part]]:
        """The parts of each crack of which a window draws one, the best scored first."""
        groups = [[self.parts[x] for x in sorted(linked)] for linked in self._linked.subsets()]
        groups = [group for group in groups if any(part.undrawn is None for part in group)]
        return sorted(groups, key=lambda group: -max(part.score for part in group))


def is_mosaic(path: str) -> bool:
    """Whether a file is a georeferenced TIFF of more pixels than a photo of its depth may have."""
    rasterio = import_rasterio()
    if not path.lower().endswith((".tif", ".tiff")):
        return False
    # Of GDAL's many formats, some read other files and fetch URLs. It wants names in UTF-8.
    with (
        suppress(rasterio.errors.RasterioIOError, UnicodeEncodeError),
        rasterio.open(path, driver="GTiff") as raster,
    ):
        limit = pixel_limit(np.dtype(raster.dtypes[0]).itemsize, raster.count)
        return raster.height * raster.width > limit and find_place(path, *raster.shape) is not None
    return False


def predict_mosaic(
    predictor: CrackPredictor, photo: PhotoFile, options: OutputOptions, mask_file: Path
) -> tuple[Record, bytes]:
    """Predict a raster window by window, and write its mask, a GeoTIFF in its place, 255 on cracks.

    Returns what `results.to_json` gives, its instances without orientation and segmentation, its
    percentages of the pixels that hold data, and "uncertainty"; and the centrelines, GeoJSON.
    """
    joiner, masked, seen, levels = Joiner(), 0, 0, np.zeros(256, dtype=int)
    rasterio = import_rasterio()
    with (
        rasterio.Env(GDAL_CACHEMAX=128 * 2**20),  # bytes; else a twentieth of the machine's memory
        rasterio.open(photo.path, driver="GTiff") as raster,
        rasterio.open(
            mask_file, "w+", driver="GTiff", width=raster.width, height=raster.height, count=1,
            dtype="uint8", crs=raster.crs, transform=raster.transform, compress="deflate",
            tiled=True, bigtiff="if_safer",
        ) as out,
    ):  # fmt: skip
        height, width = raster.shape
        white_zero = "MINISWHITE" in raster.tags(ns="IMAGE_STRUCTURE")
        if white_zero or raster.colorinterp[0].name == "palette":
            raise CrackError(f"{photo.path} has a palette, or white as zero; save it as grey")
        place = find_place(photo.path, height, width)
        for row, core, around, image, valid in _windows(raster):
            prediction = predictor(image, options.threshold, most=None)
            levels += prediction.levels
            (x0, y0), (x1, y1) = np.reshape(core, (2, 2)) - around[:2]
            mask = prediction.mask[y0:y1, x0:x1] & valid[y0:y1, x0:x1]
            masked += np.count_nonzero(mask)
            seen += np.count_nonzero(valid[y0:y1, x0:x1])
            out.write(mask.view(np.uint8) * np.uint8(255), 1, window=(core[1::2], core[::2]))
            joiner.add(row, list(_parts(prediction, valid, core, around[:2], width)))
        cracks = joiner.cracks()
        # What scored too low in one window goes on from what did not in another.
        for part in chain.from_iterable(cracks):
            if part.undrawn is not None:
                window = part.box[1::2], part.box[::2]
                drawn = out.read(1, window=window)
                rows, columns = np.divmod(part.undrawn, width)
                drawn[rows - part.box[1], columns - part.box[0]] = 255
                out.write(drawn, 1, window=window)
                masked += part.area
    lines = [[line for part in parts for line in part.lines] for parts in cracks]
    scales = [find_scale(branches, place, options.mm_per_px) for branches in lines]
    percent, threshold = 100.0 * masked / max(seen, 1), options.threshold
    record = {
        "file_name": photo.file_name,
        "height": height,
        "width": width,
        "threshold": predictor.threshold if threshold is None else threshold,
        "percent_masked": percent,
        "percent_unmasked": 100.0 - percent,
        "instances": list(map(_join, cracks, lines, scales)),
        "uncertainty": uncertainty(levels),
    }
    return record, to_geojson(lines, record, place)


def _windows(raster: Any) -> Iterator[tuple[int, Box, Box, np.ndarray, np.ndarray]]:
    """Row, window (x0, y0, x1, y1), it with its surroundings, and their picture, where any is.

    The picture is BGR uint8 (H, W, 3), stretched as photos are, by a small copy of the raster; with
    it comes which of its pixels hold data, bool (H, W).
    """
    height, width = raster.shape
    if raster.dtypes[0] != "uint8":
        bands = [1, 2, 3] if raster.count >= 3 else [1]
        size = len(bands), min(height, 1024), min(width, 1024)
        samples = raster.read(bands, out_shape=size, masked=True).compressed()
        base, factor, _ = sample_range(samples[:, None])
    for row, y in enumerate(range(0, height, WINDOW)):
        for x in range(0, width, WINDOW):
            x1, y1 = min(x + WINDOW, width), min(y + WINDOW, height)
            left, top = max(x - HALO, 0), max(y - HALO, 0)
            around = left, top, min(x1 + HALO, width), min(y1 + HALO, height)
            window = around[1::2], around[::2]  # rows and columns
            valid = raster.dataset_mask(window=window) > 0
            if not valid.any():
                continue
            image = raster.read([3, 2, 1] if raster.count >= 3 else [1, 1, 1], window=window)
            if image.dtype != np.uint8:
                image = np.rint(np.nan_to_num((image - base) * factor)).clip(0, 255)
            image = np.ascontiguousarray(image.transpose(1, 2, 0), np.uint8)
            yield row, (x, y, x1, y1), around, image, valid


def _parts(
    prediction: CrackPrediction, valid: np.ndarray, core: Box, corner: tuple[int, ...], width: int
) -> Iterator[tuple[Part, np.ndarray]]:
    """What a window holds of each crack, and its pixels near the window's border.

    Of what scores too low to be drawn only that counts which reaches over the border. The
    centreline is that of the crack with its surroundings, cut at the window's border, so that the
    parts of neighbouring windows add up. ``corner`` is x, y of the surroundings' first pixel.
    """
    found_here = [(x, True) for x in prediction.instances]
    found_here += [(x, False) for x in prediction.rejected]
    for found, is_drawn in found_here:
        x0, y0, x1, y1 = found.box
        known = found.mask & valid[y0:y1, x0:x1]
        instance = CrackInstance.from_mask(found.score, known, (x0, y0))
        if instance is None:
            continue
        pixels = np.argwhere(instance.mask)[:, ::-1] + np.add(instance.box[:2], corner)
        inside = pixels[((pixels >= core[:2]) & (pixels < core[2:])).all(axis=1)]
        if not len(inside) or (len(inside) == len(pixels) and not is_drawn):
            continue
        box = (*inside.min(axis=0).tolist(), *(inside.max(axis=0) + 1).tolist())
        measured = measure(instance)
        lines = [piece for line in measured.lines for piece in _clip(line + corner, core)]
        undrawn = None if is_drawn else inside @ (1, width)
        part = Part(instance.score, len(inside), box, measured.max_width_px, lines, undrawn)
        near = (pixels < np.add(core[:2], HALO)) | (pixels >= np.subtract(core[2:], HALO))
        x, y = pixels[near.any(axis=1)].T
        yield part, y * width + x


def _clip(line: np.ndarray, box: Box) -> list[np.ndarray]:
    """The stretches of a line, (N, 2) x, y, whose segments have their middle in a box."""
    middle = (line[:-1] + line[1:]) / 2.0
    inside = ((middle >= box[:2]) & (middle < box[2:])).all(axis=1)
    ends = np.flatnonzero(np.diff(inside, prepend=False, append=False)).reshape(-1, 2)
    return [line[start : stop + 1] for start, stop in ends]


def _join(parts: list[Part], lines: list[np.ndarray], scale: Scale | None) -> Record:
    """What the record says of one crack of these parts and branches."""
    scores, areas, boxes, widths, *_ = zip(*parts, strict=True)
    length, area = float(sum(way_along(line)[-1] for line in lines)), sum(areas)
    x0, y0 = np.min(boxes, axis=0)[:2].tolist()
    x1, y1 = np.max(boxes, axis=0)[2:].tolist()
    mean_width = area / max(length, 1.0)
    measured = Measurement(length, mean_width, max(mean_width, *widths), 0.0, ())
    return instance_json(max(scores), (x0, y0, x1, y1), area, measured, scale)
