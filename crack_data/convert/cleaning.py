"""A mask as it was read → clean binary mask → its instances.

Everything here works on arrays and treats all directions alike: cleaning a mirrored or turned
mask gives the mirrored or turned result, for every option.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .bridging import bridge_gaps
from .components import ByteMask, Labels, label_components
from .instances import find_instances
from .options import CleaningOptions
from .ringing import remove_ringing
from .runs import Runs


@dataclass(frozen=True)
class Cracks:
    """The cracks of a clean mask, cut out by a box that holds them all.

    Attributes:
        shape: height and width of the whole mask, px.
        x, y: corner of the box, px.
        mask: the box, HxW uint8 of 0 and 1, with a rim of background unless it ends at the photo's.
        count: number of instances.
        runs: the crack pixels of the box, instance by instance.
    """

    shape: tuple[int, int]
    x: int
    y: int
    mask: ByteMask
    count: int
    runs: Runs

    @property
    def labels(self) -> Labels:
        """The instances of the box, HxW: 0 for background, 1..count."""
        return self.runs.paint(self.mask.shape)

    def whole(self) -> ByteMask:
        """The whole mask, HxW of 0 and 1."""
        mask = np.zeros(self.shape, np.uint8)
        height, width = self.mask.shape
        mask[self.y : self.y + height, self.x : self.x + width] = self.mask
        return mask


def clean_mask(grey: ByteMask, options: CleaningOptions) -> ByteMask:
    """Turn a grey mask, HxW uint8, into a binary one, HxW uint8 of 0 and 1."""
    return find_cracks(grey, options).whole()


def find_cracks(grey: ByteMask, options: CleaningOptions) -> Cracks:
    """Clean a grey mask, HxW uint8, and find its instances."""
    mask = binarize(grey, options)
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return Cracks(mask.shape, 0, 0, np.zeros((0, 0), np.uint8), 0, Runs.none())
    # The rim is what clusters are grown by. The box starts at even pixels, since components are
    # numbered by the blocks of 2x2 they begin in: so they are as in the whole mask.
    rim = (options.cluster_gap + 1) // 2 + 1
    left, top = max(x - rim, 0) // 2 * 2, max(y - rim, 0) // 2 * 2
    box = np.ascontiguousarray(mask[top : y + height + rim, left : x + width + rim])
    return Cracks(mask.shape, left, top, *find_instances(_clean(box, options), options))


def _clean(mask: ByteMask, options: CleaningOptions) -> ByteMask:
    if options.remove_halo:
        mask = remove_ringing(mask)
    if options.opening > 1:
        mask = _morphology(mask, options.opening, opening=True)
    if options.closing > 1:
        mask = _morphology(mask, options.closing, opening=False)
    if options.bridge_gap:
        mask = bridge_gaps(mask, options.bridge_gap, options.connectivity)
    if options.fill_holes:
        mask = fill_holes(mask, options.fill_holes, options.connectivity)
    return mask


def binarize(grey: ByteMask, options: CleaningOptions) -> ByteMask:
    """Threshold a grey mask, HxW uint8, and set the crack, dark or light, to 1."""
    mask = np.greater(grey, _level(grey, options.threshold)).view(np.uint8)
    dark = options.invert == "yes"
    if options.invert == "auto":
        dark = 2 * cv2.countNonZero(mask) > mask.size
    return 1 - mask if dark else mask


def _level(grey: ByteMask, threshold: str | int) -> int:
    if isinstance(threshold, int):
        return threshold
    if not grey.size:
        return 0
    low, high = int(grey.min()), int(grey.max())
    if threshold == "otsu":
        return int(cv2.threshold(grey, 0, 1, cv2.THRESH_OTSU)[0]) if high > low else 127
    if high > low and high < 64:
        return low  # label numbers: 0 is the background, 1, 2, ... are crack
    if low < 64 and high >= 192:
        return 127
    return (low + high) // 2 if high > low else 127


def _morphology(mask: ByteMask, size: int, opening: bool) -> ByteMask:
    """Open or close with a size x size square, without moving anything.

    An even kernel has no centre, and OpenCV's opening and closing use one anchor for both of
    their steps, which moves the mask by a pixel. The second step has to use the reflected kernel:
    then the result does not depend on the anchor at all. The mask is continued outward at its rim.
    """
    kernel = np.ones((size, size), np.uint8)
    first = (size - 1) // 2
    second = size - 1 - first
    padded = cv2.copyMakeBorder(mask, size, size, size, size, cv2.BORDER_REPLICATE)
    steps = (cv2.erode, cv2.dilate) if opening else (cv2.dilate, cv2.erode)
    padded = steps[0](padded, kernel, anchor=(first, first))
    padded = steps[1](padded, kernel, anchor=(second, second))
    return np.ascontiguousarray(padded[size:-size, size:-size])


def fill_holes(mask: ByteMask, max_area: int, connectivity: int) -> ByteMask:
    """Fill background that is enclosed by crack and no larger than ``max_area`` px."""
    # Background connects the other way round, or a hole could leak through a diagonal.
    background = 1 - mask
    count, labels = label_components(background, 12 - connectivity)
    fill = np.bincount(labels.ravel(), minlength=count + 1) <= max_area
    fill[0] = False  # label 0 is the crack itself
    for rim in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        fill[rim] = False
    return mask | fill[labels].view(np.uint8)
