"""Keep the server small: what it freed, and what only its start needed, goes back."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

from crack_data.malloc import ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD, set_malloc


def spare_memory() -> None:
    """Let all threads allocate from one arena, and give large blocks back as soon as freed.

    By default each of the server's threads keeps an arena of its own, whose free pages stay with
    the process, and blocks of up to 32 MB leave holes in it: after a few large photos that is
    hundreds of MB. Call it before the threads start; without glibc it does nothing.
    """
    set_malloc(
        {
            ARENA_MAX: 1,
            MMAP_THRESHOLD: 4_000_000,
            # Setting the other ends this one's growth: small photos would fault their pages anew.
            TRIM_THRESHOLD: 32_000_000,
        }
    )


def give_back() -> None:
    """Return to the system what loading the model left free or will not use again."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    _drop_code(libc)


def _drop_code(libc: ctypes.CDLL) -> None:
    """Forget which pages of the libraries' code were read.

    Loading PyTorch touches a quarter of a GB of code, most of it CUDA's, that no photo needs. Code
    is never written to, so what is needed after all comes back from the file unchanged. Does
    nothing where there is no /proc.
    """
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return
    for line in maps.read_text().splitlines():
        addresses, permissions, _, _, inode, *_ = line.split()
        if permissions == "r-xp" and inode != "0":
            start, end = (int(address, 16) for address in addresses.split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
