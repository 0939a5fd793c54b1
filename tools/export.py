#!/usr/bin/env python
"""Write a trained model as ONNX, and compare the file with PyTorch on photos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.errors import CrackError, run_tool
from crack_data.export import ExportModule, compare, export_onnx, photo_tensor
from crack_data.inference.defaults import load_predict_config
from crack_data.inference.predictor import CrackPredictor
from crack_data.storage import find_photos


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--output", required=True, metavar="ONNX", help="the file to write")
    add("--images", nargs="+", required=True, metavar="PHOTO|DIR", help="photos to compare on")
    add("--config-file", metavar="YAML", help="the model's config (default: the shipped model)")
    add("--weights", metavar="PTH", help="checkpoint (default: the config's MODEL.WEIGHTS)")
    add("overrides", nargs="*", metavar="KEY VALUE", help="config keys to change")
    return parser.parse_args()


def main() -> None:
    """Export and compare."""
    given = parse_arguments()
    cfg = load_predict_config(given.config_file, given.weights, given.overrides)
    cfg.MODEL.DEVICE, cfg.CRACK.INFERENCE.FAST = "cpu", "off"
    paths = [photo.path for pattern in given.images for photo in find_photos(pattern)]
    if not paths:
        raise CrackError("no photos to compare on; give --images")
    images = [photo_tensor(path, cfg.INPUT.FORMAT) for path in paths]
    module = ExportModule(CrackPredictor(cfg).model, cfg.MODEL.CRACK_MAP.THRESHOLD)
    export_onnx(module, given.output, images[0])
    result = compare(module, given.output, images)
    sys.stdout.write(
        f"wrote {given.output}; on {result.photos} photos with {result.detections} detections it "
        f"differs from PyTorch by at most {result.box:.2g} px, {result.score:.2g} in score and "
        f"{result.crack_map:.2g} in the crack map; smallest mask IoU {result.mask_iou:.4f}\n"
    )


if __name__ == "__main__":
    run_tool(main)
