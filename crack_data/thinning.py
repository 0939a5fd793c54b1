"""Zhang and Suen's thinning, in time that grows with the crack and not with the picture."""

from __future__ import annotations

from functools import cache

import numpy as np

# Steps of row and column to a pixel's neighbours, clockwise. Bit k of a pixel's code says whether
# neighbour k is set.
_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
_ALL = 255
# Codes of pixels that scikit-image removes in other passes (first, second) than the paper does:
# squares of 2x2 and slanted lines two px wide do not vanish at once, and corners of stairs go.
_OTHERWISE = {
    (True, False): [3, 6, 11, 12, 14, 131, 134, 161, 194, 198],
    (False, True): [24, 26, 56, 96, 104, 108, 176, 192, 224],
    (True, True): [10, 40, 130, 160],
    (False, False): [48, 129],
}


def thin(mask: np.ndarray) -> np.ndarray:
    """Thin a mask to lines one pixel wide.

    The result is that of scikit-image's `skeletonize`, which looks at every pixel of the picture
    in every round. Here only those at the rim are looked at, and what their removal lays bare.

    Args:
        mask: bool (H, W), its border False.

    Returns:
        indices into the flattened mask, sorted.
    """
    steps = [down * mask.shape[1] + right for down, right in _AROUND]
    flat = mask.ravel()
    inside = np.flatnonzero(flat)
    codes = np.zeros(mask.size, np.uint8)
    codes[inside] = _codes(flat.view(np.uint8), inside, steps)
    rim = inside[codes[inside] != _ALL]
    idle = 0
    while idle < 2:  # passes of either kind found nothing to remove
        for removed in _removed():
            gone = removed[codes[rim]]
            idle = 0 if gone.any() else idle + 1
            rim = np.concatenate([rim[~gone], *_remove(codes, rim[gone], steps)])
    return np.sort(np.concatenate([rim, inside[codes[inside] == _ALL]]))


def _codes(flat: np.ndarray, pixels: np.ndarray, steps: list[int]) -> np.ndarray:
    codes = np.zeros(len(pixels), np.uint8)
    for bit, step in enumerate(steps):
        codes |= flat[pixels + step] << np.uint8(bit)
    return codes


def _remove(codes: np.ndarray, gone: np.ndarray, steps: list[int]) -> list[np.ndarray]:
    """Tell the neighbours of pixels that these are gone; return those that come to the rim."""
    bared = []
    if len(gone):
        for bit, step in enumerate(steps):
            beside = gone + step
            before = codes[beside]
            bared.append(beside[before == _ALL])
            # Seen from there, the pixel lies in the opposite direction.
            codes[beside] = before & np.uint8(_ALL - (1 << (bit + 4) % 8))
    return bared


@cache
def _removed() -> tuple[np.ndarray, np.ndarray]:
    """For each code whether the first and the second kind of pass remove the pixel.

    T. Y. Zhang and C. Y. Suen, A fast parallel algorithm for thinning digital patterns, 1984, with
    the changes of scikit-image's `morphology._skeletonize`.
    """
    is_set = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    _, up, _, right, _, down, _, left = is_set.T
    number = is_set.sum(axis=1)
    begins = (~is_set & np.roll(is_set, -1, axis=1)).sum(axis=1)
    at_rim = (number >= 2) & (number <= 6) & (begins == 1)
    first = at_rim & ~(up & right & down) & ~(right & down & left)
    second = at_rim & ~(up & right & left) & ~(up & down & left)
    for passes, codes in _OTHERWISE.items():
        first[codes], second[codes] = passes
    return first, second
