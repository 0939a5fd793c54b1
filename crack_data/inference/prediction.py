"""What a prediction is: the instances found on one photo and its crack probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from ..calibration import Interval, spread

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class CrackInstance:
    """One crack, of one or several pieces."""

    score: float  # confidence in [0, 1]
    box: Box  # x0, y0, x1, y1 in px, half-open; encloses the mask tightly
    mask: np.ndarray = field(repr=False)  # within the box, bool (y1 - y0, x1 - x0)

    @classmethod
    def from_mask(
        cls, score: float, mask: np.ndarray, origin: tuple[int, int] = (0, 0)
    ) -> CrackInstance | None:
        """Crop a mask, bool (h, w) at ``origin`` x, y in px, to its pixels; None without any."""
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        if not width:
            return None
        x0, y0 = origin[0] + x, origin[1] + y
        cropped = mask[y : y + height, x : x + width]
        return cls(score, (x0, y0, x0 + width, y0 + height), cropped)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))


Cracks = Sequence[CrackInstance]


@dataclass(frozen=True)
class CrackPrediction:
    """The cracks of one photo."""

    instances: tuple[CrackInstance, ...]  # scored at least SCORE_THRESHOLD, none empty, best first
    # The best of those scored lower: not drawn, but average precision counts them.
    rejected: tuple[CrackInstance, ...]
    # uint8, of the photo's (height, width): crack probability x 255, zero where no instance is.
    probability: np.ndarray = field(repr=False)
    threshold: float  # a pixel is crack where its probability exceeds this
    # (256,) pixels of the whole photo by level of the crack map, also where no instance is.
    levels: np.ndarray = field(repr=False)
    interval: Interval | None = None  # the calibrated one, None without

    @cached_property
    def mask(self) -> np.ndarray:
        """The union of the instances' masks, bool (height, width)."""
        union = np.zeros(self.probability.shape, dtype=bool)
        for instance in self.instances:
            x0, y0, x1, y1 = instance.box
            union[y0:y1, x0:x1] |= instance.mask
        return union

    @cached_property
    def percent_masked(self) -> float:
        """Share of the photo's pixels that the union of the masks covers, x 100."""
        return 100.0 * np.count_nonzero(self.mask) / self.mask.size

    @property
    def percent_unmasked(self) -> float:
        """The rest: 100 - `percent_masked`."""
        return 100.0 - self.percent_masked

    @property
    def percent_range(self) -> tuple[float, float] | None:
        """The calibrated interval around `percent_masked`, None without calibration."""
        if self.interval is None:
            return None
        return self.interval.around(self.percent_masked, spread(self.levels))
