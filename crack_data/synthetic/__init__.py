"""Drawn photos of cracked grounds and walls with their masks, to train, test and demonstrate."""

from .photos import SyntheticPhoto, draw_photo, write_photos

__all__ = ["SyntheticPhoto", "draw_photo", "write_photos"]
