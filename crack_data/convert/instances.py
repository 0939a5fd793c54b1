"""Connected components of a clean mask → cracks: specks dropped, the pieces of a crack linked."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .linking import cluster_pieces, distance_to_pieces, link_pieces

ByteMask = npt.NDArray[np.uint8]
Labels = npt.NDArray[Any]  # uint16 or int32

# Beside a crack that is 3 px thick somewhere, pieces below this area, px, are ringing of a JPEG;
# beside a thin one, those below the second are salt noise.
_RINGING, _SALT = 16, 4


def label_components(mask: ByteMask, connectivity: int) -> tuple[int, Labels]:
    """Label the connected components of a binary mask, HxW.

    Returns:
        Their number N, and the labels HxW: 0 is background, 1..N.
    """
    # Until it joins them, OpenCV counts a label for at most every second pixel, or every block
    # of 2x2. Labels of 16 bits, where that many fit, take half the time.
    height, width = mask.shape
    most = mask.size // 2 if connectivity == 4 else (height + 1) // 2 * ((width + 1) // 2)
    kind = cv2.CV_16U if most < 2**16 - 2 else cv2.CV_32S
    count, labels = cv2.connectedComponents(mask, connectivity=connectivity, ltype=kind)
    found: Any = labels
    return count - 1, found


def find_instances(
    mask: ByteMask, connectivity: int, min_area: int, cluster_gap: int, link_gap: float
) -> tuple[int, Labels]:
    """Label the cracks of a mask, HxW of 0 and 1; specks become background.

    The arguments are those of `crack_data.convert.cleaning.CleaningOptions`.

    Returns:
        The number N of cracks, and the labels HxW, 0 for background, 1..N.
    """
    count, labels = label_components(mask, connectivity)
    keep = _worth_keeping(mask, labels, count, min_area, cluster_gap)
    numbers = np.cumsum(keep) * keep
    if not keep[1:].all():
        labels = numbers[labels]
    left = int(numbers.max())
    cracks = link_pieces(labels, left, link_gap)
    return int(cracks.max()), labels if left == cracks.max() else cracks[labels]


def _worth_keeping(
    mask: ByteMask, labels: Labels, count: int, min_area: int, gap: int
) -> npt.NDArray[np.bool_]:
    """Which components are no specks: large, or pieces of a cluster that is large together."""
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    keep = areas >= min_area
    keep[0] = False
    if gap and not keep[1:].all():
        cluster = cluster_pieces(labels, count, gap, distance_to_pieces(labels))
        total = np.bincount(cluster[1:], areas[1:], int(cluster.max()) + 1)[cluster]
        solid = np.zeros(count + 1, np.bool_)
        solid[labels[cv2.erode(mask, np.ones((3, 3), np.uint8)) > 0]] = True
        thick = np.isin(cluster, cluster[solid])
        least = np.where(thick, _RINGING, np.where(np.isin(cluster, cluster[keep]), _SALT, 1))
        keep |= (total >= min_area) & (areas >= least)
        keep[0] = False
    return keep
