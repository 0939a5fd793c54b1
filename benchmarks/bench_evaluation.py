#!/usr/bin/env python
"""Measure evaluation: processor time for real masks and a map that is a little off for each."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from crack_data.convert.mask_files import read_mask
from crack_data.errors import CrackError, run_tool
from crack_data.evaluation.instance_metrics import count_instances, summarize_instances
from crack_data.evaluation.metrics import count_photo, summarize
from crack_data.inference.prediction import CrackInstance


def made_up_map(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A crack map that is a little off and a little noisy: uint8, shape (H, W)."""
    moved = np.roll(truth, tuple(rng.integers(-2, 3, 2)), axis=(0, 1))
    blurred = cv2.GaussianBlur(moved * np.float32(230), (0, 0), 1.5)
    return np.clip(blurred + rng.integers(0, 25, truth.shape), 0, 255).astype(np.uint8)


def instances_of(mask: np.ndarray) -> list[CrackInstance]:
    """The connected components of a bool mask of shape (H, W)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    found = []
    for number, (x, y, width, height, _) in enumerate(stats[1:].tolist(), start=1):
        box = (x, y, x + width, y + height)
        part = labels[y : y + height, x : x + width] == number
        found.append(CrackInstance(1.0, box, part))
    return found


def main() -> None:
    """Count every photo, summarise the set, and print the seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masks", type=Path, required=True, metavar="DIR", help="folder of PNGs")
    parser.add_argument("--count", type=int, default=300, metavar="N", help="at most so many (300)")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    paths = sorted(given.masks.glob("*.png"))[: given.count]
    if not paths:
        raise CrackError(f"{given.masks} holds no masks; give a folder of PNG files")
    truths = [read_mask(path).values > 127 for path in paths]
    rng = np.random.default_rng(0)
    maps = [made_up_map(truth, rng) for truth in truths]
    pairs = list(zip(truths, maps, strict=True))
    start = time.process_time()
    counts = [count_photo(truth, map_ > 127, map_) for truth, map_ in pairs]
    counted = time.process_time()
    metrics = summarize(counts)
    summarised = time.process_time()
    found = [count_instances(instances_of(t), instances_of(m > 127)) for t, m in pairs]
    instances = summarize_instances(found)
    done = time.process_time()
    print(
        f"{len(counts)} photos: {counted - start:.2f} s to count pixels, "
        f"{summarised - counted:.2f} s for metrics and intervals, {done - summarised:.2f} s for "
        f"instances; F1 {metrics['f1']:.3f}, with 2 px {metrics['f1_2px']:.3f}, "
        f"avF1 {instances['avF1']:.3f}"
    )


if __name__ == "__main__":
    run_tool(main)
