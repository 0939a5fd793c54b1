"""Drawn photos of cracked asphalt and concrete with their masks, for demonstrations and tests."""

from .photo import SyntheticPhoto, draw_photo
from .writing import write_photos

__all__ = ["SyntheticPhoto", "draw_photo", "write_photos"]
