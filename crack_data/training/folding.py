"""Convolution and frozen BatchNorm computed as one convolution while they train.

A BatchNorm whose statistics stay fixed scales and shifts each channel. Scaling the weights of the
convolution before it instead gives the same outputs and, since autograd sees the scaling, the same
gradients of weights, gamma and beta, without reading and writing every activation once more, in
both directions. Modules, parameters and keys stay as they are.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

Pairs = list[tuple[nn.Conv2d, nn.Module]]

_NORM_TYPES = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)
# Every backbone's strides divide it.
_PROBE_SIZE = 64


def fold_norm(network: nn.Module) -> None:
    """Let each convolution of ``network`` do its BatchNorm's work whenever that is frozen.

    Frozen is a BatchNorm in evaluation mode; in training mode both compute as ever.

    Args:
        network: takes photos, (N, 3, H, W).
    """
    for convolution, norm in find_pairs(network):
        forward = partial(_convolve, convolution, norm)
        norm.forward = partial(_normalise, norm)
        convolution.forward = forward  # type: ignore[method-assign]


def find_pairs(network: nn.Module) -> Pairs:
    """Each convolution whose output goes straight into a BatchNorm, seen in one forward pass.

    Args:
        network: as in `fold_norm`.
    """
    pairs: Pairs = []
    outputs: list[tuple[nn.Conv2d, torch.Tensor]] = []  # kept, so that no identity comes again

    def after_convolution(module: nn.Module, given: Any, output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        norm = getattr(module, "norm", None)
        if norm is None:
            outputs.append((module, output))
        elif isinstance(norm, _NORM_TYPES):
            pairs.append((module, norm))  # Detectron2's convolutions call their norm themselves

    def before_norm(module: nn.Module, given: tuple[torch.Tensor]) -> None:
        pairs.extend((x, module) for x, output in outputs if output is given[0])

    hooks: list[Any] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
            hooks.append(module.register_forward_hook(after_convolution))
        elif isinstance(module, _NORM_TYPES):
            hooks.append(module.register_forward_pre_hook(before_norm))
    _probe(network)
    for hook in hooks:
        hook.remove()
    return pairs


@torch.no_grad()
def _probe(network: nn.Module) -> None:
    training = {module: module.training for module in network.modules()}
    photo = next(network.parameters()).new_zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE)
    network.eval()(photo)
    for module, mode in training.items():
        module.training = mode


def _is_frozen(norm: nn.Module) -> bool:
    return isinstance(norm, FrozenBatchNorm2d) or not norm.training


def _normalise(norm: nn.Module, x: torch.Tensor) -> Any:
    """A BatchNorm's forward: nothing where its convolution has done it."""
    return x if _is_frozen(norm) else type(norm).forward(norm, x)


def _convolve(convolution: nn.Conv2d, norm: Any, x: torch.Tensor) -> Any:
    """A convolution's forward, with its BatchNorm's where that is frozen."""
    if not _is_frozen(norm):
        return type(convolution).forward(convolution, x)
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        shift = shift + convolution.bias * scale
    given: Any = {
        "weight": convolution.weight * scale[:, None, None, None],
        "bias": shift,
        "stride": convolution.stride,
        "padding": convolution.padding,
        "dilation": convolution.dilation,
        "groups": convolution.groups,
    }
    if _is_slow_in_bf16(convolution, x):
        with torch.autocast("cpu", enabled=False):
            y = F.conv2d(x.float(), **given).to(x.dtype)
    else:
        y = F.conv2d(x, **given)
    activation = getattr(convolution, "activation", None)
    return y if activation is None else activation(y)


def _is_slow_in_bf16(convolution: nn.Conv2d, x: torch.Tensor) -> bool:
    """Strided depthwise: oneDNN's gradient of its input is 3 to 100 times slower than in fp32."""
    strided = convolution.groups > 1 and max(convolution.stride) > 1
    return strided and x.dtype == torch.bfloat16 and x.device.type == "cpu"
