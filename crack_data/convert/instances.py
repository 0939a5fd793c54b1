"""Components of a cleaned mask → cracks: specks dropped, pieces of a broken thin crack joined."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .components import ByteMask, Labels, label_components, under
from .options import CleaningOptions
from .runs import Runs

# Beside a thin crack that is large enough by itself, salt noise is smaller than this, in px.
_MIN_DASH = 4

PerLabel = npt.NDArray[Any]  # one value for each label 0..count


def find_instances(mask: ByteMask, options: CleaningOptions) -> tuple[ByteMask, int, Runs]:
    """Drop what is too small to be a crack or a piece of one, and join the pieces.

    Returns:
        The mask without specks; the number N of instances; the runs of 1..N, sorted by them.
    """
    count, labels = label_components(mask, options.connectivity)
    runs = Runs.of(mask, labels)
    areas = np.bincount(runs.owners, runs.lengths, count + 1)
    keep = areas >= options.min_area
    keep[0] = False
    clusters = square = keep
    clustered = options.cluster_gap > 0 and count > 1
    if clustered:
        square = _holding_squares(mask, labels, count)
        # Where all are large and thick, each is a crack by itself in whatever cluster.
        clustered = not (keep & square)[1:].all()
    if clustered:
        clusters = _clusters(mask, runs, count, options.cluster_gap)
        keep = _worth_keeping(areas, keep, clusters, square, options)
    dropped = ~keep[runs.owners]
    if dropped.any():
        mask = mask.copy()
        mask.ravel()[runs.select(dropped).pixels(mask.shape[1])] = 0
    if clustered:
        if _may_fall_apart(keep, clusters, square):
            clusters = _clusters(mask, runs.select(~dropped), count, options.cluster_gap)
        numbers = _joined(keep, clusters, square)
    else:
        numbers = np.cumsum(keep) * keep
    return mask, int(numbers.max()), runs.renumbered(numbers)


def label_instances(mask: ByteMask, options: CleaningOptions) -> tuple[int, Labels]:
    """Label the components of a clean mask, HxW, the pieces of a broken thin crack as one.

    Returns:
        Their number N, and the labels HxW, 0 for background, 1..N.
    """
    count, labels = label_components(mask, options.connectivity)
    if count < 2 or not options.cluster_gap:
        return count, labels
    runs = Runs.of(mask, labels)
    clusters = _clusters(mask, runs, count, options.cluster_gap)
    every = np.arange(count + 1) > 0
    numbers = _joined(every, clusters, _holding_squares(mask, labels, count))
    number = int(numbers.max())
    return number, labels if number == count else runs.renumbered(numbers).paint(mask.shape)


def _clusters(mask: ByteMask, runs: Runs, count: int, gap: int) -> PerLabel:
    """The cluster of each label: components within ``gap`` px make one. Labels without run: 0."""
    _, grown = label_components(cv2.dilate(mask, _disc(gap)), 8)
    cluster_of = np.zeros(count + 1, np.int64)
    cluster_of[runs.owners] = grown.ravel().take(runs.rows * mask.shape[1] + runs.columns)
    return cluster_of


def _holding_squares(mask: ByteMask, labels: Labels, count: int) -> PerLabel:
    """Which components are 3 px thick somewhere."""
    square = np.zeros(count + 1, np.bool_)
    square[under(cv2.erode(mask, np.ones((3, 3), np.uint8)), labels)] = True
    return square


def _any_in(clusters: PerLabel, members: PerLabel) -> PerLabel:
    """For each label, whether its cluster holds one of these members."""
    found = np.zeros(int(clusters.max()) + 1, np.bool_)
    found[clusters[members]] = True
    return found[clusters]


def _worth_keeping(
    areas: PerLabel, large: PerLabel, clusters: PerLabel, square: PerLabel, options: CleaningOptions
) -> PerLabel:
    """Which components are neither specks nor ringing; see `CleaningOptions`.

    A cluster that is thin everywhere is a line that may have been broken; beside a thick crack,
    small pieces are compression's ringing.
    """
    thick = _any_in(clusters, square)
    total = np.bincount(clusters, areas)[clusters]
    piece = areas >= np.where(thick, options.min_piece, _MIN_DASH)
    broken = ~thick & (total >= options.min_area)
    keep: PerLabel = large | np.where(_any_in(clusters, large), piece, broken)
    keep[0] = False
    return keep


def _may_fall_apart(keep: PerLabel, clusters: PerLabel, square: PerLabel) -> bool:
    """Whether without what is not kept, other thin pieces might share a cluster than before."""
    lost = ~keep
    lost[0] = False
    return bool((_any_in(clusters, lost) & keep & ~square).any())


def _joined(keep: PerLabel, clusters: PerLabel, square: PerLabel) -> PerLabel:
    """Instance of each label: one for all of a thin cluster, one for each piece of a thick one."""
    count = len(keep)
    owner = np.where(_any_in(clusters, square & keep), np.arange(count), clusters + count)
    owner[~keep] = -1
    found, numbers = np.unique(owner, return_inverse=True)
    # Where no pieces are joined, components keep their order.
    return numbers if len(found) <= np.count_nonzero(keep) else np.cumsum(keep) * keep


def _disc(diameter: int) -> ByteMask:
    """A symmetric disc, odd side; two pieces within ``diameter`` px overlap once grown by it."""
    radius = (diameter + 1) // 2
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= (radius + 0.5) ** 2).astype(np.uint8)
