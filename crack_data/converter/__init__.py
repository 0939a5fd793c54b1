"""A set of photos and masks → COCO JSON: pairs read in parallel, suspected, split, recorded."""

from .conversion import ConversionOptions, convert

__all__ = ["ConversionOptions", "convert"]
