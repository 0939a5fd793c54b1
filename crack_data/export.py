"""A trained model as one ONNX file: photo in; boxes, scores, masks and crack map out."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from torch import nn

from .errors import CrackError
from .files import atomic_write
from .modeling import CrackRCNN
from .photos import read_photo

_OPSET = 17
INPUT = "image"
OUTPUTS = ("boxes", "scores", "masks", "crack_map")
# A detection and a mask pixel may differ this much before an export counts as wrong.
_BOX_PX, _SCORE, _MAP = 0.5, 0.005, 0.005


class ExportModule(nn.Module):
    """An R-CNN as a function of tensors.

    ONNX has no connected components, so a mask here is what the map holds within the detection's
    region: its box, or its coarse mask where the model has a mask branch. Joining the map's
    pixels to whole cracks, as prediction does, is left to whoever runs the file.
    """

    def __init__(self, model: GeneralizedRCNN, threshold: float) -> None:
        """Take a trained model on the CPU.

        Args:
            model: the model.
            threshold: a pixel of the crack map above it is crack.

        Raises:
            CrackError: it draws neither masks nor a crack map.
        """
        super().__init__()
        self.model = model
        self.eval()
        self.threshold = threshold
        self.draws_map = isinstance(model, CrackRCNN)
        if not self.draws_map and not model.roi_heads.mask_on:
            raise CrackError("this model has neither a mask branch nor a crack map to export")

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run on one photo.

        Args:
            image: float32 (3, H, W), 0 to 255, channels in the order of INPUT.FORMAT, at the size
                that the network is to see.

        Returns:
            boxes (N, 4) XYXY, px; scores (N,); masks (N, H, W) bool; crack_map (H, W) in [0, 1],
            which for a model without one is the best score of the masks over each pixel.
        """
        model = self.model
        images = model.preprocess_image([{"image": image}])
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features, None)
        height, width = image.shape[1], image.shape[2]
        found = self._detect(features, proposals)
        boxes, scores = found.pred_boxes.tensor, found.scores
        if model.roi_heads.mask_on:
            region = _paste(self._small_masks(features, found), boxes, image[0])
        else:
            region = _inside(boxes, image[0])
        if self.draws_map:
            logits = model.crack_map_head(features, images.tensor)
            crack_map = logits[0, :height, :width].sigmoid()
            return boxes, scores, region & (crack_map > self.threshold), crack_map
        nothing = torch.zeros_like(image[:1])
        weighted = region * scores[:, None, None]
        return boxes, scores, region, torch.cat([nothing, weighted]).amax(dim=0)

    # The parts of Detectron2's ROI heads one by one: as a whole they fix the number of detections
    # of the traced photo.
    def _detect(self, features: dict[str, torch.Tensor], proposals: list[Instances]) -> Instances:
        heads = self.model.roi_heads
        maps = [features[name] for name in heads.box_in_features]
        pooled = heads.box_pooler(maps, [x.proposal_boxes for x in proposals])
        predictions = heads.box_predictor(heads.box_head(pooled))
        return heads.box_predictor.inference(predictions, proposals)[0][0]

    def _small_masks(self, features: dict[str, torch.Tensor], found: Instances) -> torch.Tensor:
        """Probabilities of each detection's own class, (N, 1, m, m)."""
        heads = self.model.roi_heads
        maps = [features[name] for name in heads.mask_in_features]
        logits = heads.mask_head.layers(heads.mask_pooler(maps, [found.pred_boxes]))
        if logits.shape[1] > 1:
            own = found.pred_classes[:, None, None, None].expand_as(logits[:, :1])
            logits = logits.gather(1, own)
        return logits.sigmoid()


def _paste(masks: torch.Tensor, boxes: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """Small masks, (N, 1, m, m), stretched over their boxes, (N, H, W) bool.

    What Detectron2's `paste_masks_in_image` does, which ONNX Runtime refuses to load.
    """
    x0, y0, x1, y1 = boxes[:, :, None].unbind(dim=1)
    rows, columns = _centres(picture)
    y = ((rows - y0) / (y1 - y0) * 2 - 1)[:, :, None]
    x = ((columns - x0) / (x1 - x0) * 2 - 1)[:, None, :]
    # Sums rather than `expand`, which would fix the traced photo's size.
    x, y = x + 0 * y, y + 0 * x
    grid = torch.stack([x, y], dim=3)
    return F.grid_sample(masks, grid, align_corners=False)[:, 0] >= 0.5


def _inside(boxes: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """Pixels whose centre lies in each box, (N, H, W)."""
    rows, columns = _centres(picture)
    in_rows = (rows >= boxes[:, 1:2]) & (rows <= boxes[:, 3:4])
    in_columns = (columns >= boxes[:, 0:1]) & (columns <= boxes[:, 2:3])
    return in_rows[:, :, None] & in_columns[:, None, :]


def _centres(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the pixels of an (H, W) picture have their centres: (H,) and (W,)."""
    rows = torch.ones_like(picture[:, 0]).cumsum(0) - 0.5
    return rows, torch.ones_like(picture[0]).cumsum(0) - 0.5


def export_onnx(module: ExportModule, path: str | Path, example: torch.Tensor) -> None:
    """Write the ONNX file; height and width stay free.

    Args:
        module: the model.
        path: of the file.
        example: a photo on which the model detects something, see `ExportModule.forward`.

    Raises:
        CrackError: the file cannot be written.
    """
    axes = {
        INPUT: {1: "height", 2: "width"},
        "boxes": {0: "count"},
        "scores": {0: "count"},
        "masks": {0: "count", 1: "height", 2: "width"},
        "crack_map": {0: "height", 1: "width"},
    }
    buffer: Any = io.BytesIO()  # which its annotation does not know
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing warns of every Python number; the comparison with PyTorch is the real test.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (example,), buffer, dynamo=False, opset_version=_OPSET,
            input_names=[INPUT], output_names=list(OUTPUTS), dynamic_axes=axes,
        )  # fmt: skip
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


@dataclass(frozen=True)
class Comparison:
    """How far ONNX Runtime and PyTorch lie apart on some photos.

    Attributes:
        photos, detections: how many were compared.
        box, score, crack_map: largest differences; px, and of 1.
        mask_iou: the smallest of a mask.
    """

    photos: int
    detections: int
    box: float
    score: float
    crack_map: float
    mask_iou: float


def compare(module: ExportModule, path: str | Path, images: list[torch.Tensor]) -> Comparison:
    """Run the file in ONNX Runtime beside the module.

    Args:
        module: the model that was exported.
        path: the file.
        images: see `ExportModule.forward`; of different sizes.

    Raises:
        CrackError: they disagree.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = {"box": 0.0, "score": 0.0, "crack_map": 0.0, "lost": 0.0}
    detections = 0
    for image in images:
        with torch.no_grad():
            expected = [x.numpy() for x in module(image)]
        found = session.run(list(OUTPUTS), {INPUT: image.numpy()})
        if len(found[0]) != len(expected[0]):
            raise CrackError(f"{path} finds {len(found[0])} boxes where PyTorch finds "
                             f"{len(expected[0])}; the export is wrong")  # fmt: skip
        detections += len(found[0])
        for name, a, b in zip(("box", "score"), found, expected, strict=False):
            worst[name] = max(worst[name], float(np.abs(a - b).max(initial=0)))
        worst["crack_map"] = max(worst["crack_map"], float(np.abs(found[3] - expected[3]).max()))
        worst["lost"] = max(
            worst["lost"], *(1 - _iou(a, b) for a, b in zip(found[2], expected[2], strict=True)), 0
        )
    if worst["box"] > _BOX_PX or worst["score"] > _SCORE or worst["crack_map"] > _MAP:
        raise CrackError(f"{path} differs from PyTorch: {worst}")
    return Comparison(
        len(images), detections, worst["box"], worst["score"], worst["crack_map"], 1 - worst["lost"]
    )


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def photo_tensor(path: str, input_format: str) -> torch.Tensor:
    """A photo as `ExportModule.forward` takes it.

    Args:
        path: of the photo.
        input_format: INPUT.FORMAT, "RGB" or "BGR".

    Raises:
        CrackError: it cannot be read.
    """
    image = read_photo(path)
    if input_format == "RGB":
        image = image[:, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()
