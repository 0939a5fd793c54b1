"""Thinning gives scikit-image's skeleton."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import skeletonize

from crack_data.thinning import thin


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Noise of any density, some of it closed to blobs or enlarged."""
    height, width = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = (rng.random((height, width)) < draw(st.floats(0.02, 1))).astype(np.uint8)
    side = draw(st.integers(1, 4))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    if draw(st.booleans()):
        mask = cv2.resize(mask, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    return np.pad(mask, 1).astype(bool)


@given(mask=masks())
@settings(max_examples=500, deadline=None)
def test_it_is_the_skeleton_of_scikit_image(mask: np.ndarray) -> None:
    assert np.array_equal(thin(mask), np.flatnonzero(skeletonize(mask)))
