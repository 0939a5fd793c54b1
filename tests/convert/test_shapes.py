"""RLE and polygons decode to the components they were made of, bit for bit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from crack_data.convert.polygons import polygon_of
from crack_data.convert.rle import boxes_and_areas, encode_labels
from crack_data.convert.runs import Runs

SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 20))
MASKS = arrays(np.uint8, SHAPES, elements=st.integers(0, 1))


# Rows and columns of the photo above, below, left and right of the box.
MARGINS = st.tuples(*[st.sampled_from([0, 0, 1, 7])] * 4)


@given(mask=MASKS, connectivity=st.sampled_from([4, 8]), margins=MARGINS)
@settings(max_examples=200, deadline=None)
def test_rle_is_what_pycocotools_encodes(
    mask: np.ndarray, connectivity: int, margins: tuple[int, int, int, int]
) -> None:
    count, labels = cv2.connectedComponents(mask, connectivity=connectivity)
    above, below, left, right = margins
    whole = np.pad(labels, ((above, below), (left, right)))
    encoded = encode_labels(labels, count - 1, whole.shape, left, above)
    assert len(encoded) == count - 1
    for label, rle in enumerate(encoded, start=1):
        theirs = coco_mask.encode(np.asfortranarray((whole == label).astype(np.uint8)))
        assert rle["counts"] == theirs["counts"].decode()
        assert rle["size"] == theirs["size"]


@given(mask=MASKS.filter(np.any), x=st.integers(0, 900), y=st.integers(0, 900))
@settings(max_examples=100, deadline=None)
def test_boxes_and_areas_are_those_of_the_components(mask: np.ndarray, x: int, y: int) -> None:
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask)
    runs = Runs.of(mask, labels).renumbered(np.arange(count))
    boxes, areas = boxes_and_areas(runs, count - 1, x, y)
    assert boxes == (statistics[1:, :4] + [x, y, 0, 0]).tolist()
    assert areas == statistics[1:, 4].tolist()


def test_rle_of_a_whole_image_and_of_none() -> None:
    assert encode_labels(np.zeros((3, 4), np.int32), 0, (3, 4)) == []
    (rle,) = encode_labels(np.ones((3, 4), np.int32), 1, (3, 4))
    assert coco_mask.decode(rle).all()


@given(mask=MASKS.filter(np.any), x=st.integers(0, 900), y=st.integers(0, 900))
@settings(max_examples=200, deadline=None)
def test_polygons_decode_exactly(mask: np.ndarray, x: int, y: int) -> None:
    expected = np.zeros((y + mask.shape[0] + 1, x + mask.shape[1] + 1), np.uint8)
    expected[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    polygon = polygon_of(mask, x, y)
    assert np.array_equal(_decode(polygon, *expected.shape), expected)


@pytest.mark.parametrize("hole", [1, 5, 40])
def test_a_ring_keeps_its_hole(hole: int) -> None:
    mask = np.ones((hole + 6, hole + 4), np.uint8)
    mask[3:-3, 2:-2] = 0
    assert np.array_equal(_decode(polygon_of(mask, 0, 0), *mask.shape), mask)


def _decode(polygon: list[int], height: int, width: int) -> np.ndarray:
    return coco_mask.decode(coco_mask.frPyObjects([polygon], height, width))[..., 0]
