"""A mask file → a clean binary mask: reading, threshold, halo, bridges, specks, components."""

from .cleaning import Cracks, binarize, clean_mask, fill_holes, find_cracks
from .components import ByteMask
from .instances import label_instances
from .options import PRESETS, CleaningOptions, preset

__all__ = [
    "PRESETS",
    "ByteMask",
    "CleaningOptions",
    "Cracks",
    "binarize",
    "clean_mask",
    "fill_holes",
    "find_cracks",
    "label_instances",
    "preset",
]
