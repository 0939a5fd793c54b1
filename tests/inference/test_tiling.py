from __future__ import annotations

import numpy as np
import pytest
from detectron2.config import CfgNode

from crack_data.errors import CrackError
from crack_data.inference.detector import Detections, Region
from crack_data.inference.prediction import CrackInstance
from crack_data.inference.predictor import cut_instances, to_uint8
from crack_data.inference.tiling import TileGrid, detect_tiled, join_pieces

from .detectors import dark_components, darkness
from .drawn import Points, draw_crack, line, wave


def keys(max_size: int = 100, size: int = 100, overlap: int = 30) -> CfgNode:
    return CfgNode({"MAX_SIZE": max_size, "TILE_SIZE": size, "TILE_OVERLAP": overlap})


def photo_of(*masks: np.ndarray) -> np.ndarray:
    photo = np.full((*masks[0].shape, 3), 180, dtype=np.uint8)
    for mask in masks:
        photo[mask] = 20
    return photo


def grid_for(photo: np.ndarray, size: int = 100, overlap: int = 30) -> TileGrid:
    grid = TileGrid.for_photo(*photo.shape[:2], keys(size, size, overlap))
    assert grid is not None
    return grid


def tiled(photo: np.ndarray, grid: TileGrid) -> tuple[list[CrackInstance], np.ndarray]:
    probability, regions = detect_tiled(photo, dark_components, grid)
    pieces = [cut_instances(tile, probability, 0.5) for tile in regions]
    return join_pieces(pieces, grid), probability


def untiled(photo: np.ndarray) -> list[CrackInstance]:
    found = dark_components(photo)
    return cut_instances(found.regions, to_uint8(found.crack_map), 0.5)


@pytest.mark.parametrize("length", [1, 99, 100, 101, 130, 169, 170, 171, 241, 1000])
def test_tiles_cover_and_overlap(length: int) -> None:
    grid = TileGrid.for_photo(length, 1000, keys())
    assert grid is not None
    assert grid.rows[0][0] == 0
    assert grid.rows[-1][1] == length
    for (_, stop), (start, _) in zip(grid.rows, grid.rows[1:], strict=False):
        assert stop - start >= 30
    sizes = {stop - start for start, stop in grid.rows}
    assert len(sizes) == 1
    assert max(sizes) <= min(100, length)


def test_tiles_are_no_larger_than_their_number_asks_for() -> None:
    grid = TileGrid.for_photo(3000, 4000, keys(1024, 1024, 64))
    assert grid is not None
    assert {y1 - y0 for y0, y1 in grid.rows} == {800}
    assert {x1 - x0 for x0, x1 in grid.columns} == {864}
    assert (len(grid.rows), len(grid.columns)) == (4, 5)


def test_small_photos_and_max_size_zero_are_not_tiled() -> None:
    assert TileGrid.for_photo(100, 100, keys()) is None
    assert TileGrid.for_photo(9000, 9000, keys(max_size=0)) is None


@pytest.mark.parametrize("overlap", [0, -1, 51])
def test_an_overlap_that_cannot_be_is_named(overlap: int) -> None:
    with pytest.raises(CrackError, match="TILE_OVERLAP"):
        TileGrid.for_photo(200, 200, keys(overlap=overlap))


@pytest.mark.parametrize(
    "points",
    [
        line((85.3, 85.2), 200, 45),  # through the corner that four tiles share
        line((85.3, 85.2), 200, 135),
        line((85.3, 100.2), 150, 0),
        line((85.3, 85.2), 150, 90),  # within an overlap, all along
        wave((5.3, 85.2), 160, 40, 90),
    ],
    ids=["rising", "falling", "level", "upright", "wave"],
)
@pytest.mark.parametrize("width", [1.5, 4, 12])
def test_a_crack_across_four_tiles_is_one(points: Points, width: float) -> None:
    photo = photo_of(draw_crack(points, width, (170, 170)))
    grid = grid_for(photo)
    assert len(grid.boxes()) == 4
    (whole,) = untiled(photo)
    found, _ = tiled(photo, grid)
    assert len(found) == 1
    assert found[0].box == whole.box
    assert np.count_nonzero(found[0].mask != whole.mask) <= 0.01 * whole.area


def test_what_no_border_crosses_stays_as_it_is() -> None:
    masks = [draw_crack(line((40.3, y), 40, 0), 4, (300, 400)) for y in (20.2, 50.2)]
    photo = photo_of(*masks)
    found, probability = tiled(photo, grid_for(photo))
    assert sorted(found, key=lambda x: x.box) == sorted(
        [CrackInstance.from_mask(x.score, m) for x, m in zip(found, masks, strict=True)],
        key=lambda x: x.box,
    )
    assert np.array_equal(probability, to_uint8(darkness(photo)))


def test_parallel_cracks_through_many_tiles_stay_apart() -> None:
    masks = [draw_crack(line((200.3, y), 380, 3), 4, (300, 400)) for y in (60.2, 110.2, 200.2)]
    photo = photo_of(*masks)
    found, _ = tiled(photo, grid_for(photo))
    assert len(found) == 3
    for mask in masks:
        assert any(
            np.array_equal(CrackInstance.from_mask(x.score, mask).mask, x.mask) for x in found
        )


def test_branches_that_meet_in_another_tile_are_one_crack() -> None:
    """The right tile sees two cracks, the left one where they part."""
    fork = [(40.2, 50.3), (160.2, 20.3)], [(40.2, 50.3), (160.2, 80.3)]
    photo = photo_of(np.any([draw_crack(arm, 4, (100, 170)) for arm in fork], axis=0))
    (whole,) = untiled(photo)
    found, _ = tiled(photo, grid_for(photo))
    assert len(found) == 1
    assert np.array_equal(found[0].mask, whole.mask)


def test_what_one_tile_missed_has_no_cut_edge() -> None:
    """The left tile sees a crack that the right one, in the overlap, does not."""
    photo = photo_of(draw_crack([(10.2, 50.3), (95.2, 50.3)], 4, (100, 170)))
    grid = grid_for(photo)
    seen: list[int] = []

    def left_only(image: np.ndarray) -> Detections:
        seen.append(1)
        blank = Detections((), np.zeros(image.shape[:2], dtype=np.float32))
        return dark_components(image) if len(seen) == 1 else blank

    probability, regions = detect_tiled(photo, left_only, grid)
    assert np.array_equal(probability, to_uint8(darkness(photo)))
    assert len(join_pieces([cut_instances(x, probability, 0.5) for x in regions], grid)) == 1


def test_overlaps_are_blended() -> None:
    """Tiles that disagree fade into each other instead of meeting in a step."""
    photo = np.zeros((100, 170, 3), dtype=np.uint8)
    levels = iter((0.4, 0.8))

    def flat(image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        level = np.full((height, width), next(levels), dtype=np.float32)
        return Detections((Region(1.0, (0, 0, width, height)),), level)

    row = detect_tiled(photo, flat, grid_for(photo))[0][50].astype(int)
    assert (row[0], row[-1]) == (102, 204)
    assert np.abs(np.diff(row)).max() <= 8


def test_a_photo_without_cracks() -> None:
    photo = np.full((250, 250, 3), 200, dtype=np.uint8)
    found, probability = tiled(photo, grid_for(photo))
    assert found == []
    assert not probability.any()
