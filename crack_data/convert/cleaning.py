"""A grey mask → its cracks: clean binary mask, specks dropped, the pieces of a crack linked."""

from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import CrackError
from .linking import DEFAULT_GAP, cluster_pieces, link_pieces, renumber

ByteMask = npt.NDArray[np.uint8]

_REACH = 9  # px of ringing: through the block next to the edge's own, and the pixel at its rim
_SPECK_AREA = 4  # px at most, counted 4-connected so that a checkerboard falls apart
# Specks are crowded where more than so many of 5x5 px are; a line of single pixels has five.
_CROWD = 6
# Crowded specks within reach, at least, and per px of rim of solid crack. Measured: masks with a
# halo 0.09 and more (crackseg448), without one 0.001 and less (all sets of other sources).
_HALO, _HALO_SHARE = 20, 0.08
# Beside a crack that is 3 px thick somewhere, pieces below this area, px, are ringing of a JPEG;
# beside a thin one, those below the second are salt noise.
_RINGING, _SALT = 16, 4


@dataclass(frozen=True)
class CleaningOptions:
    """How a grey mask whose cracks are light becomes a binary one. Lengths in px, areas in px²."""

    threshold: str | int = "auto"  # or "otsu", or the 8-bit level above which a pixel is crack
    opening: int = 0  # side of the square kernel; 0 or 1 leaves the step out
    closing: int = 0
    min_area: int = 28  # smaller components are dropped, but for those of a larger cluster:
    cluster_gap: int = 6  # components this near are judged together; 0 judges each by itself
    fill_holes: int = 0  # holes up to this area are filled
    remove_halo: bool = True  # of specks that double compression leaves, see `remove_ringing`
    link_gap: int = DEFAULT_GAP  # see `linking`; 0 makes each component an instance
    connectivity: int = 8  # or 4

    def __post_init__(self) -> None:
        level = self.threshold
        if level not in ("auto", "otsu") and not (isinstance(level, int) and 0 <= level < 255):
            raise CrackError(f"threshold must be auto, otsu or a level from 0 to 254, not {level}")
        if self.connectivity not in (4, 8):
            raise CrackError(f"connectivity must be 4 or 8, not {self.connectivity}")
        for field in fields(self)[1:]:
            if getattr(self, field.name) < 0:
                raise CrackError(f"{field.name} must not be negative")
        if max(self.opening, self.closing) > 255:  # wider than any crack
            raise CrackError("opening and closing must be 255 px or less")


PRESETS = {
    "thin": CleaningOptions(),
    "classic": CleaningOptions(
        threshold=127, opening=2, closing=2, min_area=200, cluster_gap=0, remove_halo=False,
        link_gap=0,
    ),
}  # fmt: skip


def find_cracks(grey: ByteMask, options: CleaningOptions) -> np.ndarray:
    """Clean a grey mask, HxW uint8, and number its cracks: a label map HxW, 0 for background."""
    mask = binarize(grey, options.threshold)
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    if options.remove_halo:
        mask = remove_ringing(mask)
    if options.opening > 1:
        mask = _morphology(mask, options.opening, (cv2.erode, cv2.dilate))
    if options.closing > 1:
        mask = _morphology(mask, options.closing, (cv2.dilate, cv2.erode))
    if options.fill_holes:
        mask = fill_holes(mask, options.fill_holes, options.connectivity)
    _, labels = cv2.connectedComponents(mask, connectivity=options.connectivity)
    areas = np.bincount(labels.ravel())  # OpenCV's own statistics take three times as long
    # Specks are dropped: what is neither large nor of a cluster that is large together.
    keep = areas >= options.min_area
    if options.cluster_gap and not keep[1:].all():
        cluster = cluster_pieces(labels, len(areas) - 1, options.cluster_gap)
        total = np.bincount(cluster[1:], areas[1:])[cluster]
        solid = np.unique(labels[cv2.erode(mask, None) > 0])  # by 3x3
        thick = np.isin(cluster, cluster[solid])
        beside_large = np.isin(cluster, cluster[1:][keep[1:]])
        least = np.where(thick, _RINGING, np.where(beside_large, _SALT, 1))
        keep |= (total >= options.min_area) & (areas >= least)
    keep[0] = False
    labels = renumber(labels, np.cumsum(keep) * keep)
    return renumber(labels, link_pieces(labels, int(keep.sum()), options.link_gap))


def binarize(grey: ByteMask, threshold: str | int) -> ByteMask:
    """The pixels of a grey mask, HxW uint8, above a threshold: 0 and 1."""
    if not isinstance(threshold, int):
        low, high = int(grey.min()), int(grey.max())
        if threshold == "otsu" and high > low:
            threshold = int(cv2.threshold(grey, 0, 1, cv2.THRESH_OTSU)[0])
        else:
            threshold = auto_level(low, high)
    return np.greater(grey, threshold).view(np.uint8)


def auto_level(low: int, high: int) -> int:
    """The level above which a mask with these extremes is light."""
    if high == low or (low < 64 and 192 <= high <= 255):
        return 127
    # Label numbers: 0 is the background, 1, 2, ... are crack.
    return low if high < 64 else (low + high) // 2


def _morphology(mask: ByteMask, size: int, steps: tuple[Any, Any]) -> ByteMask:
    """Open or close with a size x size square, the mask continued outward at its rim.

    An even kernel has no centre, and OpenCV's opening and closing use one anchor for both of
    their steps, which moves the mask by a pixel; here the second step uses the reflected kernel.
    """
    kernel = np.ones((size, size), np.uint8)
    padded = cv2.copyMakeBorder(mask, size, size, size, size, cv2.BORDER_REPLICATE)
    for step, anchor in zip(steps, ((size - 1) // 2, size // 2), strict=True):
        padded = step(padded, kernel, anchor=(anchor, anchor))
    return np.ascontiguousarray(padded[size:-size, size:-size])


def fill_holes(mask: ByteMask, max_area: int, connectivity: int) -> ByteMask:
    """Fill background that is enclosed by crack and no larger than ``max_area`` px."""
    # Background connects the other way round, or a hole could leak through a diagonal.
    count, labels = cv2.connectedComponents(1 - mask, connectivity=12 - connectivity)
    fill = np.bincount(labels.ravel(), minlength=count) <= max_area
    fill[0] = False  # label 0 is the crack itself
    for rim in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        fill[rim] = False
    return mask | fill[labels].view(np.uint8)


def remove_ringing(mask: ByteMask) -> ByteMask:
    """Drop the halo of specks that double JPEG compression leaves in a mask, HxW of 0 and 1.

    Compression rings within the 8x8 blocks that hold an edge. Where such a mask was binarised at a
    low level and compressed again, the ringing has become a checkered halo of full-strength pixels
    around every crack. It is recognised by its crowds of specks beside solid crack; within its
    reach only what holds a 3x3 square stays: the crack itself. Other masks stay as they are.
    """
    # Beyond the photo a crack goes on as it left: its last px must not be eroded from there.
    padded = cv2.copyMakeBorder(mask, 2, 2, 2, 2, cv2.BORDER_REPLICATE)
    solid = cv2.dilate(cv2.erode(padded, None), None)[2:-2, 2:-2]  # by 3x3
    rim = cv2.countNonZero(solid) - cv2.countNonZero(cv2.erode(solid, None))
    reach = cv2.dilate(solid, np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8))
    _, owners = cv2.connectedComponents(mask, connectivity=4)
    specks = mask & reach & (np.bincount(owners.ravel()) <= _SPECK_AREA).take(owners)
    around = cv2.boxFilter(specks, -1, (5, 5), normalize=False, borderType=cv2.BORDER_CONSTANT)
    if np.count_nonzero(specks & (around > _CROWD)) <= max(_HALO, _HALO_SHARE * rim):
        return mask
    return cv2.bitwise_or(solid, cv2.subtract(mask, reach))
