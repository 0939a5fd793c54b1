"""Settings of glibc's memory allocator; with another C library they do nothing."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

# Of malloc.h; see mallopt(3).
TRIM_THRESHOLD = -1
MMAP_THRESHOLD = -3
MMAP_MAX = -4
ARENA_MAX = -8


def set_malloc(options: Mapping[int, int]) -> None:
    """Give the allocator of this process each option's value."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in options.items():
            mallopt(option, value)
