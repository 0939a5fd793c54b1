"""Signs that a mask does not belong to its photo, and photos that look the same."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from .cleaning import ByteMask
from .coco import digest
from .pairing import PairRecord

FLAGS = {  # what each means, and in which unit its value is
    "coverage": "percent of the photo that is crack, over 40",
    "upside_down": "gain in correlation with the photo's dark lines by turning the mask by 180°",
    "mirrored": "gain in correlation with the photo's dark lines by mirroring the mask",
    "empty": "1: no crack in the mask of a photo whose name says crack",
    "duplicate_mask": "number of photos in the set that share this very mask",
}
# Six masks of CRACK500's 251 are known to stand upside down: they gain 0.19 to 0.37, the next of
# 1743 pairs of four sets gains 0.10 (`benchmarks/bench_masks.py flags` prints both).
MIN_GAIN = 0.14
MAX_DISTANCE = 4  # bits of 64 in which hashes of one photo, re-saved or resized, differ


class NearDuplicate(NamedTuple):
    """Two photos of different splits whose perceptual hashes differ in ``distance`` bits."""

    one: PairRecord
    other: PairRecord
    distance: int


def check_pair(stem: str, small_grey: ByteMask, mask: ByteMask) -> dict[str, float]:
    """Flags of one pair, with their values; the photo is in grey, at a quarter of its size."""
    coverage = 100 * cv2.countNonZero(mask) / mask.size
    if not coverage:
        says_none = r"(?i)(no|non|un|without|free)[_ -]?(crack|riss)|crack[_ -]?free"
        named = re.search(r"(?i)crack|riss", stem) and not re.search(says_none, stem)
        return {"empty": 1.0} if named else {}
    flags = {"coverage": coverage} if coverage > 40 else {}
    gain, kind = max((gain, kind) for kind, gain in turning_gains(small_grey, mask).items())
    return flags | ({kind: gain} if gain > MIN_GAIN else {})


def turning_gains(small_grey: ByteMask, mask: ByteMask) -> dict[str, float]:
    """How much better a mask fits the photo's dark lines turned, in correlation coefficients."""
    # How much darker than its surroundings each pixel is, for lines up to about 2 and 4 px wide, in
    # local deviations, cut at 3 so that a few black spots do not decide.
    darker = np.maximum(_box(small_grey, 5), _box(small_grey, 9)) - _box(small_grey, 3)
    rough = small_grey - _box(small_grey, 21)
    variance = cv2.sqrBoxFilter(rough, cv2.CV_32F, (31, 31))  # rounding may take it below zero
    deviation = np.sqrt(np.maximum(variance, 0)) + 2
    lines = np.clip(darker / deviation, 0, 3)
    size = small_grey.shape[::-1]
    drawn = _box(cv2.resize(mask * np.uint8(255), size, interpolation=cv2.INTER_AREA), 3)
    # Turning leaves the means, so they cancel out, and both deviations.
    as_is = np.vdot(lines, drawn)
    mirrored = max(np.vdot(lines, cv2.flip(drawn, axis)) for axis in (0, 1))
    scale = lines.size * float(lines.std() * drawn.std()) or 1.0
    return {
        "upside_down": float(np.vdot(lines, cv2.flip(drawn, -1)) - as_is) / scale,
        "mirrored": float(mirrored - as_is) / scale,
    }


def _box(values: ByteMask, side: int) -> np.ndarray:
    return cv2.boxFilter(values, cv2.CV_32F, (side, side))


def mean_width(mask: ByteMask) -> float:
    """Mean width of what a binary mask draws, px: twice its area over its perimeter (Cauchy's)."""
    area = cv2.countNonZero(mask)
    padded = np.pad(mask, 1)
    edges = sum(np.count_nonzero(np.diff(padded, axis=axis)) for axis in (0, 1))
    return 2 * area / (np.pi / 4 * edges) if area else 0.0


def mask_digest(record: PairRecord) -> str:
    """Equal for equal masks, "" for those without crack."""
    size = f"{record.width}x{record.height}"
    return digest([size, *record.annotations]) if record.instances else ""


def flag_duplicate_masks(records: Sequence[PairRecord]) -> None:
    """Flag, in place, the pairs whose mask others share."""
    times = Counter(map(mask_digest, records))
    for record in records:
        same = times[mask_digest(record)]
        if record.instances and same > 1:
            record.flags["duplicate_mask"] = float(same)


def perceptual_hash(grey: ByteMask) -> int:
    """The 64-bit DCT hash (ImageHash's pHash) of a grey photo, HxW."""
    import imagehash  # pulls in much of scipy, and only splits need it

    small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA)
    return int(str(imagehash.phash(Image.fromarray(small))), 16)


def near_duplicates(records: Sequence[PairRecord]) -> Iterator[NearDuplicate]:
    """Look-alikes in different splits; of photos with one hash in one split, only the first."""
    first: dict[tuple[int, str], PairRecord] = {}
    for record in records:
        first.setdefault((record.photo_hash, record.split), record)
    chosen = list(first.values())
    values = np.array([record.photo_hash for record in chosen], np.uint64)
    for place, one in enumerate(chosen):
        distances = np.bitwise_count(values[place + 1 :] ^ values[place])
        for near in np.flatnonzero(distances <= MAX_DISTANCE).tolist():
            other = chosen[place + 1 + near]
            if one.split != other.split:
                yield NearDuplicate(one, other, int(distances[near]))
