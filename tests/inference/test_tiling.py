from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from detectron2.config import CfgNode

from crack_data.inference.tiling import blend_tiles, run_tiles, tile_spans
from crack_data.modeling.crack_rcnn import NetworkOutput
from crack_data.modeling.instances import Detection

from .drawn import draw_crack, line


def keys(size: int = 100, overlap: int = 30) -> CfgNode:
    return CfgNode({"TILE_SIZE": size, "TILE_OVERLAP": overlap})


def darkness(image_bgr: np.ndarray) -> NetworkOutput:
    """What is dark is crack, and there is one detection, over all of the picture."""
    height, width = image_bgr.shape[:2]
    return NetworkOutput(255 - image_bgr[..., 0], [Detection(0.5, (0, 0, width, height))])


@pytest.mark.parametrize("length", [1, 99, 100, 101, 130, 169, 170, 171, 241, 1000])
def test_tiles_cover_and_overlap(length: int) -> None:
    rows, _ = tile_spans(length, 1000, keys())
    assert rows[0][0] == 0
    assert rows[-1][1] == length
    for (_, stop), (start, _) in itertools.pairwise(rows):
        assert stop - start >= 30
    sizes = {stop - start for start, stop in rows}
    assert len(sizes) == 1
    assert max(sizes) <= min(100, length)


def test_tiles_are_no_larger_than_their_number_asks_for() -> None:
    rows, columns = tile_spans(3000, 4000, keys(1024, 64))
    assert {y1 - y0 for y0, y1 in rows} == {800}
    assert {x1 - x0 for x0, x1 in columns} == {864}
    assert (len(rows), len(columns)) == (4, 5)


@pytest.mark.parametrize(("side", "size"), [(100, 100), (9000, 0)])
def test_small_photos_and_tile_size_zero_are_one_tile(side: int, size: int) -> None:
    assert tile_spans(side, side, keys(size)) == ([(0, side)], [(0, side)])


@pytest.mark.parametrize("shape", [(170, 170), (100, 400), (333, 90), (241, 977)])
def test_tiles_that_agree_give_the_map_of_the_whole(shape: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    photo[draw_crack(line((shape[1] / 2, shape[0] / 2), 300, 30), 5, shape)] = 0
    assert len(tile_spans(*shape, keys())[0]) + len(tile_spans(*shape, keys())[1]) > 2
    found = blend_tiles(photo, keys(), darkness)
    assert np.array_equal(found.probability, darkness(photo).probability)


def test_detections_lie_on_the_photo() -> None:
    rows, columns = tile_spans(170, 240, keys())
    found = blend_tiles(np.zeros((170, 240, 3), np.uint8), keys(), darkness)
    assert [x.box for x in found.detections] == [
        (x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns
    ]


def test_overlaps_are_blended() -> None:
    """Tiles that disagree fade into each other instead of meeting in a step."""
    levels = iter((102, 204))

    def flat(image: np.ndarray) -> NetworkOutput:
        return NetworkOutput(np.full(image.shape[:2], next(levels), np.uint8), [])

    row = blend_tiles(np.zeros((100, 170, 3), np.uint8), keys(), flat).probability[50].astype(int)
    assert (row[0], row[-1]) == (102, 204)
    assert 0 < np.abs(np.diff(row)).max() <= 8


def narrow_darkness(image_bgr: np.ndarray) -> NetworkOutput:
    """A network that knows cracks up to 30 px wide: of wider ones it sees nothing."""
    dark = (image_bgr[..., 0] < 128).astype(np.uint8)
    padded = cv2.copyMakeBorder(dark, 40, 40, 40, 40, cv2.BORDER_REPLICATE)
    wide = cv2.morphologyEx(padded, cv2.MORPH_OPEN, np.ones((31, 31), np.uint8))[40:-40, 40:-40]
    crack = dark & ~(cv2.dilate(wide, np.ones((3, 3), np.uint8)) > 0)
    x, y, width, height = cv2.boundingRect(crack)
    mask = np.full((height, width), True)
    box = (x, y, x + width, y + height)
    return NetworkOutput(255 * crack, [Detection(0.9, box, mask)] if crack.any() else [])


@pytest.mark.parametrize("shape", [(420, 400), (400, 2200)], ids=["one overview", "two"])
def test_a_crack_too_wide_for_tiles_comes_from_the_overview(shape: tuple[int, int]) -> None:
    height = shape[0]
    photo = np.full((*shape, 3), 250, np.uint8)
    photo[:, 150:210] = 20  # wider than any tile knows
    photo[draw_crack(line((320, height / 2), 300, 80), 4, shape)] = 20
    dark = photo[..., 0] < 128
    tiled = blend_tiles(photo, keys(), narrow_darkness)
    assert not tiled.probability[:, 150:210].any()
    found = run_tiles(photo, keys(), narrow_darkness)
    crack = found.probability > 127
    assert (crack & dark)[:, 150:210].mean() > 0.9
    assert (crack & ~dark).sum() < 0.05 * dark.sum()
    thin = np.s_[:, 230:]
    assert np.array_equal(found.probability[thin], tiled.probability[thin])
    (overview,) = [x for x in found.detections if x.box[3] - x.box[1] == height]
    x0, y0, x1, y1 = overview.box
    assert 142 <= x0 <= 158  # a pixel of the overview is 8 px at most
    assert x1 >= 202
    assert overview.mask is not None
    assert overview.mask.shape == (y1 - y0, x1 - x0)
    assert overview.mask.all()


def test_an_overview_does_not_thicken_what_it_shows_as_hairlines() -> None:
    """A network draws a line of half a pixel too with some 3 px, in the photo eight times that."""

    def draw_thick(image: np.ndarray) -> NetworkOutput:
        dark = cv2.dilate((image[..., 0] < 240).astype(np.uint8), np.ones((3, 3), np.uint8))
        return NetworkOutput(255 * dark, [])

    photo = np.full((800, 2200, 3), 250, np.uint8)
    photo[draw_crack(line((1100, 400), 1800, 20), 4, photo.shape[:2])] = 20
    tiled = blend_tiles(photo, keys(), draw_thick).probability
    assert tiled.any()
    assert np.array_equal(run_tiles(photo, keys(), draw_thick).probability, tiled)


def test_no_overview_of_less_than_one_and_a_half_tiles() -> None:
    sizes = []

    def look(image: np.ndarray) -> NetworkOutput:
        sizes.append(image.shape[:2])
        return darkness(image)

    run_tiles(np.full((90, 149, 3), 250, np.uint8), keys(), look)
    assert len(sizes) == 2
    run_tiles(np.full((90, 150, 3), 250, np.uint8), keys(), look)
    assert sizes[-1] == (60, 100)
