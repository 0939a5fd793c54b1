"""A mask as it was read → clean binary mask → components.

Everything here works on arrays and treats all directions alike: cleaning a mirrored or turned
mask gives the mirrored or turned result, for every option.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import CrackError
from .bridging import bridge_gaps
from .components import ByteMask, Labels, areas_of, label_components, renumber, under
from .ringing import remove_ringing

# Beside a thin crack that is large enough by itself, salt noise is smaller than this, in px.
_MIN_DASH = 4


@dataclass(frozen=True)
class CleaningOptions:
    """How a grey mask becomes a binary one. Lengths are in px, areas in px².

    Attributes:
        threshold: "auto", "otsu", or the 8-bit level above which a pixel is crack.
        invert: "yes" where cracks are dark on light, "no" where they are light, "auto" to take
            the rarer of the two as crack.
        opening, closing: side of the square kernel; 0 or 1 leaves the step out.
        min_area: smaller components are dropped, with two exceptions below.
        cluster_gap: components within this distance make a cluster. In one that is nowhere 3 px
            thick, all pieces stay if together they reach `min_area`: a thin crack that
            compression broke. 0 judges every component by itself.
        min_piece: beside a thick crack of `min_area`, pieces from this area on stay; what is
            smaller is ringing. (Beside a thin one, all but single specks.)
        fill_holes: holes up to this area are filled; 0 fills none.
        bridge_gap: gaps up to this width between two components are closed; 0 closes none.
        remove_halo: drop the halo of specks that double compression leaves, see `ringing`.
        connectivity: 4 or 8.
    """

    threshold: str | int = "auto"
    invert: str = "auto"
    opening: int = 0
    closing: int = 0
    min_area: int = 28
    cluster_gap: int = 6
    min_piece: int = 16
    fill_holes: int = 0
    bridge_gap: int = 0
    remove_halo: bool = True
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
        min_piece=0,
        remove_halo=False,
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
        mask: the box, HxW uint8 of 0 and 1, with a rim of background unless it ends at the photo's.
        count: number of instances; labels: HxW, 0 for background, 1..count.
    """

    shape: tuple[int, int]
    x: int
    y: int
    mask: ByteMask
    count: int
    labels: Labels

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
    """Clean a grey mask, HxW uint8, and find its instances as `label_instances` does."""
    mask = binarize(grey, options)
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        nothing = np.zeros((0, 0), np.uint8)
        return Cracks(mask.shape, 0, 0, nothing, 0, nothing)
    # The rim is what `_clusters` grows by. The box starts at even pixels, since components are
    # numbered by the blocks of 2x2 they begin in: so they are as in the whole mask.
    rim = (options.cluster_gap + 1) // 2 + 1
    left, top = max(x - rim, 0) // 2 * 2, max(y - rim, 0) // 2 * 2
    box = np.ascontiguousarray(mask[top : y + height + rim, left : x + width + rim])
    cleaned, count, labels = _drop_specks(_clean(box, options), options)
    return Cracks(mask.shape, left, top, cleaned, *_join_pieces(cleaned, count, labels, options))


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


def _drop_specks(mask: ByteMask, options: CleaningOptions) -> tuple[ByteMask, int, Labels]:
    """Drop what is too small to be a crack or a piece of one; see `CleaningOptions`.

    Returns:
        The mask, the number of its components, and their labels, HxW.
    """
    count, labels = label_components(mask, options.connectivity)
    areas = areas_of(mask, labels, count)
    keep = areas >= options.min_area
    keep[0] = False
    if options.cluster_gap and not keep[1:].all():
        clusters, thick = _clusters(mask, labels, count, options.cluster_gap)
        total = np.bincount(clusters, weights=areas)[clusters]
        beside_large = np.isin(clusters, clusters[keep])
        smallest = np.where(thick, options.min_piece, _MIN_DASH)
        keep |= np.where(beside_large, areas >= smallest, ~thick & (total >= options.min_area))
        keep[0] = False
    if keep[1:].all():
        return mask, count, labels
    numbers = np.cumsum(keep) * keep
    kept, labels = renumber(numbers, mask, labels)
    return kept, int(numbers.max()), labels


def label_instances(mask: ByteMask, options: CleaningOptions) -> tuple[int, Labels]:
    """Label the components of a clean mask, HxW, the pieces of a broken thin crack as one.

    Returns:
        Their number N, and the labels HxW, 0 for background, 1..N.
    """
    return _join_pieces(mask, *label_components(mask, options.connectivity), options)


def _join_pieces(
    mask: ByteMask, count: int, labels: Labels, options: CleaningOptions
) -> tuple[int, Labels]:
    if count < 2 or not options.cluster_gap:
        return count, labels
    clusters, thick = _clusters(mask, labels, count, options.cluster_gap)
    owner = np.where(thick, np.arange(count + 1), clusters + count)
    owner[0] = -1
    _, instance_of = np.unique(owner, return_inverse=True)
    number = int(instance_of.max())
    return (count, labels) if number == count else (number, renumber(instance_of, mask, labels)[1])


def _clusters(
    mask: ByteMask, labels: Labels, count: int, gap: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """For each label 0..count, its cluster, and whether that is 3 px thick somewhere.

    Components within ``gap`` px make a cluster. One that is thin everywhere is a line that may
    have been broken; beside a thick crack, small pieces are compression's ringing.
    """
    _, grown = label_components(cv2.dilate(mask, _disc(gap)), 8)
    cluster_of = np.zeros(count + 1, np.int64)
    cluster_of[under(mask, labels)] = under(mask, grown)
    thick = np.zeros(int(cluster_of.max(initial=0)) + 1, np.bool_)
    thick[under(cv2.erode(mask, np.ones((3, 3), np.uint8)), grown)] = True
    return cluster_of, thick[cluster_of]


def _disc(diameter: int) -> ByteMask:
    """A symmetric disc, odd side; two pieces within ``diameter`` px overlap once grown by it."""
    radius = (diameter + 1) // 2
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= (radius + 0.5) ** 2).astype(np.uint8)


def fill_holes(mask: ByteMask, max_area: int, connectivity: int) -> ByteMask:
    """Fill background that is enclosed by crack and no larger than ``max_area`` px."""
    # Background connects the other way round, or a hole could leak through a diagonal.
    background = 1 - mask
    count, labels = label_components(background, 12 - connectivity)
    fill = areas_of(background, labels, count) <= max_area
    fill[0] = False  # label 0 is the crack itself
    for rim in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        fill[rim] = False
    return mask | renumber(fill, background, labels)[0]
