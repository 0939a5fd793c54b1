"""What prediction needs of others, imported while Python's garbage collector rests.

Importing PyTorch, Detectron2 and OpenVINO makes a million objects that all stay. The collector
goes over them dozens of times meanwhile, which takes a fifth of the time to the first prediction.
Afterwards they are put out of its sight, so that later collections are short too, until the end of
the process: libraries that count their objects then would report those out of sight as leaked.
"""

# ruff: noqa: F401

from __future__ import annotations

import atexit
import gc

_collects = gc.isenabled()
gc.disable()
try:
    import detectron2.modeling
    import openvino
    import scipy.sparse.csgraph
    import scipy.spatial
    import skimage.morphology
finally:
    gc.freeze()
    atexit.register(gc.unfreeze)
    if _collects:
        gc.enable()
