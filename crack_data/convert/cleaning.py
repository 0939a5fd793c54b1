"""A grey mask → clean binary mask → its instances, by options that have presets.

Everything here works on arrays and treats all directions alike: cleaning a mirrored or turned
mask gives the mirrored or turned result, for every option.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np

from ..errors import CrackError
from .instances import ByteMask, Labels, find_instances, label_components
from .linking import DEFAULT_GAP

# Ringing reaches through the block next to the edge's own: 8 px and the pixel at its rim.
_REACH = 9
# Specks of up to 4 px, counted 4-connected so that a checkerboard falls apart.
_SPECK_AREA = 4
# Specks within reach per px of rim of solid crack. Measured: masks with a halo 0.6 and more,
# without one 0.17 and less (deepcrack, cfd, crack500, and the sources merged in crackseg448).
_HALO_SPECKS = 0.4

_SQUARE = np.ones((3, 3), np.uint8)
_CENTRE = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.uint8)
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


@dataclass(frozen=True)
class CleaningOptions:
    """How a grey mask becomes a binary one. Lengths are in px, areas in px².

    Attributes:
        threshold: "auto", "otsu", or the 8-bit level above which a pixel is crack.
        invert: "yes" where cracks are dark on light, "no" where they are light, "auto" to take
            the rarer of the two as crack.
        opening, closing: side of the square kernel; 0 or 1 leaves the step out.
        min_area: smaller components are dropped, unless `cluster_gap` saves them.
        cluster_gap: components within this distance of each other are judged by their area
            together: a thin crack that compression broke. 0 judges each by itself.
        fill_holes: holes up to this area are filled; 0 fills none.
        remove_halo: drop the halo of specks that double compression leaves, see `remove_ringing`.
        link_gap: pieces of a crack whose ends face each other across at most this much background
            are one instance, see `crack_data.convert.linking`; 0 makes each component one.
        connectivity: 4 or 8.
    """

    threshold: str | int = "auto"
    invert: str = "auto"
    opening: int = 0
    closing: int = 0
    min_area: int = 28
    cluster_gap: int = 6
    fill_holes: int = 0
    remove_halo: bool = True
    link_gap: int = DEFAULT_GAP
    connectivity: int = 8

    def __post_init__(self) -> None:
        level = self.threshold
        if level not in ("auto", "otsu") and not (isinstance(level, int) and 0 <= level < 255):
            raise CrackError(f"threshold must be auto, otsu or a level from 0 to 254, not {level}")
        if self.invert not in ("auto", "yes", "no"):
            raise CrackError(f"invert must be auto, yes or no, not {self.invert}")
        if self.connectivity not in (4, 8):
            raise CrackError(f"connectivity must be 4 or 8, not {self.connectivity}")
        for field in fields(self)[2:-1]:
            if getattr(self, field.name) < 0:
                raise CrackError(f"{field.name} must not be negative")


PRESETS = {
    "thin": CleaningOptions(),
    "classic": CleaningOptions(
        threshold=127,
        opening=2,
        closing=2,
        min_area=200,
        cluster_gap=0,
        remove_halo=False,
        link_gap=0,
    ),
}


def preset(name: str, **changes: Any) -> CleaningOptions:
    """Return the named preset with ``changes`` to single options.

    Raises:
        CrackError: no preset of that name, or an option out of range.
    """
    if name not in PRESETS:
        raise CrackError(f"no preset {name}; there are {', '.join(sorted(PRESETS))}")
    return replace(PRESETS[name], **changes)


@dataclass(frozen=True)
class Cracks:
    """The cracks of a clean mask, cut out by a box that holds them all.

    Attributes:
        shape: height and width of the whole mask, px.
        x, y: corner of the box, px.
        count: number of instances.
        labels: the instances of the box, HxW: 0 for background, 1..count.
    """

    shape: tuple[int, int]
    x: int
    y: int
    count: int
    labels: Labels

    @property
    def mask(self) -> ByteMask:
        """The crack pixels of the box, HxW of 0 and 1."""
        return np.greater(self.labels, 0).view(np.uint8)

    def whole(self) -> ByteMask:
        """The whole mask, HxW of 0 and 1."""
        mask = np.zeros(self.shape, np.uint8)
        height, width = self.labels.shape
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
        return Cracks(mask.shape, 0, 0, 0, np.zeros((0, 0), np.int32))
    # The rim is what clusters are grown by. The box starts at even pixels, since components are
    # numbered by the blocks of 2x2 they begin in: so they are as in the whole mask.
    rim = (max(options.cluster_gap, int(options.link_gap)) + 1) // 2 + 1
    left, top = max(x - rim, 0) // 2 * 2, max(y - rim, 0) // 2 * 2
    box = np.ascontiguousarray(mask[top : y + height + rim, left : x + width + rim])
    count, labels = find_instances(
        _clean(box, options),
        options.connectivity,
        options.min_area,
        options.cluster_gap,
        options.link_gap,
    )
    return Cracks(mask.shape, left, top, count, labels)


def _clean(mask: ByteMask, options: CleaningOptions) -> ByteMask:
    if options.remove_halo:
        mask = remove_ringing(mask)
    if options.opening > 1:
        mask = _morphology(mask, options.opening, opening=True)
    if options.closing > 1:
        mask = _morphology(mask, options.closing, opening=False)
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


def remove_ringing(mask: ByteMask) -> ByteMask:
    """Drop the halo of specks that double JPEG compression leaves; leave other masks as they are.

    Compression rings within the 8x8 blocks that hold an edge. Where such a mask was binarised at a
    low level and compressed again, the ringing has become a checkered halo of full-strength pixels
    around every crack: in the merged sets in use, a third of all mask pixels. No threshold removes
    it, and median filters that do take thin cracks with them. So it is recognised first, by its
    many specks beside solid crack.

    Within the halo's reach only what holds a 3x3 square stays: the crack itself. Beyond it nothing
    changes, and a mask without any such square, a crack one or two px wide, has no halo to speak
    of.

    Args:
        mask: HxW uint8 of 0 and 1.
    """
    solid = _open(mask)
    rim = cv2.countNonZero(solid) - cv2.countNonZero(cv2.erode(solid, _SQUARE))
    least = _HALO_SPECKS * rim
    if not rim or _most_specks(mask, solid) <= least:
        return mask
    count, labels = label_components(mask, 4)
    if count * _SPECK_AREA <= least:  # even if all were specks
        return mask
    reach = cv2.dilate(solid, np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8))
    if _single_pixels(mask, reach) <= least and _specks(mask, labels, reach) <= least:
        return mask
    return cv2.bitwise_or(solid, cv2.subtract(mask, reach))


def _open(mask: ByteMask) -> ByteMask:
    # Beyond the photo a crack goes on as it left: its last px must not be eroded from there.
    padded = cv2.copyMakeBorder(mask, 2, 2, 2, 2, cv2.BORDER_REPLICATE)
    opened = cv2.dilate(cv2.erode(padded, _SQUARE), _SQUARE)
    return np.ascontiguousarray(opened[2:-2, 2:-2])


def _most_specks(mask: ByteMask, solid: ByteMask) -> int:
    """At least as many pixels as specks have: those not beside a square of the mask."""
    # At the photo's rim, part of a square may lie beyond it.
    sure = np.zeros_like(solid)
    sure[2:-2, 2:-2] = solid[2:-2, 2:-2]
    return cv2.countNonZero(cv2.subtract(mask, cv2.dilate(sure, _CROSS)))


def _single_pixels(mask: ByteMask, reach: ByteMask) -> int:
    """Specks of one pixel within reach: where there are many, the others need no counting."""
    beside = cv2.dilate(mask, _CROSS - _CENTRE)
    return cv2.countNonZero(cv2.subtract(cv2.bitwise_and(mask, reach), beside))


def _specks(mask: ByteMask, labels: Labels, reach: ByteMask) -> int:
    """Pixels of specks, told by their labels, within reach."""
    owners = labels[mask > 0]
    is_speck = np.bincount(owners) <= _SPECK_AREA
    return int(np.count_nonzero(is_speck[owners] & reach[mask > 0]))
