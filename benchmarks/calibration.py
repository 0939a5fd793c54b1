"""Does the calibrated interval of the percentage hold? On halves of the photos, and on new sources.

``python benchmarks/calibration.py DATASETS.TEST "('a_val.json', 'b_val.json')"``: calibrated on one
random half of the groups, 200 times, the interval is tried on the other; and calibrated on all
sets but one, on that one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detectron2.data import DatasetCatalog

from crack_data.config import load_predict_config
from crack_data.datasets import register_datasets_of
from crack_data.errors import run_tool
from crack_data.evaluation.calibration import (
    CalibrationPhoto,
    build_predictor,
    fit_interval,
    measure_photos,
    predicted_percent,
)

ROUNDS = 200


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", metavar="PTH")
    parser.add_argument("--group-by", default="", metavar="REGEX")
    parser.add_argument("overrides", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    cfg = load_predict_config(None, args.weights, args.overrides)
    register_datasets_of(cfg, ("TEST",))
    predictor = build_predictor(cfg)
    threshold = predictor.threshold
    sets = {
        name: list(measure_photos(predictor, DatasetCatalog.get(name), args.group_by))
        for name in cfg.DATASETS.TEST
    }
    photos = [photo for part in sets.values() for photo in part]
    shares, widths = halves(photos, threshold)
    print(
        f"{len(photos)} photos; on the other half of the groups, {ROUNDS} times: holds "
        f"{100 * np.mean(shares):.1f} % (5th to 95th percentile of the rounds "
        f"{100 * np.percentile(shares, 5):.1f} to {100 * np.percentile(shares, 95):.1f}), median "
        f"width {np.median(widths):.2f} points"
    )
    for name, left_out in sets.items():
        rest = [photo for other, part in sets.items() if other != name for photo in part]
        print(
            f"{name}, calibrated on the others: holds {100 * held(rest, left_out, threshold):.1f} %"
        )


def halves(photos: Sequence[CalibrationPhoto], threshold: float) -> tuple[list[float], list[float]]:
    """Share of the other half's photos within the interval, and its median width, each round."""
    rng = np.random.default_rng(0)
    names = sorted({photo.group for photo in photos})
    shares, widths = [], []
    for _ in range(ROUNDS):
        chosen = set(rng.permutation(names)[: len(names) // 2])
        one = [photo for photo in photos if photo.group in chosen]
        other = [photo for photo in photos if photo.group not in chosen]
        shares.append(held(one, other, threshold))
        interval = fit_interval(one, threshold)
        if interval is not None:
            widths.append(
                float(np.median([(interval.high - interval.low) * photo.spread for photo in other]))
            )
    return shares, widths


def held(
    calibration: Sequence[CalibrationPhoto], others: Sequence[CalibrationPhoto], threshold: float
) -> float:
    """Share of groups' photos that an interval holds; each group counts once."""
    interval = fit_interval(calibration, threshold)
    if interval is None:
        return float("nan")
    groups: dict[str, list[bool]] = {}
    for photo in others:
        low, high = interval.around(predicted_percent(photo.levels, threshold), photo.spread)
        groups.setdefault(photo.group, []).append(low <= photo.true_percent <= high)
    return float(np.mean([np.mean(values) for values in groups.values()]))


if __name__ == "__main__":
    run_tool(main)
