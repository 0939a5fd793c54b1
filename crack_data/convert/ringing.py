"""The halo of specks that JPEG leaves around a crack when the mask was compressed twice.

Compression rings within the 8x8 blocks that hold an edge. Where such a mask was binarised at a low
level and compressed again, the ringing has become a checkered halo of full-strength pixels around
every crack: in the merged sets in use, a third of all mask pixels. No threshold removes it, and
median filters that do take thin cracks with them. So it is recognised first, by its many specks
beside solid crack, and only masks that have it are treated.
"""

from __future__ import annotations

import cv2
import numpy as np

from .components import ByteMask, Labels, label_components, under

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


def remove_ringing(mask: ByteMask) -> ByteMask:
    """Drop the halo from a mask that has one; return any other mask as it is.

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
    owners = under(mask, labels)
    is_speck = np.bincount(owners) <= _SPECK_AREA
    return int(np.count_nonzero(is_speck[owners] & under(mask, reach)))
