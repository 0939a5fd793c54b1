#!/usr/bin/env python
"""Compare a whole prediction with YOLO11n-seg's forward pass: same photos, threads and OpenVINO.

YOLO11n-seg (https://docs.ultralytics.com/models/yolo11/) has random weights, which cost the same.
Its decoding, suppression and masks are left out of its time: what is compared is our all with its
network alone. Needs ``pip install ultralytics`` in an environment of its own or beside this one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import openvino
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.config import load_predict_config
from crack_data.errors import CrackError, run_tool
from crack_data.inference.predictor import CrackPredictor
from crack_data.modeling.compiled import choose_precision, openvino_core
from crack_data.photos import read_photo
from crack_data.storage import find_photos


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--images", nargs="+", required=True, metavar="PHOTO|DIR", help="photos to predict")
    add("--size", type=int, nargs=2, default=(480, 320), metavar="PX", help="width and height")
    add("--rounds", type=int, default=20, help="rounds in which the rows take turns")
    add("--config-file", metavar="YAML", help="the model's config (default: the shipped model)")
    add("--weights", metavar="PTH", help="checkpoint (default: the config's MODEL.WEIGHTS)")
    add("overrides", nargs="*", metavar="KEY VALUE", help="config keys to change")
    return parser.parse_args()


def compile_yolo(width: int, height: int, precision: str) -> Callable[[np.ndarray], object]:
    """YOLO11n-seg's network for one photo size, compiled by OpenVINO; takes (1, 3, H, W)."""
    try:
        from ultralytics import YOLO
    except ImportError as error:
        raise CrackError("ultralytics is not installed; pip install ultralytics") from error
    network = YOLO("yolo11n-seg.yaml").model.fuse().eval()
    network.model[-1].export = True  # plain tensors out, as for its own exports
    example = torch.zeros(1, 3, height, width)
    with torch.no_grad():
        network(example)  # sets the grid of this size
        converted = openvino.convert_model(network, example_input=example)
    converted.reshape({converted.inputs[0]: [1, 3, height, width]})
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    return openvino_core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": hint})


def main() -> None:
    """Time the rows in turns and print medians in ms with their ratio to YOLO's fp32."""
    given = parse_arguments()
    width, height = given.size
    paths = [p.path for pattern in given.images for p in find_photos(pattern)]
    photos = [cv2.resize(read_photo(path), (width, height)) for path in paths[: given.rounds]]
    predictor = CrackPredictor(
        load_predict_config(given.config_file, given.weights, given.overrides)
    )
    rows: dict[str, Callable[[np.ndarray], object]] = {"whole prediction": predictor}
    for precision in dict.fromkeys(("fp32", choose_precision("auto"))):
        rows[f"YOLO11n-seg, forward, {precision}"] = compile_yolo(width, height, precision)
    spent: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(given.rounds + 2):
        photo = photos[number % len(photos)]
        blob = np.ascontiguousarray(photo[None].transpose(0, 3, 1, 2), np.float32) / 255
        for name, run in rows.items():
            started = time.perf_counter()
            run(photo if name == "whole prediction" else blob)
            if number >= 2:  # the first are warm-up
                spent[name].append(1000 * (time.perf_counter() - started))
    base = np.median(spent["YOLO11n-seg, forward, fp32"])
    print(f"{width}x{height}, {given.rounds} rounds\n\n| row | ms, median | ratio |\n|---|---|---|")
    for name, times in spent.items():
        print(f"| {name} | {np.median(times):.1f} | {np.median(times) / base:.2f} |")


if __name__ == "__main__":
    run_tool(main)
