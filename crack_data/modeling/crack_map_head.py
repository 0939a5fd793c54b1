"""The crack map: one crack probability per pixel of the photo, at the photo's own resolution.

The head sums levels of the pyramid for context, as the semantic branch of a panoptic FPN does
(Kirillov et al. 2019, arXiv:1901.02446), and refines the sum with ever finer features, as a U-Net
does (Ronneberger et al. 2015, arXiv:1505.04597). Its last layer works at stride 2, since wide
tensors at full size are slow on a CPU, and gives four logits a position, which become 2x2 pixels
(sub-pixel convolution, Shi et al. 2016, arXiv:1609.05158).
"""

import itertools
from collections.abc import Mapping
from functools import partial, reduce

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn import weight_init
from torch import nn

# Cracks cover a few percent of a photo; starting from that prior keeps the first steps calm.
_PRIOR_LOGIT = -3.0
# The name in DETAIL_FEATURES for the photo itself: each 2x2 block of its pixels as 12 channels, and
# what a convolution makes of them.
_PHOTO = "image"
_PHOTO_SHAPE = ShapeSpec(channels=24, stride=2)
# Target value of pixels that do not count; 0 is background, 1 is crack.
IGNORED = 255


class CrackMapHead(nn.Module):
    """Backbone features and the photo in, crack logits at the photo's size out."""

    def __init__(self, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> None:
        """See MODEL.CRACK_MAP in `crack_data.config`; a ValueError where its keys do not fit."""
        super().__init__()
        keys = cfg.MODEL.CRACK_MAP
        in_features, detail_features = list(keys.IN_FEATURES), list(keys.DETAIL_FEATURES)
        channels = keys.CHANNELS
        shapes = {**input_shape, _PHOTO: _PHOTO_SHAPE}
        lacking = sorted({*in_features} - {*input_shape} | {*detail_features} - {*shapes})
        if lacking or not in_features:
            raise ValueError(f"MODEL.CRACK_MAP's features are of {[*shapes]}, not {lacking}")
        strides = [shapes[name].stride for name in (in_features[0], *detail_features)]
        if sorted(strides, reverse=True) != strides or strides[-1] != 2:
            raise ValueError(f"MODEL.CRACK_MAP's features must fall to stride 2, not {strides}")
        if len(channels) != len(strides):
            raise ValueError(f"MODEL.CRACK_MAP.CHANNELS needs {len(strides)} numbers: {channels}")
        self.in_features, self.detail_features = in_features, detail_features
        # How much coarser each level is than the finest, and each step of the refinement.
        self.scales = [shapes[name].stride / strides[0] for name in in_features]
        self.steps = [a / b for a, b in itertools.pairwise(strides)]
        conv = partial(_conv, norm=keys.NORM)
        self.context = nn.ModuleList(conv(shapes[x].channels, channels[0]) for x in in_features)
        if _PHOTO in detail_features:
            self.photo = conv(12, _PHOTO_SHAPE.channels)
        pairs = zip(detail_features, itertools.pairwise(channels), strict=True)
        self.refine = nn.ModuleList(
            conv(before + shapes[name].channels, after) for name, (before, after) in pairs
        )
        self.last = conv(channels[-1], channels[-1])
        self.predictor = Conv2d(channels[-1], 4, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.constant_(self.predictor.bias, _PRIOR_LOGIT)

    def forward(self, features: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        """Crack logits, float32, shape (N, H, W), of normalised photos, shape (N, 3, H, W).

        H and W are multiples of the coarsest stride; features are (N, C, H / stride, W / stride).
        """
        levels = zip(self.context, self.in_features, self.scales, strict=True)
        enlarged = (_enlarge(conv(features[name]), scale) for conv, name, scale in levels)
        x = reduce(torch.add, enlarged)
        for conv, name, step in zip(self.refine, self.detail_features, self.steps, strict=True):
            fine = self.photo(F.pixel_unshuffle(images, 2)) if name == _PHOTO else features[name]
            x = conv(torch.cat([_enlarge(x, step).to(fine.dtype), fine], dim=1))
        x = self.last(x)
        # The last layer decides on thin margins: in fp32 also under autocast.
        with torch.autocast(x.device.type, enabled=False):
            logits = self.predictor(x.float())
        return F.pixel_shuffle(logits, 2)[:, 0]


def _enlarge(x: torch.Tensor, scale: float) -> torch.Tensor:
    if scale == 1:
        return x
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def _conv(in_channels: int, out_channels: int, norm: str) -> Conv2d:
    after = {"norm": get_norm(norm, out_channels), "activation": F.relu}
    layer = Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=norm == "", **after)
    weight_init.c2_msra_fill(layer)
    return layer


def crack_map_loss(logits: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus Dice loss (Milletari et al. 2016, arXiv:1606.04797).

    Dice is taken over the whole batch, as the pooled F1 is over a set: a photo without cracks then
    needs no special case. Shapes are (N, H, W); the truth is 0 or 1; weight 0 leaves a pixel out.
    """
    bce = F.binary_cross_entropy_with_logits(logits, truth, weight, reduction="sum")
    probability = logits.sigmoid() * weight
    overlap = 2 * (probability * truth).sum() + 1
    dice = 1 - overlap / (probability.sum() + (truth * weight).sum() + 1)
    return bce / weight.sum().clamp(min=1) + dice
