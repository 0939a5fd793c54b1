"""R-CNN whose instances cut their masks out of one shared crack map."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, detector_postprocess
from detectron2.structures import BitMasks, ImageList, Instances
from torch import nn

from ..calibration import DEFAULT_SCORE_THRESHOLD, DEFAULT_THRESHOLD
from .crack_map_head import IGNORED, CrackMapHead, crack_map_loss
from .instances import Components, Detection, add_map_proposals, find_components, to_detections

Features = dict[str, torch.Tensor]
# Objectness logits (N, A, h, w) and box deltas (N, A x 4, h, w) of each level.
RPNOutputs = tuple[list[torch.Tensor], list[torch.Tensor]]


@dataclass(frozen=True)
class NetworkOutput:
    """What the network says of one photo, at the photo's size."""

    probability: np.ndarray  # (H, W) uint8, the crack map x 255
    detections: list[Detection]
    # The cracks of the map, where the network saw the photo at this very size.
    components: Components | None = None


@META_ARCH_REGISTRY.register()
class CrackRCNN(GeneralizedRCNN):
    """Detectron2's R-CNN with a `CrackMapHead` beside its ROI heads.

    The map says which pixels are crack; the detector says which of the map's cracks are real and
    how sure that is. Works with any FPN backbone, with or without a mask branch: a detection covers
    the pixels in its coarse mask where there is one, else those in its box.
    """

    @configurable
    def __init__(self, *, crack_map_head: nn.Module, settings: CfgNode, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.crack_map_head = crack_map_head
        self.settings = settings

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read MODEL.CRACK_MAP and what the base class reads."""
        parts = super().from_config(cfg)
        head = CrackMapHead(cfg, parts["backbone"].output_shape())
        return {**parts, "crack_map_head": head, "settings": cfg.MODEL.CRACK_MAP.clone()}

    def dense(self, images: torch.Tensor) -> tuple[Features, RPNOutputs, torch.Tensor]:
        """Run everything that looks at every pixel of normalised, padded photos, (N, 3, H, W).

        Returned are features, each (N, C, h, w), the RPN head's outputs and crack logits (N, H, W).
        """
        features = self.backbone(images)
        rpn = self.proposal_generator
        outputs = rpn.rpn_head([features[name] for name in rpn.in_features])
        return features, outputs, self.crack_map_head(features, images)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """As in the base class; in training the losses include "loss_crack_map"."""
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        truth = [x["instances"].to(self.device) for x in batched_inputs]
        features, rpn_outputs, logits = self.dense(images.tensor)
        proposals, proposal_losses = self.propose(images, rpn_outputs, truth)
        probabilities = _to_uint8(logits.detach().float().sigmoid())
        proposals, _ = add_map_proposals(proposals, probabilities, self.settings)
        _, detector_losses = self.roi_heads(images, features, proposals, truth)
        # Of a batch that is not our loader's the union of the masks stands in for the map's truth.
        shown = [
            x["sem_seg"].to(self.device) if "sem_seg" in x else y.gt_masks.tensor.any(dim=0).byte()
            for x, y in zip(batched_inputs, truth, strict=True)
        ]
        target = ImageList.from_tensors(shown, self.backbone.size_divisibility, IGNORED).tensor
        weight = (target != IGNORED).to(logits)
        loss = crack_map_loss(logits, (target == 1).to(logits), weight)
        return {"loss_crack_map": loss, **proposal_losses, **detector_losses}

    def propose(
        self, images: ImageList, outputs: RPNOutputs, truth: list[Instances] | None
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """The RPN's proposals and losses: Detectron2's `RPN.forward` after its head."""
        rpn = self.proposal_generator
        anchors = rpn.anchor_generator(outputs[0])
        box_dim = rpn.anchor_generator.box_dim
        # (N, A x B, h, w) to (N, h x w x A, B): one row an anchor.
        objectness = [x.permute(0, 2, 3, 1).flatten(1) for x in outputs[0]]
        deltas = [x.permute(0, 2, 3, 1).reshape(len(x), -1, box_dim) for x in outputs[1]]
        losses = {}
        if truth is not None:
            labels, boxes = rpn.label_and_sample_anchors(anchors, truth)
            losses = rpn.losses(anchors, objectness, labels, deltas, boxes)
        return rpn.predict_proposals(anchors, objectness, deltas, images.image_sizes), losses

    def inference(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Detect cracks and draw them on Detectron2's inputs: "image" (3, H, W), "height", "width".

        Returned are each photo's "instances" with pred_boxes, scores, pred_classes and pred_masks
        (N, height, width) bool, best first, and "crack_map", (height, width) float32 probability,
        zero outside the cracks scored at least SCORE_THRESHOLD.
        """
        threshold, least = self.settings.THRESHOLD, self.settings.SCORE_THRESHOLD
        threshold = threshold if threshold >= 0 else DEFAULT_THRESHOLD
        least = least if least >= 0 else DEFAULT_SCORE_THRESHOLD
        outputs = []
        for found in self.run_network(batched_inputs):
            components, scores = self.find_cracks(found)
            drawn = scores >= least
            # A hundred: masks of the photo's size, one each, take memory.
            best = np.argsort(-scores, kind="stable")[:100]
            best = best[drawn[best] | (scores[best] > 0)]
            masks = components.labels == (best + 1)[:, None, None]
            masks &= found.probability > 255 * threshold
            kept = masks.any(axis=(1, 2))
            instances = Instances(found.probability.shape)
            instances.pred_masks = torch.from_numpy(masks[kept])
            instances.pred_boxes = BitMasks(instances.pred_masks).get_bounding_boxes()
            instances.scores = torch.from_numpy(scores[best][kept]).float()
            instances.pred_classes = torch.zeros(int(kept.sum()), dtype=torch.int64)
            crack_map = torch.from_numpy(components.claimed(found.probability, drawn))
            output = {"instances": instances, "crack_map": crack_map.float() / 255}
            outputs.append({name: value.to(self.device) for name, value in output.items()})
        return outputs

    def run_network(self, batched_inputs: list[dict[str, Any]]) -> list[NetworkOutput]:
        """Run the network on photos, or tiles of one; arguments as of `inference`."""
        images = self.preprocess_image(batched_inputs)
        features, rpn_outputs, logits = self.dense(images.tensor)
        proposals, _ = self.propose(images, rpn_outputs, None)
        maps = logits.float().sigmoid()
        levels = _to_uint8(maps)
        proposals, components = add_map_proposals(proposals, levels, self.settings)
        results, _ = self.roi_heads(images, features, proposals, None)
        found = []
        for i, (rows, columns) in enumerate(images.image_sizes):
            height = batched_inputs[i].get("height", rows)
            width = batched_inputs[i].get("width", columns)
            detections = to_detections(detector_postprocess(results[i], height, width))
            if (rows, columns) == (height, width):
                level = levels[i, :rows, :columns]
                found.append(NetworkOutput(level, detections, components[i]))
                continue
            size = (height, width)
            resized = F.interpolate(maps[i, None, None, :rows, :columns], size, mode="bilinear")
            found.append(NetworkOutput(_to_uint8(resized[0, 0]), detections))
        return found

    def find_cracks(self, output: NetworkOutput) -> tuple[Components, np.ndarray]:
        """The cracks of one photo, and the score of each, (N,)."""
        components = output.components or find_components(output.probability, self.settings)
        return components, components.scores(output.detections, self.settings)


def _to_uint8(probability: torch.Tensor) -> np.ndarray:
    """Probabilities in [0, 1] x 255, rounded."""
    return (255 * probability).round().to(torch.uint8).cpu().numpy()
