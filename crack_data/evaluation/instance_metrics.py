"""How well instances are found, compared by their centrelines instead of by their area.

One pixel of width decides the IoU of a crack three pixels wide; where its centreline runs does not
hang on it. The metrics are those of FISBe (Mais et al., CVPR 2024, arXiv 2404.00130) in two
dimensions, see docs/evaluation.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from skimage.morphology import skeletonize

from ..inference.prediction import CrackInstance, Cracks
from .metrics import PIXEL_TOLERANCE, Array, BoolMask, dilate, mean, pool, ratio, with_intervals

# A true and a predicted instance match where their clDice is at least one of these.
THRESHOLDS = np.arange(1, 10) / 10
# A prediction holds part of a true instance when it covers this share of its centreline.
PART = 0.1

# For each true instance and each predicted one, which pixels of the true centreline it covers.
Covered = list[list[BoolMask]]


class InstanceCounts(NamedTuple):
    """What the instance metrics need of one photo."""

    true: int  # number of instances
    predicted: int
    matched: NDArray[np.integer]  # shape (9,), one-to-one matches at each of `THRESHOLDS`
    line: int  # pixels of the true instances' centrelines
    line_covered: int  # those of them within 2 px of any predicted instance
    false_splits: int  # predictions beyond the first that hold part of one true instance
    false_merges: int  # true instances beyond the first of which one prediction holds a part


class Trace:
    """An instance as its centreline, and its mask widened by the tolerance."""

    def __init__(self, instance: CrackInstance) -> None:
        # Bool, the instance within its box grown by 2 px on each side; every pixel within 2 px.
        self.mask = np.pad(instance.mask, PIXEL_TOLERANCE)
        self.wide = dilate(self.mask, PIXEL_TOLERANCE)
        # Row, column on the photo, px: of the top left pixel; (N, 2), of the centreline's pixels.
        self.origin = np.array(instance.box[1::-1]) - PIXEL_TOLERANCE
        self.line = np.argwhere(skeletonize(self.mask)) + self.origin

    def covers(self, points: NDArray[np.integer]) -> BoolMask:
        """Which of the points, (N, 2) row, column on the photo, px, lie in `wide`: bool (N,)."""
        return map_coordinates(self.wide, (points - self.origin).T, order=0, mode="grid-constant")


def count_instances(truth: Cracks, predicted: Cracks) -> InstanceCounts:
    """Compare the instances of one photo; both kinds may overlap, none is empty."""
    true_traces, traces = [Trace(x) for x in truth], [Trace(x) for x in predicted]
    covered = [[trace.covers(true.line) for trace in traces] for true in true_traces]
    similarity = cl_dice(true_traces, traces, covered)
    matched = np.zeros(len(THRESHOLDS), np.int32)
    while similarity.size and similarity.max() >= THRESHOLDS[0]:  # the most similar pair first
        t, p = np.unravel_index(similarity.argmax(), similarity.shape)
        matched += similarity[t, p] >= THRESHOLDS
        similarity[t, :] = similarity[:, p] = 0
    line_covered = sum(int(np.any(row, axis=0).sum()) for row in covered if row)
    assigned = _assign_parts(true_traces, traces, covered)
    return InstanceCounts(
        true=len(truth),
        predicted=len(predicted),
        matched=matched,
        line=sum(len(trace.line) for trace in true_traces),
        line_covered=line_covered,
        false_splits=int(np.maximum(assigned.sum(axis=1) - 1, 0).sum()),
        false_merges=int(np.maximum(assigned.sum(axis=0) - 1, 0).sum()),
    )


def cl_dice(true: Sequence[Trace], predicted: Sequence[Trace], covered: Covered) -> Array:
    """Similarity "clDice" (Shit et al., CVPR 2021) of each pair, with 2 px tolerance: (T, P)."""
    # The harmonic mean of the shares of each one's centreline within 2 px of the other's mask.
    result = np.zeros((len(true), len(predicted)))
    for t, one in enumerate(true):
        for p, other in enumerate(predicted):
            recall = covered[t][p].mean()
            if recall > 0:
                precision = one.covers(other.line).mean()
                result[t, p] = 2 * precision * recall / (precision + recall)
    return result


def _assign_parts(true: list[Trace], predicted: list[Trace], covered: Covered) -> BoolMask:
    """Which prediction holds part of which true instance: bool, shape (T, P).

    Pairs are taken by the share that the prediction covers of the true centreline. Each uses up
    that part, and what of the prediction lies within 2 px of the true instance (in ``covered`` and
    ``predicted`` themselves); so where cracks cross, neither is held by the other's prediction.
    """
    assigned = np.zeros((len(true), len(predicted)), bool)
    share = np.array([[part.mean() for part in row] for row in covered]).reshape(assigned.shape)
    while share.size and share.max() >= PART:
        t, p = divmod(int(share.argmax()), len(predicted))
        assigned[t, p] = True
        used, rest = covered[t][p].copy(), predicted[p]
        pixels = np.argwhere(rest.mask)
        rest.mask[tuple(pixels[true[t].covers(pixels + rest.origin)].T)] = False
        rest.wide = dilate(rest.mask, PIXEL_TOLERANCE)
        for other in range(len(predicted)):
            covered[t][other] &= ~used
            share[t, other] = covered[t][other].mean()
        for other in np.flatnonzero(share[:, p] >= PART).tolist():
            covered[other][p] &= rest.covers(true[other].line)
            share[other, p] = covered[other][p].mean()
        share[assigned] = 0
    return assigned


def summarize_instances(photos: Sequence[InstanceCounts]) -> dict[str, float]:
    """Instance metrics of a set of at least one photo, by the names in docs/evaluation.md."""
    columns = (np.array(column, float) for column in zip(*photos, strict=True))
    true, predicted, matched, line, covered, splits, merges = columns

    def statistics(weights: Array) -> dict[str, Array]:
        instances = (weights @ (true + predicted))[:, None]
        return {
            "avF1": ratio(2 * pool(weights, matched), instances).mean(axis=1),
            "centreline_coverage": ratio(weights @ covered, weights @ line),
            "false_splits": mean(weights, splits),
            "false_merges": mean(weights, merges),
        }

    return with_intervals(len(photos), statistics)
