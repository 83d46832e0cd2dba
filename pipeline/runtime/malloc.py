"""Memory that the C library keeps after tensors are freed."""

from __future__ import annotations

import ctypes
import sys


def release_freed() -> bool:
    """Return all freed memory to the system.

    Returns:
        False where the C library cannot (it is a function of glibc) or nothing was left.
    """
    library = ctypes.CDLL(None) if sys.platform.startswith('linux') else None
    trim = getattr(library, 'malloc_trim', None)
    return trim is not None and bool(trim(0))
