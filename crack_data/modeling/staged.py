"""What the bottom-up networks share: named stages, one output a stage, freezing from the input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling.backbone import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn

STAGES = ("res1", "res2", "res3", "res4", "res5")


class StagedBackbone(Backbone):
    """A network of five stages whose outputs have strides 2, 4, 8, 16 and 32.

    Subclasses set their layers, then call `set_stages`.
    """

    def set_stages(
        self, channels: Sequence[int], out_features: Sequence[str], freeze_at: int
    ) -> None:
        """Name the outputs and freeze the first ``freeze_at`` stages.

        Args:
            channels: output channels of each stage, five numbers.
            out_features: which of "res1" … "res5" `forward` returns.
            freeze_at: 0 freezes nothing, 5 everything.

        Raises:
            ValueError: a stage that does not exist.
        """
        unknown = [name for name in out_features if name not in STAGES]
        if unknown or not out_features:
            raise ValueError(f"OUT_FEATURES takes names from {STAGES}, not {list(out_features)}")
        if not 0 <= freeze_at <= len(STAGES):
            raise ValueError(f"FREEZE_AT counts stages, 0 to {len(STAGES)}, not {freeze_at}")
        self._out_features = list(out_features)
        self._shapes = {
            name: ShapeSpec(channels=channels[i], stride=2 ** (i + 1))
            for i, name in enumerate(STAGES)
        }
        for index in range(freeze_at):
            self.freeze_stage(index)

    def stage(self, index: int) -> nn.ModuleList:
        """The layers of stage ``index`` (0 is "res1"), in order."""
        raise NotImplementedError

    def freeze_stage(self, index: int) -> None:
        """Stop gradients and fix the BatchNorm statistics of a stage."""
        for layer in self.stage(index):
            for parameter in layer.parameters():
                parameter.requires_grad_(False)
            FrozenBatchNorm2d.convert_frozen_batchnorm(layer)

    def forward(self, x: torch.Tensor | dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Map images, shape (N, 3, H, W), to {stage name: (N, C, H / stride, W / stride)}.

        What it has computed before passes through: see `DetailFPN`.
        """
        if isinstance(x, dict):
            return x
        outputs: dict[str, torch.Tensor] = {}
        value: torch.Tensor = x
        last = STAGES.index(max(self._out_features))
        for index in range(last + 1):
            for layer in self.stage(index):
                value = layer(value)
            if STAGES[index] in self._out_features:
                outputs[STAGES[index]] = value
        return outputs

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each output."""
        return {name: self._shapes[name] for name in self._out_features}


def stage_settings(keys: CfgNode, backbone: CfgNode) -> dict[str, Any]:
    """Constructor arguments that every staged backbone takes, from its node and MODEL.BACKBONE."""
    return {"norm": keys.NORM, "out_features": keys.OUT_FEATURES, "freeze_at": backbone.FREEZE_AT}


def norm_layer(name: str) -> Callable[[int], nn.Module]:
    """Constructor of a normalisation layer for any channel count.

    Args:
        name: "BN", "FrozenBN", "SyncBN" or "GN". GN takes the largest group count up to 32 that
            divides the channels, since mobile networks have layers of 16 and 24.

    Raises:
        ValueError: another name.
    """
    if name not in ("BN", "FrozenBN", "SyncBN", "GN"):
        raise ValueError(f"NORM is one of BN, FrozenBN, SyncBN, GN, not {name!r}")
    if name == "GN":
        return lambda channels: nn.GroupNorm(math.gcd(32, channels), channels)
    return lambda channels: get_norm(name, channels)


class DetailFPN(FPN):
    """Detectron2's FPN, which also returns those stages below it that it does not read.

    They are finer than its levels: the crack map draws with them.
    """

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images, shape (N, 3, H, W), to {"res1": …, "p3": …, …}."""
        stages = self.bottom_up(x)
        return {**self._unread(stages), **super().forward(stages)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each output."""
        return {**self._unread(self.bottom_up.output_shape()), **super().output_shape()}

    def _unread(self, stages: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in stages.items() if name not in self.in_features}


def build_fpn(cfg: CfgNode, bottom_up: StagedBackbone) -> DetailFPN:
    """An FPN over ``bottom_up``, as MODEL.FPN says, with one more level pooled from the last."""
    return DetailFPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
