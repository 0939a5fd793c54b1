#!/usr/bin/env python
"""Write a trained crack model as one ONNX file, and compare the file with PyTorch on photos.

The file takes one photo: float32 (3, H, W), 0 to 255, channels in the order of INPUT.FORMAT, of
any size from about 48 px on. It gives the detector's boxes (N, 4), x0 y0 x1 y1 in px, and scores
(N,), best first, and the crack map (H, W), a probability a pixel. ONNX has no connected components:
joining the map's pixels to cracks, as prediction does, is left to whoever runs the file. With
INPUT.MIN_SIZE_TEST above 0 they resize photos first, as prediction does: the file does not.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crack_data.config import load_predict_config
from crack_data.errors import CrackError, as_crack_error, run_tool
from crack_data.inference.predictor import CrackPredictor
from crack_data.modeling import CrackRCNN
from crack_data.modeling.compiled import to_onnx
from crack_data.photos import read_photo
from crack_data.storage import find_photos, write_bytes

_AXES = {
    "image": {1: "height", 2: "width"},
    "boxes": {0: "count"},
    "scores": {0: "count"},
    "crack_map": {0: "height", 1: "width"},
}
# Largest differences from PyTorch that pass for rounding: px, and of 1.
_TOLERANCE = {"boxes": 0.5, "scores": 0.005, "crack_map": 0.005}


class CrackTensors(nn.Module):
    """A trained `CrackRCNN`, not compiled, as a function of tensors: see the file's description."""

    def __init__(self, model: CrackRCNN) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return boxes, scores and crack map of one photo."""
        model, heads = self.model, self.model.roi_heads
        images = model.preprocess_image([{"image": image}])
        features, rpn_outputs, logits = model.dense(images.tensor)
        proposals, _ = model.propose(images, rpn_outputs, None)
        # Called as a whole, the heads fix the number of detections at that of the traced photo.
        maps = [features[name] for name in heads.box_in_features]
        pooled = heads.box_pooler(maps, [x.proposal_boxes for x in proposals])
        predictions = heads.box_predictor(heads.box_head(pooled))
        found = heads.box_predictor.inference(predictions, proposals)[0][0]
        crack_map = logits[0, : image.shape[1], : image.shape[2]].sigmoid()
        return found.pred_boxes.tensor, found.scores, crack_map


def read_image(path: str, channels: str) -> torch.Tensor:
    """Read a photo as the file takes it, ``channels`` in the order of INPUT.FORMAT."""
    image = read_photo(path)[:, :, :: -1 if channels == "RGB" else 1]
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()


def compare(module: CrackTensors, data: bytes, images: Iterable[torch.Tensor]) -> str:
    """Run an ONNX in ONNX Runtime beside the module; say how far they lie apart, or raise."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(_TOLERANCE, 0.0)
    photos = detections = 0
    for image in images:
        photos += 1
        with torch.no_grad():
            expected = [x.numpy() for x in module(image)]
        height, width = image.shape[1:]
        with as_crack_error(f"the ONNX cannot be run on a photo of {width}x{height} px"):
            found = session.run(list(_TOLERANCE), {"image": image.numpy()})
        if len(found[0]) != len(expected[0]):
            numbers = f"{len(found[0])} boxes where PyTorch finds {len(expected[0])}"
            raise CrackError(f"the ONNX finds {numbers}; put a photo with several cracks first")
        detections += len(found[0])
        for name, a, b in zip(_TOLERANCE, found, expected, strict=True):
            # NaN, which Python's max loses and which is not above a limit, has to come through.
            worst[name] = np.maximum(worst[name], np.abs(a - b).max(initial=0))
    apart = ", ".join(f"{name} {value:.2g}" for name, value in worst.items())
    if not all(worst[name] <= most for name, most in _TOLERANCE.items()):
        raise CrackError(f"the ONNX differs from PyTorch ({apart}) and is not written")
    return f"{photos} photos, {detections} detections, largest differences: {apart}"


def main() -> None:
    """Export and compare."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output", required=True, metavar="ONNX", help="the file to write")
    add("--images", nargs="+", required=True, metavar="PHOTO|DIR", help="photos to compare on")
    add("--config-file", metavar="YAML", help="the model's config (default: the shipped model)")
    add("--weights", metavar="PTH", help="checkpoint (default: the config's MODEL.WEIGHTS)")
    add("overrides", nargs="*", metavar="KEY VALUE", help="config keys to change")
    given = parser.parse_args()
    if not given.output.endswith(".onnx"):
        raise CrackError(f"--output {given.output} must end in .onnx")
    cfg = load_predict_config(given.config_file, given.weights, given.overrides)
    cfg.MODEL.DEVICE, cfg.CRACK.INFERENCE.FAST = "cpu", "off"
    model = CrackPredictor(cfg).model
    if not isinstance(model, CrackRCNN):
        raise CrackError(f"only a CrackRCNN is exported; this config's model is {type(model)}")
    module = CrackTensors(model)
    # One after the other: a folder of photos need not fit into memory.
    paths = [photo.path for photo in find_photos(*given.images)]
    data = to_onnx(module, [read_image(paths[0], cfg.INPUT.FORMAT)], _AXES)
    compared = compare(module, data, (read_image(path, cfg.INPUT.FORMAT) for path in paths))
    write_bytes(Path(given.output), data)
    print(f"wrote {given.output}; compared with PyTorch: {compared}")


if __name__ == "__main__":
    run_tool(main)
