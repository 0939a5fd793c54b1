"""Signs that a mask does not belong to its photo the way it stands."""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ..masks.components import ByteMask
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
# 1743 pairs of four sets gains 0.10 (tools/bench_convert.py prints both).
MIN_GAIN = 0.14

_SAYS_CRACK = re.compile(r"crack|riss", re.IGNORECASE)
_SAYS_NONE = re.compile(
    r"(no|non|un|without|free)[_ -]?(crack|riss)|crack[_ -]?free", re.IGNORECASE
)

Map = npt.NDArray[np.float32]


def suspicions(stem: str, small_grey: ByteMask, mask: ByteMask) -> dict[str, float]:
    """Flags of one pair that can be told without the others.

    Args:
        stem: the photo's name.
        small_grey: the photo in grey at a quarter of its size, see `probe_photo`.
        mask: the clean mask, HxW of 0 and 1.
    """
    crack = cv2.countNonZero(mask)
    if not crack:
        named = _SAYS_CRACK.search(stem) and not _SAYS_NONE.search(stem)
        return {"empty": 1.0} if named else {}
    flags = {}
    coverage = 100 * crack / mask.size
    if coverage > MAX_COVERAGE:
        flags["coverage"] = coverage
    gains = turning_gains(small_grey, mask)
    kind = max(gains, key=lambda name: gains[name])
    if gains[kind] > MIN_GAIN:
        flags[kind] = gains[kind]
    return flags


def turning_gains(small_grey: ByteMask, mask: ByteMask) -> dict[str, float]:
    """How much better a mask fits the photo's dark lines turned than as it stands.

    Args:
        small_grey, mask: as in `suspicions`.

    Returns:
        Difference of correlation coefficients for "upside_down" and "mirrored" (the better axis).
    """
    lines = _normalized(dark_lines(small_grey))
    small = np.asarray(Image.fromarray(mask * np.uint8(255)).reduce(SCALE))
    drawn = _normalized(cv2.boxFilter(small, cv2.CV_32F, (3, 3)))
    as_is = float(np.vdot(lines, drawn))
    mirrored = max(np.vdot(lines, drawn[:, ::-1]), np.vdot(lines, drawn[::-1]))
    return {
        "upside_down": float(np.vdot(lines, drawn[::-1, ::-1])) - as_is,
        "mirrored": float(mirrored) - as_is,
    }


def dark_lines(grey: ByteMask) -> Map:
    """How much darker than its surroundings each pixel of a photo, HxW, is, in local deviations.

    The larger of two differences of box means, for lines up to about 2 and 4 px wide, over the
    local standard deviation, cut at 3 so that a few black spots do not decide.
    """
    photo = grey.astype(np.float32)
    line = _box(photo, 3)
    fine, coarse = _box(photo, 5) - line, _box(photo, 9) - line
    deviation = np.sqrt(_box(np.square(photo - _box(photo, 21)), 31)) + 2
    return np.clip(np.maximum(fine, coarse) / deviation, 0, 3)


def _box(values: Map, side: int) -> Map:
    smoothed: Any = cv2.boxFilter(values, -1, (side, side))
    return smoothed


def _normalized(values: Map) -> Map:
    centred = values - values.mean()
    length = float(np.linalg.norm(centred))
    return centred / length if length else centred
