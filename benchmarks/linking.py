#!/usr/bin/env python
"""Count false splits and merges of linked cracks on drawn photos, where each crack is known."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from crack_data.convert.linking import cluster_pieces, link_pieces
from crack_data.errors import run_tool
from crack_data.synthetic.cracks import KINDS, random_cracks
from crack_data.synthetic.photos import draw_cracks
from crack_data.synthetic.textures import value_noise

SHAPE = (320, 480)
MIN_AREA = 10  # px, of a piece
Link = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Scene:
    """The pieces of drawn cracks, each trunk interrupted by one to three gaps of 2 to 30 px.

    Attributes:
        kind: see `crack_data.synthetic.cracks.KINDS`.
        labels, count: the connected components.
        cracks: of each component, count + 1, 0 for none; cracks that touch are one.
    """

    kind: str
    labels: np.ndarray
    count: int
    cracks: np.ndarray


def draw_scene(seed: int, index: int, kind: str, noisy: bool) -> Scene:
    """Draw the masks of one photo, exact or with rims as ragged as a model's."""
    rng = np.random.default_rng([seed, index])
    layer = draw_cracks(random_cracks(rng, SHAPE, kind=kind, gap_share=1.0), SHAPE)
    mask = (np.max([np.zeros(SHAPE, np.uint8), *layer.masks], axis=0) > 0).astype(np.uint8)
    if noisy:
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0)
        soft += 0.06 * value_noise(rng, SHAPE, 3, 2) + 0.05 * value_noise(rng, SHAPE, 12)
        mask = (soft > 0.35).astype(np.uint8)
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    keep = np.bincount(labels.ravel(), minlength=count) >= MIN_AREA
    count, labels = cv2.connectedComponents(mask * keep[labels], connectivity=8)
    count -= 1
    areas = [np.bincount(labels[m > 0], minlength=count + 1) for m in layer.masks]
    return Scene(kind, labels, count, _cracks_of(np.array(areas)))


def _cracks_of(areas: np.ndarray) -> np.ndarray:
    """The crack of each component, from the area of each crack in each component."""
    names = np.arange(1, len(areas) + 1)
    for column in areas.T[1:]:
        touching = np.isin(names, names[column >= 3])
        names[touching] = names[touching].min(initial=len(areas) + 1)
    known = areas.any(axis=0)
    cracks = np.where(known, names[areas.argmax(axis=0)], 0)
    cracks[0] = 0
    return cracks


def count_errors(scene: Scene, found: np.ndarray) -> np.ndarray:
    """True cracks; those whose pieces have several numbers; numbers that several cracks have."""
    true = scene.cracks
    cracks = np.unique(true[true > 0])
    splits = sum(len(np.unique(found[true == crack])) > 1 for crack in cracks)
    numbers = np.unique(found[true > 0])
    merges = sum(len(np.unique(true[(found == n) & (true > 0)])) > 1 for n in numbers)
    return np.array([len(cracks), splits, merges])


def compare(scenes: dict[str, list[Scene]], rules: dict[str, Link]) -> None:
    """Print a Markdown table: shares of the true cracks, by kind of masks, and time a photo."""
    kinds = [kind for kind in KINDS if kind != "network"]
    print(f"| rule | masks | false splits | false merges | {' | '.join(kinds)} | ms |")
    print("|---" * (5 + len(kinds)) + "|")
    for rule, link in rules.items():
        for masks, drawn in scenes.items():
            start = time.process_time()
            found = [link(scene.labels, scene.count) for scene in drawn]
            spent = 1000 * (time.process_time() - start) / len(drawn)
            errors = {kind: np.zeros(3) for kind in kinds}
            for scene, numbers in zip(drawn, found, strict=True):
                errors[scene.kind] += count_errors(scene, numbers)
            weights = {kind: KINDS[kind] for kind in kinds}
            total = np.sum([weights[kind] * errors[kind] for kind in kinds], axis=0)
            shares = [f"{e[1] / e[0]:.2f} / {e[2] / e[0]:.2f}" for e in errors.values()]
            overall = f"{total[1] / total[0]:.3f} | {total[2] / total[0]:.3f}"
            print(
                f"| {rule} | {masks} | {overall} | {' | '.join(shares)} | {spent:.1f} |", flush=True
            )


def main() -> int:
    """Draw the scenes and compare the rules."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40, help="photos of each kind (40)")
    parser.add_argument("--seed", type=int, default=5, help="of what is drawn (5)")
    args = parser.parse_args()
    kinds = [kind for kind in KINDS if kind != "network"]
    scenes = {
        masks: [draw_scene(args.seed, i, kind, noisy) for i in range(args.count) for kind in kinds]
        for masks, noisy in (("exact", False), ("ragged", True))
    }
    rules: dict[str, Link] = {}
    for gap in (6, 12, 24, 36):
        rules[f"proximity, {gap} px"] = partial(cluster_pieces, gap=gap)
    for gap in (12, 24, 36, 48, 64):
        rules[f"ends that face, {gap} px"] = partial(link_pieces, gap=gap)
    compare(scenes, rules)
    return 0


if __name__ == "__main__":
    run_tool(main)
