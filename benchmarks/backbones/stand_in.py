"""Weights for a model that nobody has trained, under which it works as hard as a trained one.

Freshly initialised, a deep network with pretrained-style normalisation overflows, finds nothing
and skips half its work: a benchmark of that would flatter it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN, build_model
from torch import nn

from crack_data.storage import atomic_write
from crack_data.synthetic import draw_photo

# Detections that a photo with cracks gives, roughly.
_DETECTIONS = 20


def stand_in_weights(cfg: CfgNode, folder: str) -> str:
    """Make random weights whose activations are of order 1 and that detect a few boxes.

    Args:
        cfg: the model, with BatchNorm in its backbone.
        folder: where the checkpoint goes; one that is there already is used again.

    Returns:
        the checkpoint's path.
    """
    key = hashlib.sha256(cfg.MODEL.dump().encode()).hexdigest()[:12]
    path = Path(folder) / f"stand_in_{key}.pth"
    if path.exists():
        return str(path)
    torch.manual_seed(0)
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS = ""
    model = build_model(cfg)
    with torch.no_grad():
        _settle(model, torch.from_numpy(draw_photo(0).image).permute(2, 0, 1).to(model.device))
    with atomic_write(path) as file:
        torch.save({"model": model.state_dict()}, file)
    return str(path)


def _settle(model: GeneralizedRCNN, image: torch.Tensor) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.train()
    model.backbone(model.preprocess_image([{"image": image}]).tensor)
    model.eval()
    margins: list[torch.Tensor] = []
    predictor = model.roi_heads.box_predictor

    def keep(_: nn.Module, __: object, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        margins.append(output[0][:, 0] - output[0][:, -1])

    handle = predictor.register_forward_hook(keep)
    model([{"image": image}])
    handle.remove()
    margin = margins[0]
    # Spread the scores, then move them so that the best few pass.
    factor = 4.0 / margin.std()
    predictor.cls_score.weight *= factor
    predictor.cls_score.bias *= factor
    predictor.cls_score.bias[-1] += factor * margin.topk(min(_DETECTIONS, len(margin))).values[-1]
