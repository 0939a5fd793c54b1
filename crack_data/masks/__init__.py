"""A mask file → a clean binary mask: reading, threshold, halo, bridges, specks, components."""

from .cleaning import (
    PRESETS,
    CleaningOptions,
    Cracks,
    binarize,
    clean_mask,
    fill_holes,
    find_cracks,
    label_instances,
    preset,
)
from .components import ByteMask

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
