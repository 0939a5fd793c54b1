#!/usr/bin/env python
"""Where a prediction's time goes: layer by layer within the compiled network, and outside it."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.backbones.size import part_of
from crack_data.config import load_predict_config
from crack_data.errors import CrackError, run_tool
from crack_data.evaluation.tables import markdown_lines
from crack_data.inference.predictor import CrackPredictor
from crack_data.modeling.compiled import CompiledDense, openvino_core
from crack_data.photos import read_photo
from crack_data.storage import find_photos


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--images", nargs="+", required=True, metavar="PHOTO|DIR", help="photos to predict")
    add("--config-file", metavar="YAML", help="the model's config (default: the shipped model)")
    add("--weights", metavar="PTH", help="checkpoint (default: the config's MODEL.WEIGHTS)")
    add("--rounds", type=int, default=5, help="how often each photo is predicted")
    add("--layers", type=int, default=20, help="rows of the table of layers")
    add("overrides", nargs="*", metavar="KEY VALUE", help="config keys to change")
    return parser.parse_args()


def main() -> None:
    """Predict, and print two tables in Markdown: parts and layers, medians in ms."""
    given = parse_arguments()
    images = [read_photo(p.path) for pattern in given.images for p in find_photos(pattern)]
    openvino_core().set_property("CPU", {"PERF_COUNT": True})
    predictor = CrackPredictor(
        load_predict_config(given.config_file, given.weights, given.overrides)
    )
    dense = getattr(predictor.model.dense, "__self__", None)
    if not isinstance(dense, CompiledDense):
        raise CrackError("this model is not compiled; it needs a CPU and CRACK.INFERENCE.FAST auto")
    layers: dict[tuple[str, str], list[float]] = defaultdict(list)
    parts: dict[str, list[float]] = defaultdict(list)
    for image in images * given.rounds:
        started = time.perf_counter()
        predictor(image)
        spent = {"whole prediction": 1000 * (time.perf_counter() - started)}
        for layer in dense.module.request.profiling_info:
            milliseconds = layer.real_time.total_seconds() * 1000
            layers[layer.node_name, layer.node_type].append(milliseconds)
            module = layer.node_name.strip("/").replace("/", ".")
            part = "RPN" if module.startswith("rpn_head") else part_of(module)
            spent[part] = spent.get(part, 0.0) + milliseconds
        for part, milliseconds in spent.items():
            parts[part].append(milliseconds)
    table = [(part, f"{np.median(times):.2f}") for part, times in parts.items()]
    print(markdown_lines(("part", "ms"), table), end="\n\n")
    slowest = sorted(layers, key=lambda key: -np.median(layers[key]))[: given.layers]
    table = [(*key, f"{np.median(layers[key]):.2f}") for key in slowest]
    print(markdown_lines(("layer", "type", "ms"), table))


if __name__ == "__main__":
    run_tool(main)
