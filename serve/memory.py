"""Keep glibc from hoarding freed memory."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # of malloc.h


def share_one_arena() -> None:
    """Let all threads allocate from one arena, so that what one frees another can use.

    By default each of the server's threads keeps an arena of its own, whose free pages stay with
    the process. Call it before the threads start; without glibc it does nothing.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return to the system what loading the model left free."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
