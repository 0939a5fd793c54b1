"""What the figures were measured on."""

from __future__ import annotations

import platform

import cv2
import detectron2
import openvino
import torch
import torchvision

from crack_data.errors import as_crack_error


def describe_machine(device: str) -> dict[str, str]:
    """Processor, threads and versions, as words; `CrackError` where there is no such device."""
    with as_crack_error(f"--device {device} cannot be used here; choose cpu or cuda"):
        torch.zeros(1, device=device)
    able = torch.cpu.get_capabilities()
    kinds = [x for x in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if able.get(x)]
    about = {
        "processor": f"{able.get('cpu_name', platform.machine())} ({', '.join(kinds)})",
        "threads": str(torch.get_num_threads()),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "detectron2": detectron2.__version__,
        "openvino": openvino.__version__.split("-")[0],
        "OpenCV": cv2.__version__,
    }
    if device.startswith("cuda"):
        about["GPU"] = torch.cuda.get_device_name()
    return about
