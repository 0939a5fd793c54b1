"""The network's layers compiled by OpenVINO for this processor, each in its place in the model."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import openvino
import torch
from detectron2.modeling import ResNet, poolers
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead, StandardROIHeads
from torch import nn

from .crack_rcnn import CrackRCNN, Features, RPNOutputs
from .mobilenetv2 import MobileNetV2
from .roi_pooling import use_bag_pooling


def compile_for_cpu(model: CrackRCNN, precision: str) -> None:
    """Put compiled modules in the place of a trained model's dense part, box head and mask layers.

    The model, in evaluation mode and on the CPU, is for prediction alone from then on, by one
    thread at a time.
    """
    chosen = choose_precision(precision)
    heads = model.roi_heads
    channels = model.backbone.output_shape()[heads.in_features[0]].channels
    known = isinstance(model.backbone.bottom_up, (ResNet, MobileNetV2))
    # Of other networks nobody knows whether they keep their cracks in bf16 (docs/experiments.md).
    dense = chosen if known or precision != "auto" else "fp32"
    compiled = CompiledDense(model, dense)
    model.dense = compiled.dense  # type: ignore[method-assign]

    def compile_on_rois(module: nn.Module, pooler: poolers.ROIPooler) -> CompiledModule:
        example = torch.zeros(2, channels, *pooler.output_size)
        return CompiledModule(module.eval(), example, {0: "count"}, chosen)

    if type(heads) is StandardROIHeads:
        heads.box_head = compile_on_rois(heads.box_head, heads.box_pooler)
        if heads.mask_on and type(heads.mask_head) is MaskRCNNConvUpsampleHead:
            layers = nn.Sequential(*heads.mask_head)
            heads.mask_head.layers = compile_on_rois(layers, heads.mask_pooler).forward
    use_bag_pooling(model)


def choose_precision(wanted: str) -> str:
    """CRACK.INFERENCE.PRECISION as "fp32" or "bf16"; "auto" is bf16 where it is native."""
    if wanted != "auto":
        return wanted
    # Where the processor emulates bf16 it is slow.
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("amx_bf16") or able.get("avx512_bf16") else "fp32"


class CompiledModule(nn.Module):
    """A module of one tensor, compiled: BatchNorm folded, weights frozen.

    It takes and returns what the module does, float32, whatever it computes in. Not reentrant:
    the returned tensors lie in buffers that the next call overwrites.
    """

    def __init__(
        self, module: nn.Module, example: torch.Tensor, axes: dict[int, str], precision: str
    ) -> None:
        """Compile for "fp32" or "bf16"; the ``axes`` of the input vary in length."""
        super().__init__()
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # Pinned threads wait for their core while another process has it.
            "ENABLE_CPU_PINNING": False,
            # Compiled layers kept for photo sizes met before: two or three sizes' worth. The
            # default, 5000, lets the process grow by 180 MB over photos of many sizes.
            "CPU_RUNTIME_CACHE_CAPACITY": 200,
        }
        model = openvino_core().read_model(to_onnx(module, [example], {"given": axes}))
        self.request = openvino_core().compile_model(model, "CPU", options).create_infer_request()

    def run(self, given: torch.Tensor) -> list[torch.Tensor]:
        """All outputs."""
        self.request.infer([given.detach().contiguous().numpy()], share_inputs=True)
        return [torch.from_numpy(x.data) for x in self.request.output_tensors]

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """The only output."""
        return self.run(given)[0]


class CompiledDense:
    """`CrackRCNN.dense`, compiled."""

    def __init__(self, model: CrackRCNN, precision: str) -> None:
        self.names = model.roi_heads.in_features
        outputs = _DenseOutputs(model, self.names).eval()
        example, axes = torch.zeros(1, 3, 128, 128), {0: "count", 2: "height", 3: "width"}
        self.module = CompiledModule(outputs, example, axes, precision)

    def dense(self, images: torch.Tensor) -> tuple[Features, RPNOutputs, torch.Tensor]:
        """As `CrackRCNN.dense`; only those features that the ROI heads read."""
        *maps, logits = self.module.run(images)
        maps = [x.permute(0, 3, 1, 2) for x in maps]
        outputs = maps[len(self.names) :]
        levels = len(outputs) // 2
        features = dict(zip(self.names, maps, strict=False))
        return features, (outputs[:levels], outputs[levels:]), logits


class _DenseOutputs(nn.Module):
    """`CrackRCNN.dense` with its outputs in one tuple, feature maps channels-last.

    That is how the compiled convolutions hold them anyway, and how pooling reads them.
    """

    def __init__(self, model: CrackRCNN, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features, (objectness, deltas), logits = self.model.dense(images)
        maps = [*(features[name] for name in self.names), *objectness, *deltas]
        return (*(x.permute(0, 2, 3, 1) for x in maps), logits)


def to_onnx(
    module: nn.Module, examples: Sequence[torch.Tensor], axes: dict[str, dict[int, str]]
) -> bytes:
    """Trace a module; ``axes`` are those that vary in length, by input (first) and output."""
    names = list(axes)
    buffer: Any = io.BytesIO()  # which the exporter's annotation does not know
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of every Python number
        torch.onnx.export(
            module,
            tuple(examples),
            buffer,
            dynamo=False,  # which takes a quarter of the other one's time, which counts at start
            opset_version=17,
            input_names=names[: len(examples)],
            output_names=names[len(examples) :],
            dynamic_axes=axes,
        )
    return buffer.getvalue()


@cache
def openvino_core() -> openvino.Core:
    """The one OpenVINO core of this process.

    A core replaces the thread's signal stack while it lives. Of several that do not end in the
    reverse order, the last puts back one that is gone, and the next signal kills the process.
    """
    return openvino.Core()
