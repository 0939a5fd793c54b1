"""Lines drawn as masks."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest

from crack_data.segmentation import decode_mask, draw_line


def test_a_long_line_is_drawn_in_parts_and_a_far_one_refused() -> None:
    mask = np.zeros((900, 1000), np.uint8)
    draw_line(mask, np.array([[3.2, 8.1], [990.7, 870.3]]), 4.5)
    y, x = np.indices(mask.shape) + 0.5
    way = np.array([987.5, 862.2])
    along = np.clip(((x - 3.2) * way[0] + (y - 8.1) * way[1]) / (way @ way), 0, 1)
    away = np.hypot(x - 3.2 - along * way[0], y - 8.1 - along * way[1])
    assert np.array_equal(mask[abs(away - 2.25) > 1e-4], (away < 2.25)[abs(away - 2.25) > 1e-4])
    beyond = np.zeros((900, 1000), np.uint8)
    tracemalloc.start()
    draw_line(beyond, np.array([[-400.0, -400.0], [500.0, 500.0]]), 4.5)
    assert tracemalloc.get_traced_memory()[1] < 10e6  # of 80 bytes a pixel of the photo
    tracemalloc.stop()
    assert beyond[:500, :500].diagonal().all()
    for far in (1e300, -5000.0):
        with pytest.raises(ValueError, match="a line far outside its photo of 1000 x 900 px"):
            draw_line(mask, np.array([[3.2, 8.1], [far, 870.3]]), 4.5)


def test_a_rectangle_among_contours_from_pixel_to_pixel_is_one_too() -> None:
    mask = np.zeros((60, 90), np.uint8)
    cv2.line(mask, (5, 3), (70, 50), 1, 3)
    mask[20:23, 70:76] = 1
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rings = [ring.ravel().tolist() for ring in found]
    assert len(rings) == 2
    assert np.array_equal(decode_mask(rings, 60, 90, contours=True), mask)
