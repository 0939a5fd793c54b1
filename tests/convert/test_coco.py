"""RLE and polygons decode to the masks they were made of, bit for bit."""

from __future__ import annotations

import io
import json
import os

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from crack_data.convert.coco import encode_mask, to_polygons, write_coco
from crack_data.convert.pairing import PairRecord
from crack_data.segmentation import decode_mask

SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 20))
MASKS = arrays(np.uint8, SHAPES, elements=st.integers(0, 1))
# Rows and columns of the photo above, below, left and right of the box.
MARGINS = st.tuples(*[st.sampled_from([0, 0, 1, 7])] * 4)


@given(mask=MASKS, margins=MARGINS)
@settings(max_examples=80, deadline=None)
def test_rle_is_what_pycocotools_encodes(
    mask: np.ndarray, margins: tuple[int, int, int, int]
) -> None:
    above, below, left, right = margins
    whole = np.pad(mask, ((above, below), (left, right)))
    rle = encode_mask(mask, left, above, whole.shape)
    theirs = coco_mask.encode(np.asfortranarray(whole))
    assert rle == {"size": theirs["size"], "counts": theirs["counts"].decode()}
    assert np.array_equal(decode_mask(rle, *whole.shape), whole)
    plain = {"size": list(whole.shape), "counts": _counts(whole)}
    assert np.array_equal(decode_mask(plain, *whole.shape), whole)


def _counts(mask: np.ndarray) -> list[int]:
    """Run lengths column by column, as COCO writes them uncompressed."""
    counts, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


@given(mask=MASKS.filter(np.any), x=st.integers(0, 900), y=st.integers(0, 900))
@settings(max_examples=80, deadline=None)
def test_polygons_decode_exactly(mask: np.ndarray, x: int, y: int) -> None:
    expected = np.zeros((y + mask.shape[0] + 1, x + mask.shape[1] + 1), np.uint8)
    expected[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    polygons = list(to_polygons(mask, x, y))
    assert len(polygons) == cv2.connectedComponents(mask)[0] - 1
    assert np.array_equal(decode_mask(polygons, *expected.shape), expected)


def test_polygons_of_many_pieces_and_holes() -> None:
    rng = np.random.default_rng(0)
    mask = (rng.random((500, 500)) > 0.05).astype(np.uint8)
    mask[:, ::50] = 0
    polygons = list(to_polygons(mask, 0, 0))
    assert np.array_equal(decode_mask(polygons, *mask.shape), mask)


def test_no_polygon_is_no_pixel() -> None:
    assert not decode_mask([], 3, 4).any()


def test_an_empty_set_is_valid_json() -> None:
    stream = io.BytesIO()
    write_coco(stream, [], {"description": "none"})
    content = json.loads(stream.getvalue())
    assert (content["images"], content["annotations"]) == ([], [])


def test_a_name_of_any_bytes_is_ascii_json_and_comes_back() -> None:
    name = os.fsdecode(b"Stra\xdfe \xe4 \xc3\xa4.jpg")  # Latin-1, then UTF-8
    stream = io.BytesIO()
    write_coco(stream, [PairRecord("", name, width=4, height=3)], {})
    (image,) = json.loads(stream.getvalue().decode("ascii"))["images"]
    assert os.fsencode(image["file_name"]) == b"Stra\xdfe \xe4 \xc3\xa4.jpg"
