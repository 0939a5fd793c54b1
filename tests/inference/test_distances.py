from __future__ import annotations

import cv2
import numpy as np
import pytest

from crack_data.inference.distances import half_widths

from .drawn import draw_crack, line


@pytest.mark.parametrize("width", [1.5, 4, 25, 90])
def test_as_the_distance_transform_of_the_enlarged_mask(width: float) -> None:
    mask = np.pad(draw_crack(line((110.3, 90.2), 150, 33), width, (190, 220)), 1)
    fine = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    distance = cv2.distanceTransform(fine, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    rows, columns = np.nonzero(fine)
    assert half_widths(mask, rows, columns) == pytest.approx(distance[rows, columns] / 2, rel=1e-6)


def test_noise_and_no_pixels() -> None:
    mask = np.pad(np.random.default_rng(3).random((60, 80)) < 0.8, 1)
    fine = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    distance = cv2.distanceTransform(fine, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    rows, columns = np.nonzero(fine)
    assert half_widths(mask, rows, columns) == pytest.approx(distance[rows, columns] / 2, rel=1e-6)
    assert half_widths(mask, rows[:0], columns[:0]).shape == (0,)
