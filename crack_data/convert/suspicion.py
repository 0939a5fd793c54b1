"""Signs that a mask does not belong to its photo the way it stands."""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .components import ByteMask
from .photo_probe import SCALE

# What each flag means, and in which unit its value is.
FLAGS = {
    "coverage": "percent of the photo that is crack, over 40",
    "upside_down": "gain in correlation with the photo's dark lines by turning the mask by 180°",
    "mirrored": "gain in correlation with the photo's dark lines by mirroring the mask",
    "empty": "1: no crack in the mask of a photo whose name says crack",
    "alike": "number of photos in the set that share this very mask",
}
MAX_COVERAGE = 40.0
# Six masks of CRACK500's 251 are known to stand upside down: they gain 0.19 to 0.37, the next of
# 1743 pairs of four sets gains 0.10 (benchmarks/bench_masks.py prints both).
MIN_GAIN = 0.14

_SAYS_CRACK = re.compile(r"crack|riss", re.IGNORECASE)
_SAYS_NONE = re.compile(
    r"(no|non|un|without|free)[_ -]?(crack|riss)|crack[_ -]?free", re.IGNORECASE
)

Map = npt.NDArray[np.float32]


def suspicions(
    stem: str, small_grey: ByteMask, mask: ByteMask, x: int = 0, y: int = 0, pixels: int = 0
) -> dict[str, float]:
    """Flags of one pair that can be told without the others.

    Args:
        stem: the photo's name.
        small_grey: the photo in grey at a quarter of its size, see `probe_photo`.
        mask: the clean mask, HxW of 0 and 1, or a box of it that holds all cracks.
        x, y: corner of that box, px.
        pixels: of the whole mask, where ``mask`` is but a box.
    """
    crack = cv2.countNonZero(mask) if mask.size else 0
    if not crack:
        named = _SAYS_CRACK.search(stem) and not _SAYS_NONE.search(stem)
        return {"empty": 1.0} if named else {}
    flags = {}
    coverage = 100 * crack / (pixels or mask.size)
    if coverage > MAX_COVERAGE:
        flags["coverage"] = coverage
    gains = turning_gains(small_grey, mask, x, y)
    kind = max(gains, key=lambda name: gains[name])
    if gains[kind] > MIN_GAIN:
        flags[kind] = gains[kind]
    return flags


def turning_gains(small_grey: ByteMask, mask: ByteMask, x: int = 0, y: int = 0) -> dict[str, float]:
    """How much better a mask fits the photo's dark lines turned than as it stands.

    Args:
        small_grey, mask, x, y: as in `suspicions`.

    Returns:
        Difference of correlation coefficients for "upside_down" and "mirrored" (the better axis).
    """
    lines = dark_lines(small_grey)
    drawn = cv2.boxFilter(_reduced(mask, x, y, small_grey.shape), cv2.CV_32F, (3, 3))
    # Turning leaves the means, so they cancel out, and both deviations.
    as_is = np.vdot(lines, drawn)
    mirrored = max(np.vdot(lines, cv2.flip(drawn, axis)) for axis in (0, 1))
    scale = lines.size * _deviation(lines) * _deviation(drawn) or 1.0
    return {
        "upside_down": float(np.vdot(lines, cv2.flip(drawn, -1)) - as_is) / scale,
        "mirrored": float(mirrored - as_is) / scale,
    }


def _reduced(mask: ByteMask, x: int, y: int, shape: tuple[int, ...]) -> ByteMask:
    """A mask of this smaller shape, 0 to 255, of which the given one is a box at x, y."""
    left, top = x % SCALE, y % SCALE
    below, right = -(mask.shape[0] + top) % SCALE, -(mask.shape[1] + left) % SCALE
    box: Any = cv2.copyMakeBorder(mask, top, below, left, right, cv2.BORDER_CONSTANT) * 255
    for _ in range(SCALE // 2):  # OpenCV is quick at halving
        box = cv2.resize(box, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    small = np.zeros(shape, np.uint8)
    row, column = y // SCALE, x // SCALE
    small[row : row + box.shape[0], column : column + box.shape[1]] = box
    return small


def dark_lines(grey: ByteMask) -> Map:
    """How much darker than its surroundings each pixel of a photo, HxW, is, in local deviations.

    The larger of two differences of box means, for lines up to about 2 and 4 px wide, over the
    local standard deviation, cut at 3 so that a few black spots do not decide.
    """
    line = _box(grey, 3)
    darker = cv2.subtract(cv2.max(_box(grey, 5), _box(grey, 9)), line)
    rough = cv2.subtract(grey, _box(grey, 21), dtype=cv2.CV_32F)
    deviation = np.sqrt(cv2.sqrBoxFilter(rough, cv2.CV_32F, (31, 31))) + 2
    return np.clip(darker / deviation, 0, 3)


def _box(values: ByteMask, side: int) -> Map:
    smoothed: Any = cv2.boxFilter(values, cv2.CV_32F, (side, side))
    return smoothed


def _deviation(values: Map) -> float:
    return float(cv2.meanStdDev(values)[1][0, 0])
