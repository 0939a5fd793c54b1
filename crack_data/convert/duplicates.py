"""Photos that look the same: by perceptual hash, and masks that are the same."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from .components import ByteMask

# Hashes of 64 bits that differ in at most this many mean the same photo, re-saved or resized.
MAX_DISTANCE = 4


@dataclass(frozen=True)
class NearDuplicate:
    """Two photos of different splits whose perceptual hashes differ in ``distance`` bits."""

    photo: str
    split: str
    other: str
    other_split: str
    distance: int


def perceptual_hash(grey: ByteMask) -> int:
    """The 64-bit DCT hash (pHash, as the ImageHash library computes it) of a grey photo, HxW."""
    import imagehash  # pulls in much of scipy, and only splits need it

    small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA)
    bits = imagehash.phash(Image.fromarray(small)).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def mask_digest(annotations: Sequence[str], width: int, height: int) -> bytes:
    """A digest that equal masks share, from their annotations and size, px; empty without any."""
    if not annotations:
        return b""
    text = "\n".join([f"{width}x{height}", *annotations])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def near_duplicates(
    photos: Sequence[str], splits: Sequence[str], hashes: Sequence[int]
) -> list[NearDuplicate]:
    """Find look-alikes in different splits, in order of the photos.

    Of photos with the very same hash in one split, only the first is named.
    """
    first: dict[tuple[int, str], int] = {}
    for index, key in enumerate(zip(hashes, splits, strict=True)):
        first.setdefault(key, index)
    chosen = sorted(first.values())
    found = []
    for i, j in sorted(_close_pairs([hashes[k] for k in chosen])):
        a, b = chosen[i], chosen[j]
        if splits[a] != splits[b]:
            distance = (hashes[a] ^ hashes[b]).bit_count()
            found.append(NearDuplicate(photos[a], splits[a], photos[b], splits[b], distance))
    return found


def _close_pairs(hashes: Sequence[int]) -> set[tuple[int, int]]:
    """Index pairs i < j within `MAX_DISTANCE` bits.

    Such hashes agree in at least one of ``MAX_DISTANCE + 1`` bands of bits (pigeonhole), so only
    those that share a band are compared.
    """
    bands = MAX_DISTANCE + 1
    width = -(-64 // bands)
    values = np.array(hashes, np.uint64)
    close: set[tuple[int, int]] = set()
    for band in range(bands):
        shared: defaultdict[int, list[int]] = defaultdict(list)
        mask = (1 << width) - 1
        for index, value in enumerate(hashes):
            shared[value >> (band * width) & mask].append(index)
        for members in shared.values():
            close |= _close_among(values, np.array(members))
    return close


def _close_among(values: np.ndarray, members: np.ndarray) -> set[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    for position, index in enumerate(members[:-1]):
        others = members[position + 1 :]
        distance = np.bitwise_count(values[others] ^ values[index])
        pairs |= {(int(index), int(other)) for other in others[distance <= MAX_DISTANCE]}
    return pairs
