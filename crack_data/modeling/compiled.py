"""The network's layers compiled by OpenVINO for this processor, each in its place in the model."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
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
    dense, fp32_stages = chosen, list[str]()
    bottom_up = model.backbone.bottom_up
    if (precision, chosen) == ("auto", "bf16") and not isinstance(bottom_up, ResNet):
        # Narrow layers lose too much in bf16. With the first stages in fp32, MobileNetV2 keeps its
        # cracks (docs/experiments.md); of other networks nobody knows.
        if isinstance(bottom_up, MobileNetV2):
            shapes = bottom_up.output_shape()
            fp32_stages = [name for name, shape in shapes.items() if shape.stride <= 8]
        dense = "bf16" if fp32_stages else "fp32"
    compiled = CompiledDense(model, dense, fp32_stages)
    model.dense = compiled.dense  # type: ignore[method-assign,assignment]

    def compile_on_rois(module: nn.Module, pooler: poolers.ROIPooler) -> CompiledModule:
        example = torch.zeros(2, channels, *pooler.output_size)
        return CompiledModule(module.eval(), {"rois": example}, {0: "count"}, chosen)

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
    """A module of tensors, compiled: BatchNorm folded, weights frozen.

    It takes and returns what the module does, float32, whatever it computes in. Not reentrant:
    the returned tensors lie in buffers that the next call overwrites.
    """

    def __init__(
        self,
        module: nn.Module,
        examples: Mapping[str, torch.Tensor],
        axes: Mapping[int, str],
        precision: str,
    ) -> None:
        """Compile for "fp32" or "bf16"; the ``axes`` of all named inputs vary in length."""
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
        named = {name: {i: f"{name}_{x}" for i, x in axes.items()} for name in examples}
        model = openvino_core().read_model(to_onnx(module, [*examples.values()], named))
        # The exporter drops inputs that the module does not read.
        self.read = [[*examples].index(x.any_name) for x in model.inputs]
        self.request = openvino_core().compile_model(model, "CPU", options).create_infer_request()

    def run(self, *given: torch.Tensor) -> list[torch.Tensor]:
        """All outputs."""
        inputs = [given[i].detach().contiguous().numpy() for i in self.read]
        self.request.infer(inputs, share_inputs=True)
        return [torch.from_numpy(x.data) for x in self.request.output_tensors]

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """The only output for one input."""
        return self.run(given)[0]


class CompiledDense:
    """`CrackRCNN.dense`, compiled: as one network, or its first stages in fp32 and the rest."""

    def __init__(self, model: CrackRCNN, precision: str, fp32_stages: Sequence[str] = ()) -> None:
        """The ``fp32_stages`` of the backbone are its first ones; the rest has the precision."""
        self.names = model.roi_heads.in_features
        examples = {"images": torch.zeros(1, 3, 128, 128)}
        axes = {0: "count", 2: "height", 3: "width"}
        self.parts = []
        if fp32_stages:
            first = _FirstStages(model, fp32_stages).eval()
            self.parts.append(CompiledModule(first, examples, axes, "fp32"))
            with torch.no_grad():
                stages = first(examples["images"])
            examples.update(zip(fp32_stages, stages, strict=True))
        rest = _DenseOutputs(model, self.names, fp32_stages).eval()
        self.parts.append(CompiledModule(rest, examples, axes, precision))

    def dense(self, images: torch.Tensor) -> tuple[Features, RPNOutputs, torch.Tensor]:
        """As `CrackRCNN.dense`; only those features that the ROI heads read."""
        *first, rest = self.parts
        stages = [stage for part in first for stage in part.run(images)]
        *maps, logits = rest.run(images, *stages)
        maps = [x.permute(0, 3, 1, 2) for x in maps]
        outputs = maps[len(self.names) :]
        levels = len(outputs) // 2
        features = dict(zip(self.names, maps, strict=False))
        return features, (outputs[:levels], outputs[levels:]), logits


class _FirstStages(nn.Module):
    """Those stages of the network below the pyramid."""

    def __init__(self, model: CrackRCNN, stages: Sequence[str]) -> None:
        super().__init__()
        self.bottom_up, self.stages = model.backbone.bottom_up, stages

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.bottom_up(images)
        return tuple(found[name] for name in self.stages)


class _DenseOutputs(nn.Module):
    """`CrackRCNN.dense` with its outputs in one tuple, feature maps channels-last.

    That is how the compiled convolutions hold them anyway, and how pooling reads them.
    """

    def __init__(self, model: CrackRCNN, names: list[str], stages: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names, self.stages = model, names, stages

    def forward(self, images: torch.Tensor, *stages: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = dict(zip(self.stages, stages, strict=True))
        features, (objectness, deltas), logits = self.model.dense(images, first)
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
