"""Small grey masks of all kinds, for hypothesis."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays


@st.composite
def greys(draw: st.DrawFn) -> np.ndarray:
    """Lines of several widths and specks, partly at the rim, some of them grey."""
    height, width = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    grey = np.zeros((height, width), np.uint8)
    point = st.tuples(st.integers(-3, width + 3), st.integers(-3, height + 3))
    for _ in range(draw(st.integers(0, 4))):
        start, end = draw(point), draw(point)
        level, thickness = draw(st.integers(60, 255)), draw(st.integers(1, 5))
        cv2.line(grey, start, end, level, thickness)
    noise = draw(arrays(np.uint8, (height, width), elements=st.integers(0, 255), fill=st.just(0)))
    return np.maximum(grey, noise)
