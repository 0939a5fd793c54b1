"""R-CNN whose instances cut their masks out of one shared crack map."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, detector_postprocess
from detectron2.structures import Instances
from torch import nn

from .crack_map_head import IGNORED, CrackMapHead, crack_map_loss, stack_targets
from .instances import claim_pixels
from .map_proposals import add_map_proposals


@META_ARCH_REGISTRY.register()
class CrackRCNN(GeneralizedRCNN):
    """Detectron2's R-CNN with a `CrackMapHead` beside its ROI heads.

    The map says which pixels are crack; the detector says which of the map's components are cracks
    and how sure that is. Works with any FPN backbone, with or without a mask branch: where there
    is one, a detection vouches for the pixels in its coarse mask, else for those in its box.
    """

    @configurable
    def __init__(
        self,
        *,
        crack_map_head: nn.Module,
        loss_weight: float,
        dice_weight: float,
        link_threshold: float,
        link_gap: float,
        threshold: float,
        score_threshold: float,
        **kwargs: Any,
    ) -> None:
        """See the MODEL.CRACK_MAP keys in `crack_data.config`; ``kwargs`` as in the base class."""
        super().__init__(**kwargs)
        self.crack_map_head = crack_map_head
        self.loss_weight = loss_weight
        self.dice_weight = dice_weight
        self.link_threshold = link_threshold
        self.link_gap = link_gap
        self.threshold = threshold
        self.score_threshold = score_threshold

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read MODEL.CRACK_MAP and what the base class reads."""
        parts = super().from_config(cfg)
        keys = cfg.MODEL.CRACK_MAP
        return {
            **parts,
            "crack_map_head": CrackMapHead(cfg, parts["backbone"].output_shape()),
            "loss_weight": keys.LOSS_WEIGHT,
            "dice_weight": keys.DICE_WEIGHT,
            "link_threshold": keys.LINK_THRESHOLD,
            "link_gap": keys.LINK_GAP,
            "threshold": keys.THRESHOLD,
            "score_threshold": keys.SCORE_THRESHOLD,
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """As in the base class; in training the losses include "loss_crack_map"."""
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        truth = [x["instances"].to(self.device) for x in batched_inputs]
        features = self.backbone(images.tensor)
        logits = self.crack_map_head(features, images.tensor)
        proposals, proposal_losses = self.proposal_generator(images, features, truth)
        proposals = add_map_proposals(proposals, logits, self.link_threshold, self.link_gap)
        _, detector_losses = self.roi_heads(images, features, proposals, truth)
        return {
            "loss_crack_map": self.loss_weight * self._crack_map_loss(logits, batched_inputs),
            **proposal_losses,
            **detector_losses,
        }

    def _crack_map_loss(
        self, logits: torch.Tensor, batched_inputs: list[dict[str, Any]]
    ) -> torch.Tensor:
        target = stack_targets([_map_target(x) for x in batched_inputs], tuple(logits.shape[1:]))
        target = target.to(logits.device)
        weight = (target != IGNORED).float()
        return crack_map_loss(logits, (target == 1).float(), weight, self.dice_weight)

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any:
        """Detect cracks and draw them.

        Args:
            batched_inputs: Detectron2's: "image" (3, H, W), and "height", "width" of the photo.
            detected_instances: given boxes, as in the base class.
            do_postprocess: False gives the detector's raw instances, without masks from the map.

        Returns:
            for each photo {"instances": Instances with pred_boxes, scores, pred_classes and
            pred_masks (N, height, width) bool, "crack_map": (height, width) float32 probability,
            zero where no instance scored at least SCORE_THRESHOLD claims the pixel}.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        logits = self.crack_map_head(features, images.tensor)
        if detected_instances is None:
            proposals, _ = self.proposal_generator(images, features, None)
            proposals = add_map_proposals(proposals, logits, self.link_threshold, self.link_gap)
            results, _ = self.roi_heads(images, features, proposals, None)
        else:
            given = [x.to(self.device) for x in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, given)
        if not do_postprocess:
            return results
        return self.draw(batched_inputs, images.image_sizes, results, logits)

    def draw(
        self,
        batched_inputs: list[dict[str, Any]],
        image_sizes: list[tuple[int, int]],
        results: list[Instances],
        logits: torch.Tensor,
    ) -> list[dict[str, Any]]:
        """Bring detections and crack logits to each photo's size and let instances claim pixels.

        Args:
            batched_inputs: as in `inference`.
            image_sizes: (H, W) of each network input, before padding.
            results: the detector's instances at that size.
            logits: (N, H, W), padded.

        Returns:
            as in `inference`.
        """
        outputs = []
        rows = zip(batched_inputs, image_sizes, results, logits, strict=True)
        for given, (rows_in, columns_in), detected, logit in rows:
            height = given.get("height", rows_in)
            width = given.get("width", columns_in)
            instances = detector_postprocess(detected, height, width)
            probability = resize_probability(logit[:rows_in, :columns_in].sigmoid(), height, width)
            outputs.append(
                claim_pixels(
                    probability,
                    instances,
                    link_threshold=self.link_threshold,
                    link_gap=self.link_gap,
                    threshold=self.threshold,
                    score_threshold=self.score_threshold,
                )
            )
        return outputs


def _map_target(given: dict[str, Any]) -> torch.Tensor:
    """What the crack map should show: uint8 (H, W), 0, 1 or `IGNORED`.

    "sem_seg" where the sample has it, else the union of the instances' masks.
    """
    if "sem_seg" in given:
        return given["sem_seg"]
    return given["instances"].gt_masks.tensor.any(dim=0).to(torch.uint8)


def resize_probability(probability: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bring a crack map, (h, w), to the photo's size, (height, width)."""
    if probability.shape == (height, width):
        return probability
    resized = F.interpolate(probability[None, None], (height, width), mode="bilinear")
    return resized[0, 0]
