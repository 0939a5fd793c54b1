"""Compile a PyTorch module for this processor with OpenVINO."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import openvino
import torch
from torch import nn

from ...errors import CrackError

_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
# RoIs and photos come in any number and size; this opset has all that the parts need.
_OPSET = 17


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


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch's own operators use ``count`` threads.

    One is right between compiled parts, where they work on a few hundred numbers: waking threads
    costs more than it saves, and these then spin on the cores that OpenVINO's threads need.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class CompiledModule(nn.Module):
    """A module of convolutions and matrix products, BatchNorm folded, weights frozen.

    It takes and returns what the module does, float32, whatever it computes in. Not reentrant:
    the returned tensors lie in buffers that the next call overwrites.
    """

    def __init__(
        self,
        module: nn.Module,
        example: Sequence[torch.Tensor],
        dynamic: Sequence[Mapping[int, str]],
        precision: str,
    ) -> None:
        """Compile.

        Args:
            module: in evaluation mode; returns a tensor or a tuple of tensors.
            example: its inputs, of any size that it takes.
            dynamic: for each input the axes whose length varies, with a name for each.
            precision: "fp32" or "bf16".
        """
        super().__init__()
        core = _core()
        model = core.read_model(_to_onnx(module, example, dynamic))
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
        self._begun: dict[int, np.ndarray] = {}
        self.request = core.compile_model(model, "CPU", options).create_infer_request()

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run on one set of inputs, float32."""
        self.start(*inputs)
        return self.result()

    def start(self, *inputs: torch.Tensor) -> None:
        """Begin to run on one set of inputs; the caller goes on meanwhile.

        Before the next run, `result` has to be called.
        """
        self._begun = _arrays(inputs)  # kept, since OpenVINO reads them where they lie
        self.request.start_async(self._begun, share_inputs=True)

    def result(self) -> tuple[torch.Tensor, ...]:
        """Wait for what was begun, and return it as `forward` does."""
        self.request.wait()
        self._begun = {}
        return tuple(torch.from_numpy(x.data) for x in self.request.output_tensors)


def _arrays(inputs: Sequence[torch.Tensor]) -> dict[int, np.ndarray]:
    return {i: x.detach().contiguous().numpy() for i, x in enumerate(inputs)}


@cache
def _core() -> openvino.Core:
    """The one OpenVINO core of this process.

    A core's processor plug-in puts a signal stack of its own in place of the thread's, and on its
    end the one that it found back. Of several that end in another order than the reverse, the last
    puts back one that is gone, and the next signal with a handler kills the process.
    """
    return openvino.Core()


def _to_onnx(
    module: nn.Module, example: Sequence[torch.Tensor], dynamic: Sequence[Mapping[int, str]]
) -> bytes:
    names = [f"input{i}" for i in range(len(example))]
    buffer: Any = io.BytesIO()  # which its annotation does not know
    with warnings.catch_warnings(), torch.no_grad():
        # The tracing exporter is a quarter of the default one's time, which counts at start-up.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(example),
            buffer,
            dynamo=False,
            opset_version=_OPSET,
            input_names=names,
            dynamic_axes={name: dict(axes) for name, axes in zip(names, dynamic, strict=True)},
        )
    return buffer.getvalue()
