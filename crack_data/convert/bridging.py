"""Bridges across the gaps of a broken crack."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from .components import ByteMask, Labels, label_components

# A bridge is where the ways to both sides are together at most this much (px) longer than the
# gap; for long gaps less, so that no bridge gets wider than about 3 px.
_DETOUR = 0.6
_WIDEST = 2.0


def bridge_gaps(mask: ByteMask, gap: int, connectivity: int) -> ByteMask:
    """Connect components with at most ``gap`` px of background between them; change nothing else.

    Drawn lines would depend on the direction they are drawn in. Instead a bridge is the thin
    ellipse whose foci are the two nearest pixels, told from the distance to either component.

    Args:
        mask: HxW of 0 and 1.
    """
    count, labels = label_components(mask, connectivity)
    bridged = mask.copy()
    for label, box in enumerate(_boxes(labels, count), start=1):
        y, x = (slice(max(side.start - gap - 1, 0), side.stop + gap + 1) for side in box)
        _bridge_from(label, labels[y, x], bridged[y, x], gap + 1)
    return bridged


def _boxes(labels: Labels, count: int) -> list[tuple[slice, slice]]:
    rows, columns = np.nonzero(labels)
    owners = labels[rows, columns]
    low = np.full((count + 1, 2), max(labels.shape), np.int64)
    high = np.zeros((count + 1, 2), np.int64)
    for axis, places in enumerate((rows, columns)):
        np.minimum.at(low[:, axis], owners, places)
        np.maximum.at(high[:, axis], owners, places + 1)
    return [
        (slice(top, bottom), slice(left, right))
        for (top, left), (bottom, right) in zip(low[1:].tolist(), high[1:].tolist(), strict=True)
    ]


def _bridge_from(label: int, labels: Labels, bridged: ByteMask, reach: int) -> None:
    """Draw, in place, the bridges from one component to later ones within ``reach`` px."""
    near = _distance(labels == label)
    for other in np.unique(labels[(labels > label) & (near <= reach)]).tolist():
        target = labels == other
        width = float(near[target].min())
        way = near + _distance(target)
        bridged[way <= width + min(_DETOUR, _WIDEST / width)] = 1


def _distance(component: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Euclidean distance of each pixel's centre to the nearest pixel of a component, px."""
    outside = (~component).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
