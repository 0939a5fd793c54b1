"""Pieces of one crack get one number."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from crack_data.convert.linking import link_pieces


def _link(mask: np.ndarray, gap: float) -> list[int]:
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    return link_pieces(labels, count - 1, gap).tolist()


def _dashes(gap: int) -> np.ndarray:
    """A line of three dashes, ``gap`` px of background between them, and a fourth far off."""
    mask = np.zeros((100, 200), np.uint8)
    for start in range(10, 10 + 3 * (20 + gap), 20 + gap):
        mask[10:13, start : start + 20] = 1
    mask[80:83, 10:40] = 1
    return mask


@pytest.mark.parametrize("gap", [2, 6, 12, 24])
def test_pieces_in_line_are_one_crack_up_to_the_gap(gap: int) -> None:
    assert _link(_dashes(gap), gap) == [0, 1, 1, 1, 2]
    assert _link(_dashes(gap), gap - 2) == [0, 1, 2, 3, 4]


def test_without_gap_each_piece_is_a_crack() -> None:
    assert _link(_dashes(2), 0) == [0, 1, 2, 3, 4]


def test_no_piece_and_one_piece() -> None:
    assert _link(np.zeros((5, 6), np.uint8), 12) == [0]
    assert _link(np.ones((5, 6), np.uint8), 12) == [0, 1]
    assert link_pieces(np.zeros((0, 0), np.int32), 0, 12).tolist() == [0]
