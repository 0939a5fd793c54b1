"""The conversion as one writes it first, with the rules of preset thin.

The yardstick of benchmarks/converter.py, and a second opinion in the tests: one process, whole
photos read with cv2.imread, one mask in the photo's size for each component. Only the search for
pairs and the linking of pieces are the project's own code. No bad file is told from a good one, and
a set is held in memory.

``python -m benchmarks.plain_converter --images DIR --masks DIR --output FILE.json``
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from crack_data.convert.linking import DEFAULT_GAP, link_pieces
from crack_data.convert.pairing import pair_files, stem_of
from crack_data.errors import CrackError, run_tool

SQUARE = np.ones((3, 3), np.uint8)
REACH = np.ones((19, 19), np.uint8)
Y, X = np.ogrid[-3:4, -3:4]
DISC = (X * X + Y * Y <= 3**2).astype(np.uint8)
TURNS = {"upside_down": (-1,), "mirrored": (0, 1)}  # codes of cv2.flip


def binarize(grey: np.ndarray) -> np.ndarray:
    """Threshold between dark and light, or over the background of label numbers."""
    low, high = int(grey.min()), int(grey.max())
    level = low if high < 64 else 127 if low < 64 and high >= 192 else (low + high) // 2
    return (grey > (level if high > low else 127)).astype(np.uint8)


def without_halo(mask: np.ndarray) -> np.ndarray:
    """Drop the specks around solid crack where they are many: double compression's ringing."""
    padded = cv2.copyMakeBorder(mask, 2, 2, 2, 2, cv2.BORDER_REPLICATE)
    solid = cv2.dilate(cv2.erode(padded, SQUARE), SQUARE)[2:-2, 2:-2]
    reach = cv2.dilate(solid, REACH)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    specks = ((stats[:, cv2.CC_STAT_AREA] <= 4)[labels] & (mask & reach > 0)).astype(np.uint8)
    around = cv2.filter2D(specks, -1, np.ones((5, 5)), borderType=cv2.BORDER_CONSTANT)
    rim = int(solid.sum()) - int(cv2.erode(solid, SQUARE).sum())
    crowded = (specks > 0) & (around > 6)
    return solid | mask & (1 - reach) if crowded.sum() > max(20, 0.08 * rim) else mask


def pieces_of(mask: np.ndarray) -> dict[int, list[dict[str, Any]]]:
    """The components of a mask by the clusters that they make with others within 6 px."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    clusters = cv2.connectedComponents(cv2.dilate(mask, DISC), connectivity=8)[1]
    solid = cv2.erode(mask, SQUARE) > 0
    found: dict[int, list[dict[str, Any]]] = {}
    for label in range(1, count):
        pixels = labels == label
        piece = {"pixels": pixels, "area": int(stats[label, cv2.CC_STAT_AREA])}
        piece["thick"] = bool((solid & pixels).any())
        found.setdefault(int(clusters[pixels][0]), []).append(piece)
    return found


def without_specks(mask: np.ndarray) -> np.ndarray:
    """Keep the components of 28 px, and the pieces of cracks beside them or that reach it."""
    clean = np.zeros_like(mask)
    for pieces in pieces_of(mask).values():
        thick = any(piece["thick"] for piece in pieces)
        large = any(piece["area"] >= 28 for piece in pieces)
        total = sum(piece["area"] for piece in pieces)
        least = 28 if total < 28 else 16 if thick else 4 if large else 1
        for piece in pieces:
            if piece["area"] >= least:
                clean[piece["pixels"]] = 1
    return clean


def instances_of(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Masks of the cracks: the components, linked across gaps."""
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    cracks = link_pieces(labels, count - 1, DEFAULT_GAP)[labels]
    for crack in range(1, int(cracks.max(initial=0)) + 1):
        yield cracks == crack


def annotation(instance: np.ndarray) -> dict[str, Any]:
    """What COCO says of an instance, but for ids."""
    rle = coco_mask.encode(np.asfortranarray(instance, np.uint8))
    return {
        "category_id": 1,
        "bbox": [int(value) for value in coco_mask.toBbox(rle)],
        "area": int(coco_mask.area(rle)),
        "iscrowd": 0,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
    }


def flags_of(stem: str, photo: np.ndarray, mask: np.ndarray) -> list[str]:
    """What makes the pair suspicious."""
    if not mask.any():
        return ["empty"] if re.search("(?<!non)crack|riss", stem, re.IGNORECASE) else []
    flags = ["coverage"] if mask.mean() > 0.4 else []
    quarter = (-(-mask.shape[1] // 4), -(-mask.shape[0] // 4))
    grey = cv2.resize(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY), quarter, 0, 0, 0, cv2.INTER_AREA)
    lines = dark_lines(grey.astype(np.float32))
    small = cv2.resize(mask.astype(np.float32), quarter, interpolation=cv2.INTER_AREA)
    drawn = cv2.blur(small, (3, 3))
    as_is = correlation(lines, drawn)
    gains = {
        kind: max(correlation(lines, cv2.flip(drawn, code)) for code in codes) - as_is
        for kind, codes in TURNS.items()
    }
    kind = max(gains, key=lambda name: gains[name])
    return [*flags, kind] if gains[kind] > 0.14 else flags


def dark_lines(grey: np.ndarray) -> np.ndarray:
    """How much darker than its surroundings each pixel is, in local deviations, at most 3."""
    darker = np.maximum(cv2.blur(grey, (5, 5)), cv2.blur(grey, (9, 9))) - cv2.blur(grey, (3, 3))
    rough = grey - cv2.blur(grey, (21, 21))
    return np.clip(darker / (np.sqrt(cv2.blur(rough * rough, (31, 31))) + 2), 0, 3)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two maps, 0 where one is constant."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) if one.std() * other.std() else 0.0


def mean_width(mask: np.ndarray) -> float:
    """Twice the area over the perimeter, that by Cauchy's formula, px."""
    padded = np.pad(mask, 1).astype(np.int8)
    edges = sum(int(np.abs(np.diff(padded, axis=axis)).sum()) for axis in (0, 1))
    return 2 * int(mask.sum()) / (np.pi / 4 * edges) if edges else 0.0


def main() -> None:
    """Convert pair after pair, then write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--images", "--masks", "--output"):
        parser.add_argument(name, type=Path, required=True)
    given = parser.parse_args()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, pair in enumerate(pair_files(given.images, given.masks).records, start=1):
        photo, grey = cv2.imread(pair.photo), cv2.imread(pair.masks[0], cv2.IMREAD_GRAYSCALE)
        if photo is None or grey is None or photo.shape[:2] != grey.shape:
            raise CrackError(f"{pair.photo} and {pair.masks[0]} cannot be read, or differ in size")
        mask = without_specks(without_halo(binarize(np.asarray(grey))))
        entry = {"id": number, "file_name": pair.file_name, "width": photo.shape[1]}
        flags = flags_of(stem_of(pair.photo), np.asarray(photo), mask)
        entry |= {"height": photo.shape[0], "flags": flags}
        images.append({**entry, "mean_width": mean_width(mask)})
        for instance in instances_of(mask):
            ids = {"id": len(annotations) + 1, "image_id": number}
            annotations.append({**ids, **annotation(instance)})
    categories = [{"id": 1, "name": "crack"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    given.output.write_text(json.dumps(content), "utf-8")


if __name__ == "__main__":
    run_tool(main)
