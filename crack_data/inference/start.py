"""What prediction needs of others, imported while Python's garbage collector rests.

Importing PyTorch, Detectron2 and OpenVINO makes a million objects that all stay. The collector
goes over them dozens of times meanwhile, which takes a fifth of the time to the first prediction.
Afterwards they are put out of its sight, so that later collections are short too, and the one at
the end of the process, which takes most of a second otherwise.
"""

# ruff: noqa: F401

from __future__ import annotations

import atexit
import gc
import sys

_collects = gc.isenabled()
gc.disable()
try:
    import torch

    # PyTorch imports Triton where it is installed, though it compiles for GPUs alone.
    if not torch.cuda.is_available():
        sys.modules.setdefault("triton", None)  # type: ignore[arg-type]

    import detectron2.modeling
    import openvino
    import scipy.sparse.csgraph
    import scipy.spatial
finally:
    if sys.modules.get("triton", False) is None:
        del sys.modules["triton"]
    gc.freeze()
    if "triton" in sys.modules:
        # It reports those of its objects as leaked that the last collection does not see.
        atexit.register(gc.unfreeze)
    if _collects:
        gc.enable()
