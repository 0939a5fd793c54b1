"""What a prediction is: the instances found on one photo and its crack probability."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from pycocotools import mask as coco_mask


@dataclass(frozen=True)
class CrackInstance:
    """One crack. Its mask is kept run-length encoded: a crack across a huge photo costs bytes.

    Attributes:
        score: confidence in [0, 1].
        box: x0, y0, x1, y1 in px, half-open; encloses the mask tightly.
        counts: COCO's compressed run-length code of the mask within the box.
    """

    score: float
    box: tuple[int, int, int, int]
    counts: bytes = field(repr=False)

    @classmethod
    def from_mask(
        cls, score: float, mask: np.ndarray, origin: tuple[int, int] = (0, 0)
    ) -> CrackInstance:
        """Encode a mask, cropped to its pixels.

        Args:
            score: confidence in [0, 1].
            mask: (H, W) bool, at least one pixel set.
            origin: x, y in px of the mask's top left pixel on the photo.
        """
        rows = np.flatnonzero(mask.any(axis=1))
        columns = np.flatnonzero(mask.any(axis=0))
        y0, y1 = int(rows[0]), int(rows[-1]) + 1
        x0, x1 = int(columns[0]), int(columns[-1]) + 1
        crop = np.asfortranarray(mask[y0:y1, x0:x1], dtype=np.uint8)
        x, y = origin
        box = (x + x0, y + y0, x + x1, y + y1)
        return cls(float(score), box, coco_mask.encode(crop)["counts"])

    @property
    def mask(self) -> np.ndarray:
        """The mask within the box, bool (y1 - y0, x1 - x0), decoded at every access."""
        return coco_mask.decode(self._rle).astype(bool)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(coco_mask.area(self._rle))

    @property
    def _rle(self) -> dict[str, object]:
        x0, y0, x1, y1 = self.box
        return {"size": [y1 - y0, x1 - x0], "counts": self.counts}


@dataclass(frozen=True)
class CrackPrediction:
    """The cracks of one photo.

    Attributes:
        height, width: of the photo, px.
        instances: scored at least MODEL.CRACK_MAP.SCORE_THRESHOLD, none empty, best first.
        probability: uint8 (height, width), crack probability x 255, zero where no instance is.
        threshold: a pixel is crack where its probability exceeds this.
        timing: milliseconds by stage.
    """

    height: int
    width: int
    instances: tuple[CrackInstance, ...]
    probability: np.ndarray = field(repr=False)
    threshold: float
    timing: dict[str, float]

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
