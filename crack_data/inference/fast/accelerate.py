"""A trained R-CNN as it was, with its dense parts compiled for the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN, detector_postprocess
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import FPN
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import (
    FastRCNNOutputLayers,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
)
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference
from detectron2.structures import Boxes, ImageList, Instances
from torch import nn

from ...errors import CrackError
from ...modeling import CrackRCNN
from ...modeling.instances import Components, find_components
from ...modeling.map_proposals import join_components
from ...modeling.roi_pooling import FeatureTable, GridSize, knows_pooler, pool
from ...modeling.staged import StagedBackbone
from .engine import CompiledModule, choose_precision, torch_threads
from .parts import BottomPart, TopPart

# Traced at this size; it runs at any.
_EXAMPLE_SIZE = 128
# More boxes than this are pooled by all threads.
_MANY_BOXES = 256


def can_accelerate(model: Any) -> bool:
    """Whether `accelerate` knows all parts of a model, and it is on the CPU."""
    return (
        type(model) in (GeneralizedRCNN, CrackRCNN)
        and model.device.type == "cpu"
        and type(model.backbone) is FPN
        and type(model.proposal_generator) is RPN
        and type(model.proposal_generator.anchor_generator) is DefaultAnchorGenerator
        and type(model.roi_heads) is StandardROIHeads
        and type(model.roi_heads.box_predictor) is FastRCNNOutputLayers
        and not model.roi_heads.keypoint_on
        and knows_pooler(model.roi_heads.box_pooler)
        and (not model.roi_heads.mask_on or _knows_mask_branch(model.roi_heads))
    )


def _knows_mask_branch(heads: StandardROIHeads) -> bool:
    return (
        type(heads.mask_head) is MaskRCNNConvUpsampleHead
        and heads.mask_in_features == heads.box_in_features
        and knows_pooler(heads.mask_pooler)
    )


def accelerate(model: GeneralizedRCNN, cfg: CfgNode) -> FastRCNN:
    """Compile a trained model for the CPU, in the precision of CRACK.INFERENCE.PRECISION.

    Raises:
        CrackError: `can_accelerate` is False, or no such precision.
    """
    if not can_accelerate(model):
        raise CrackError(
            f"the fast path does not know {type(model).__name__} with these heads on "
            f"{model.device}; set CRACK.INFERENCE.FAST off"
        )
    wanted = cfg.CRACK.INFERENCE.PRECISION
    precision = choose_precision(wanted)
    # The narrow layers of the mobile networks, and a map that thin cracks hang together on, lose
    # too much in bf16: it is theirs only where it is asked for by name.
    delicate = isinstance(model.backbone.bottom_up, StagedBackbone) and wanted == "auto"
    return FastRCNN(model, "fp32" if delicate else precision, precision)


@dataclass(frozen=True)
class Found:
    """What the network says of one photo.

    Attributes:
        instances: at the size (H, W) of the network's input, with small masks where the model has
            a mask branch.
        logits: where it has a crack map, its logits, (1, H, W), padded.
        probability: the crack map, (H, W).
        components: of the crack map.
    """

    instances: Instances
    logits: torch.Tensor | None
    probability: torch.Tensor | None
    components: Components | None


class FastRCNN(nn.Module):
    """Gives what the model gives, from the same inputs. For one thread at a time."""

    def __init__(self, model: GeneralizedRCNN, dense_precision: str, precision: str) -> None:
        """Compile.

        Args:
            model: one that `can_accelerate`; its weights are copied, not shared.
            dense_precision: "fp32" or "bf16", of all that looks at every pixel.
            precision: of the heads that look at regions.
        """
        super().__init__()
        model = model.eval()
        self.model = model
        self.precision = dense_precision
        self.threads = torch.get_num_threads()
        self.draws_map = isinstance(model, CrackRCNN)
        # Detections scored lower are dropped before masks are drawn for them.
        self.min_score = 0.0
        heads = model.roi_heads
        shapes = model.backbone.output_shape()
        self.roi_strides = [shapes[x].stride for x in heads.box_in_features]
        self._compile_dense(dense_precision)
        channels = shapes[heads.box_in_features[0]].channels
        self.box_head = _compile_on_rois(heads.box_head, channels, heads.box_pooler, precision)
        if heads.mask_on:
            layers = nn.Sequential(*heads.mask_head)
            self.mask_layers = _compile_on_rois(layers, channels, heads.mask_pooler, precision)
        self.anchors = lru_cache(maxsize=8)(self._anchors)

    def _compile_dense(self, precision: str) -> None:
        bottom = BottomPart(self.model).eval()
        image = torch.zeros(1, 3, _EXAMPLE_SIZE, _EXAMPLE_SIZE)
        self.bottom = CompiledModule(bottom, [image], [_sides(0)], precision)
        inputs = list(self.bottom(image))
        if self.draws_map:
            inputs.append(image)
        axes = [_sides(i) for i in range(len(inputs))]
        self.top = CompiledModule(TopPart(self.model).eval(), inputs, axes, precision)

    @torch.inference_mode()
    @torch_threads(1)
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As the model's own; what is drawn does not depend on `min_score`."""
        outputs = []
        for given in batched_inputs:
            found = self.detect(self.begin(given["image"]))
            instances, size = found.instances, found.instances.image_size
            if found.logits is None:
                height, width = given.get("height", size[0]), given.get("width", size[1])
                drawn = {"instances": detector_postprocess(instances, height, width)}
            else:
                drawn = self.model.draw([given], [size], [instances], found.logits)[0]
            outputs.append(drawn)
        return outputs

    @torch.inference_mode()
    @torch_threads(1)
    def begin(self, image: torch.Tensor) -> ImageList:
        """Start the network's first part on one photo; `detect` has to follow before the next.

        Args:
            image: (3, H, W), as the model takes it.

        Returns:
            the photo as it goes through the network.
        """
        images = self.model.preprocess_image([{"image": image}])
        self.bottom.start(images.tensor)
        return images

    @torch.inference_mode()
    @torch_threads(1)
    def detect(self, images: ImageList, meanwhile: Callable[[], None] = lambda: None) -> Found:
        """Run the rest of the network on the photo that was begun.

        Args:
            images: of `begin`.
            meanwhile: called when nothing but work for one processor core is left; may `begin`
                the next photo.
        """
        padded = (images.tensor.shape[2], images.tensor.shape[3])
        inputs = self.finish_bottom()
        if self.draws_map:
            inputs = (*inputs, images.tensor)
        table, *maps = self.top(*inputs)
        meanwhile()
        logits = maps.pop() if self.draws_map else None
        features = FeatureTable(table, _grids(padded, self.roi_strides))
        half = len(maps) // 2
        proposals = self.propose(maps[:half], maps[half:], padded, images.image_sizes)
        probability = components = None
        if logits is not None:
            height, width = images.image_sizes[0]
            probability = logits[0, :height, :width].sigmoid()
            components = find_components(
                probability.numpy(), self.model.link_threshold, self.model.link_gap
            )
            proposals = [join_components(proposals[0], components)]
        instances = self.classify(features, proposals)
        if self.model.roi_heads.mask_on:
            self.add_masks(features, instances)
        return Found(instances, logits, probability, components)

    def finish_bottom(self) -> tuple[torch.Tensor, ...]:
        """Wait for what was begun: the features that the FPN reads."""
        return self.bottom.result()

    def propose(
        self,
        objectness: Sequence[torch.Tensor],
        deltas: Sequence[torch.Tensor],
        padded: GridSize,
        sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """The RPN's proposals; only its best anchors are decoded.

        Args:
            objectness: of each level, (1, anchors).
            deltas: of each level, (1, anchors, 4).
            padded: (H, W) of the network's input.
            sizes: one (H, W), before padding.
        """
        rpn = self.model.proposal_generator
        best = [x.topk(min(x.shape[1], rpn.pre_nms_topk[False]), dim=1) for x in objectness]
        chosen = [x.indices[0] for x in best]
        anchors = [x[i] for x, i in zip(self.anchors(padded), chosen, strict=True)]
        deltas = [x[:, i] for x, i in zip(deltas, chosen, strict=True)]
        return rpn.predict_proposals(anchors, [x.values for x in best], deltas, sizes)

    def _anchors(self, padded: GridSize) -> list[Boxes]:
        generator = self.model.proposal_generator.anchor_generator
        grids = _grids(padded, generator.strides)
        return generator([torch.empty(1, 0, *grid) for grid in grids])

    def classify(self, features: FeatureTable, proposals: list[Instances]) -> Instances:
        """The box branch on one photo's proposals."""
        heads = self.model.roi_heads
        boxes = proposals[0].proposal_boxes
        with torch_threads(self.threads if len(boxes) > _MANY_BOXES else 1):
            pooled = pool(features, boxes, heads.box_pooler)
        # The last layers, which decide on thin margins, stay in fp32.
        predictions = heads.box_predictor(self.box_head(pooled)[0])
        instances = heads.box_predictor.inference(predictions, proposals)[0][0]
        return instances[instances.scores >= self.min_score]

    def add_masks(self, features: FeatureTable, instances: Instances) -> None:
        """The mask branch: sets pred_masks (N, 1, h, w), probabilities within the boxes."""
        pooler = self.model.roi_heads.mask_pooler
        pooled = pool(features, instances.pred_boxes, pooler)
        mask_rcnn_inference(self.mask_layers(pooled)[0], [instances])


def _compile_on_rois(
    module: nn.Module, channels: int, pooler: ROIPooler, precision: str
) -> CompiledModule:
    example = torch.zeros(2, channels, *pooler.output_size)
    return CompiledModule(module.eval(), [example], [{0: "rois"}], precision)


def _sides(index: int) -> dict[int, str]:
    """The varying axes of a picture or feature map."""
    return {2: f"height{index}", 3: f"width{index}"}


def _grids(padded: GridSize, strides: Sequence[int]) -> list[GridSize]:
    """Rows and columns of the feature maps of a padded photo (H, W)."""
    height, width = padded
    return [(-(-height // stride), -(-width // stride)) for stride in strides]
