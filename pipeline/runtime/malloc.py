"""Settings of the memory allocator of the C library."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt (malloc.h) and their values in bytes.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM, _MMAP = 64 * 2**20, 2 * 2**20


def give_back_freed() -> bool:
    """Return freed tensors of 2 MB and more to the system at once.

    By default glibc raises that limit to up to 32 MB and keeps smaller pieces for the next tensor.
    The setting holds for the whole process and cannot be undone, so only a command may call this.

    Returns:
        False where the C library has no such setting (it is one of glibc).
    """
    library = ctypes.CDLL(None) if sys.platform.startswith('linux') else None
    mallopt = getattr(library, 'mallopt', None)
    if mallopt is None:
        return False
    return all([mallopt(_M_MMAP_THRESHOLD, _MMAP), mallopt(_M_TRIM_THRESHOLD, _TRIM)])
