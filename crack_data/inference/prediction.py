"""What a prediction is: the instances found on one photo and its crack probability."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..calibration import Interval, spread

Box = tuple[int, int, int, int]


class CrackInstance:
    """One crack, of one or several pieces.

    Attributes:
        score: confidence in [0, 1].
        box: x0, y0, x1, y1 in px, half-open; encloses the mask tightly.
    """

    def __init__(self, score: float, box: Box, mask: np.ndarray, number: int = 1) -> None:
        """Take a mask, or the number of the crack in a label map that a photo's cracks share.

        Args:
            score, box: see the attributes.
            mask: (y1 - y0, x1 - x0), bool, or labels of which ``number`` marks this crack.
            number: see ``mask``.
        """
        self.score = score
        self.box = box
        self._labels = mask
        self._number = number

    @classmethod
    def from_mask(
        cls, score: float, mask: np.ndarray, origin: tuple[int, int] = (0, 0), number: int = 1
    ) -> CrackInstance | None:
        """Crop a mask, or label map, to the crack's pixels; None where it has none.

        Args:
            score, mask, number: see the constructor; the mask of any size, (H, W).
            origin: x, y in px of the mask's top left pixel on the photo.
        """
        rows = np.flatnonzero((mask == number).any(axis=1))
        if not len(rows):
            return None
        y0, y1 = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero((mask[y0:y1] == number).any(axis=0))
        x0, x1 = int(columns[0]), int(columns[-1]) + 1
        x, y = origin
        return cls(score, (x + x0, y + y0, x + x1, y + y1), mask[y0:y1, x0:x1], number)

    @property
    def mask(self) -> np.ndarray:
        """The mask within the box, bool (y1 - y0, x1 - x0), a new array at every access."""
        return self._labels == self._number

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))

    def __repr__(self) -> str:
        return f"CrackInstance(score={self.score:.3f}, box={self.box})"


@dataclass(frozen=True)
class CrackPrediction:
    """The cracks of one photo.

    Attributes:
        height, width: of the photo, px.
        instances: scored at least MODEL.CRACK_MAP.SCORE_THRESHOLD, none empty, best first.
        rejected: the best of those scored lower; not drawn, but average precision counts them.
        probability: uint8 (height, width), crack probability x 255, zero where no instance is.
        threshold: a pixel is crack where its probability exceeds this.
        timing: milliseconds by stage.
        levels: (256,) pixels of the whole photo by level of the crack map, also where no instance
            is.
        interval: the calibrated one, None without.
    """

    height: int
    width: int
    instances: tuple[CrackInstance, ...]
    rejected: tuple[CrackInstance, ...]
    probability: np.ndarray = field(repr=False)
    threshold: float
    timing: dict[str, float]
    levels: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(256, np.int64))
    interval: Interval | None = None

    @property
    def mask(self) -> np.ndarray:
        """The union of the instances' masks, bool (height, width), built at every access."""
        union = np.zeros((self.height, self.width), dtype=bool)
        for instance in self.instances:
            x0, y0, x1, y1 = instance.box
            union[y0:y1, x0:x1] |= instance.mask
        return union

    @cached_property
    def percent_masked(self) -> float:
        """Share of the photo's pixels that the union of the masks covers, x 100."""
        return 100.0 * np.count_nonzero(self.mask) / (self.height * self.width)

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
