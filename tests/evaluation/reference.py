"""The metrics of docs/evaluation.md a second time: pixel by pixel, threshold by threshold.

Slow and plain on purpose, and without a line of the code under test: distances between all pairs
of pixels instead of dilation, thresholds applied to the probability instead of histograms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from skimage.morphology import skeletonize

THRESHOLDS = [(level - 0.5) / 255 for level in range(1, 256)]


@dataclass
class Photo:
    truth: np.ndarray  # bool (H, W)
    mask: np.ndarray  # bool (H, W)
    probability: np.ndarray  # float (H, W)


def near(pixels: np.ndarray, others: np.ndarray, distance: float) -> int:
    """How many pixels of one mask lie within a distance (px) of any pixel of the other."""
    a, b = np.argwhere(pixels), np.argwhere(others)
    if not len(a) or not len(b):
        return 0
    return int((cdist(a, b).min(axis=1) <= distance).sum())


def f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def strict(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Pooled scores of (truth, mask) pairs."""
    tp = sum(int((t & m).sum()) for t, m in pairs)
    fp = sum(int((~t & m).sum()) for t, m in pairs)
    fn = sum(int((t & ~m).sum()) for t, m in pairs)
    return {
        "precision": share(tp, tp + fp),
        "recall": share(tp, tp + fn),
        "f1": share(2 * tp, 2 * tp + fp + fn),
        "iou": share(tp, tp + fp + fn),
    }


def tolerant(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    precision = share(sum(near(m, t, 2) for t, m in pairs), sum(m.sum() for _, m in pairs))
    recall = share(sum(near(t, m, 2) for t, m in pairs), sum(t.sum() for t, _ in pairs))
    return {
        "precision_2px": precision,
        "recall_2px": recall,
        "f1_2px": f1(precision, recall),
    }


def cut(photo: Photo, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    return photo.truth, photo.probability > threshold


def best_threshold(photos: list[Photo]) -> float:
    """Highest of the thresholds with the best pooled F1."""
    values = [strict([cut(photo, t) for photo in photos])["f1"] for t in THRESHOLDS]
    return max(t for t, value in zip(THRESHOLDS, values, strict=True) if value == max(values))


def metrics(photos: list[Photo]) -> dict[str, float]:
    """Everything, for photos of which at least one has a crack and at least one has none."""
    drawn = [(photo.truth, photo.mask) for photo in photos]
    ods = best_threshold(photos)
    errors = [100 * (m.mean() - t.mean()) for t, m in drawn]
    return {
        **strict(drawn),
        **tolerant(drawn),
        "f1_ods": strict([cut(photo, ods) for photo in photos])["f1"],
        "ods_threshold": ods,
        "coverage_mae": float(np.mean(np.abs(errors))),
        "coverage_bias": float(np.mean(errors)),
        "false_alarm_rate": float(np.mean([m.any() for t, m in drawn if not t.any()])),
    }


def within(pixels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the pixels, (N, 2) rows and columns, lie within 2 px of any of the mask's."""
    marked = np.argwhere(others)
    if not len(pixels) or not len(marked):
        return np.zeros(len(pixels), bool)
    return cdist(pixels, marked).min(axis=1) <= 2


def cl_dice(true: np.ndarray, predicted: np.ndarray) -> float:
    """ClDice of two masks with 2 px tolerance."""
    precision = within(np.argwhere(skeletonize(predicted)), true).mean()
    recall = within(np.argwhere(skeletonize(true)), predicted).mean()
    return f1(float(precision), float(recall))


def av_f1(photos: list[tuple[list[np.ndarray], list[np.ndarray]]]) -> float:
    """F1 over instances after greedy matching, averaged over thresholds .1 to .9.

    Args:
        photos: the true and the predicted masks of each.
    """
    values = []
    for threshold in np.arange(1, 10) / 10:
        matches = instances = 0
        for true, predicted in photos:
            instances += len(true) + len(predicted)
            pairs = [
                (cl_dice(t, p), -i, -j) for i, t in enumerate(true) for j, p in enumerate(predicted)
            ]
            taken: set[tuple[str, int]] = set()
            for value, i, j in sorted(pairs, reverse=True):
                if value >= threshold and not {("t", i), ("p", j)} & taken:
                    taken |= {("t", i), ("p", j)}
                    matches += 1
        values.append(share(2 * matches, instances))
    return float(np.mean(values))


def splits_and_merges(true: list[np.ndarray], predicted: list[np.ndarray]) -> tuple[int, int]:
    """False splits and false merges of one photo, everything computed anew at each step."""
    lines = [np.argwhere(skeletonize(mask)) for mask in true]
    free = [np.ones(len(line), bool) for line in lines]
    rest = [mask.copy() for mask in predicted]
    assigned: list[tuple[int, int]] = []
    while True:
        best, pair = 0.1, None
        for t, line in enumerate(lines):
            for p in range(len(predicted)):
                covered = (free[t] & within(line, rest[p])).mean()
                if (t, p) not in assigned and (
                    covered > best or (pair is None and covered == best)
                ):
                    best, pair = covered, (t, p)
        if pair is None:
            break
        t, p = pair
        assigned.append(pair)
        free[t] &= ~within(lines[t], rest[p])
        pixels = np.argwhere(rest[p])
        gone = pixels[within(pixels, true[t])]
        rest[p][gone[:, 0], gone[:, 1]] = False
    splits = sum(max(0, sum(a == t for a, _ in assigned) - 1) for t in range(len(true)))
    merges = sum(max(0, sum(b == p for _, b in assigned) - 1) for p in range(len(predicted)))
    return splits, merges
