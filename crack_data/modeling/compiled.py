"""The network's layers compiled for this processor by OpenVINO, in their places in the model."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import Any

import openvino
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead, StandardROIHeads
from torch import nn

from ..errors import CrackError
from .crack_rcnn import CrackRCNN, Features, RPNOutputs
from .roi_pooling import use_bag_pooling
from .staged import StagedBackbone

_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
_OPSET = 17
# Traced at this size; it runs at any that the network takes.
_EXAMPLE_SIZE = 128


def compile_for_cpu(model: CrackRCNN, precision: str) -> None:
    """Put compiled modules in the place of a trained model's dense part, box head and mask layers.

    The model is for prediction alone from then on, by one thread at a time.

    Args:
        model: in evaluation mode, on the CPU.
        precision: CRACK.INFERENCE.PRECISION, "fp32", "bf16" or "auto".

    Raises:
        CrackError: no such precision.
    """
    heads_precision = choose_precision(precision)
    # The narrow layers of the mobile networks, and a map that thin cracks hang together on, lose
    # too much in bf16: it is theirs only where it is asked for by name.
    delicate = isinstance(model.backbone.bottom_up, StagedBackbone) and precision == "auto"
    heads = model.roi_heads
    channels = model.backbone.output_shape()[heads.in_features[0]].channels
    dense = CompiledDense(model, "fp32" if delicate else heads_precision)
    model.dense = dense.forward  # type: ignore[method-assign]
    if type(heads) is StandardROIHeads:
        heads.box_head = _compile_on_rois(
            heads.box_head, channels, heads.box_pooler, heads_precision
        )
        if heads.mask_on and type(heads.mask_head) is MaskRCNNConvUpsampleHead:
            layers = nn.Sequential(*heads.mask_head)
            compiled = _compile_on_rois(layers, channels, heads.mask_pooler, heads_precision)
            heads.mask_head.layers = compiled.forward
    use_bag_pooling(model)


def choose_precision(wanted: str) -> str:
    """Turn CRACK.INFERENCE.PRECISION into "fp32" or "bf16".

    Args:
        wanted: "fp32", "bf16", or "auto": bf16 where the processor multiplies it natively.

    Raises:
        CrackError: another word.
    """
    if wanted in _PRECISIONS:
        return wanted
    if wanted != "auto":
        raise CrackError(f"CRACK.INFERENCE.PRECISION is fp32, bf16 or auto, not {wanted}")
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("amx_bf16") or able.get("avx512_bf16") else "fp32"


class CompiledDense:
    """`CrackRCNN.dense`, compiled as one network."""

    def __init__(self, model: CrackRCNN, precision: str) -> None:
        """Args: see `compile_for_cpu`; the precision is "fp32" or "bf16"."""
        heads = model.roi_heads
        masks = heads.mask_in_features if heads.mask_on else []
        self.names = sorted({*heads.box_in_features, *masks})
        self.levels = len(model.proposal_generator.in_features)
        example = torch.zeros(1, 3, _EXAMPLE_SIZE, _EXAMPLE_SIZE)
        axes = {0: "photos", 2: "height", 3: "width"}
        outputs = _DenseOutputs(model, self.names).eval()
        self.compiled = CompiledModule(outputs, example, axes, precision)

    def forward(self, images: torch.Tensor) -> tuple[Features, RPNOutputs, torch.Tensor]:
        """As `CrackRCNN.dense`; only those features that the ROI heads read."""
        *maps, logits = self.compiled.run(images)
        maps = [x.permute(0, 3, 1, 2) for x in maps]
        features = dict(zip(self.names, maps, strict=False))
        outputs = maps[len(self.names) :]
        return features, (outputs[: self.levels], outputs[self.levels :]), logits


class _DenseOutputs(nn.Module):
    """`CrackRCNN.dense` with its outputs in one tuple, feature maps channels-last.

    Channels-last is how the compiled convolutions hold them anyway, and how pooling reads them.
    """

    def __init__(self, model: CrackRCNN, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features, (objectness, deltas), logits = self.model.dense(images)
        maps = [*(features[name] for name in self.names), *objectness, *deltas]
        return (*(x.permute(0, 2, 3, 1) for x in maps), logits)


class CompiledModule(nn.Module):
    """A module of one input, compiled: BatchNorm folded, weights frozen.

    It takes and returns what the module does, float32, whatever it computes in. Not reentrant:
    the returned tensors lie in buffers that the next call overwrites.
    """

    def __init__(
        self, module: nn.Module, example: torch.Tensor, axes: dict[int, str], precision: str
    ) -> None:
        """Compile.

        Args:
            module: in evaluation mode.
            example: its input, of any size that it takes.
            axes: the axes whose length varies, with a name for each.
            precision: "fp32" or "bf16".
        """
        super().__init__()
        model = openvino_core().read_model(_to_onnx(module, example, axes))
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # Pinned threads wait for their core while another process has it.
            "ENABLE_CPU_PINNING": False,
            # Compiled layers kept for photo sizes met before: two or three sizes' worth. The
            # default, 5000, lets the process grow by 180 MB over photos of many sizes.
            "CPU_RUNTIME_CACHE_CAPACITY": 200,
        }
        self.request = openvino_core().compile_model(model, "CPU", options).create_infer_request()

    def run(self, given: torch.Tensor) -> list[torch.Tensor]:
        """All outputs for one input."""
        self.request.infer({0: given.detach().contiguous().numpy()}, share_inputs=True)
        return [torch.from_numpy(x.data) for x in self.request.output_tensors]

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """The only output for one input."""
        return self.run(given)[0]


def _compile_on_rois(
    module: nn.Module, channels: int, pooler: ROIPooler, precision: str
) -> CompiledModule:
    example = torch.zeros(2, channels, *pooler.output_size)
    return CompiledModule(module.eval(), example, {0: "rois"}, precision)


@cache
def openvino_core() -> openvino.Core:
    """The one OpenVINO core of this process.

    A core's processor plug-in puts a signal stack of its own in place of the thread's, and on its
    end the one that it found back. Of several that end in another order than the reverse, the last
    puts back one that is gone, and the next signal with a handler kills the process.
    """
    return openvino.Core()


def _to_onnx(module: nn.Module, example: torch.Tensor, axes: dict[int, str]) -> bytes:
    buffer: Any = io.BytesIO()  # which its annotation does not know
    with warnings.catch_warnings(), torch.no_grad():
        # The tracing exporter is a quarter of the default one's time, which counts at start-up.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (example,), buffer, dynamo=False, opset_version=_OPSET,
            input_names=["input"], dynamic_axes={"input": axes},
        )  # fmt: skip
    return buffer.getvalue()
