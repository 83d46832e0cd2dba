"""Memory of this process: current use, peak, and what the C library keeps."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

_STATUS = Path('/proc/self/status')
_CLEAR = Path('/proc/self/clear_refs')

# Parameters of glibc's mallopt (malloc.h) and their values in bytes.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM, _MMAP = 64 * 2**20, 2 * 2**20


def give_back_freed() -> bool:
    """Return freed tensors of 2 MB and more to the system at once.

    By default glibc raises that limit to up to 32 MB and keeps smaller pieces for the next tensor.
    The setting holds for the whole process and cannot be undone, so only a command may call this.

    Returns:
        False without such a setting; only glibc has it.
    """
    library = ctypes.CDLL(None) if sys.platform.startswith('linux') else None
    mallopt = getattr(library, 'mallopt', None)
    if mallopt is None:
        return False
    return all([mallopt(_M_MMAP_THRESHOLD, _MMAP), mallopt(_M_TRIM_THRESHOLD, _TRIM)])


def resident_bytes() -> int:
    """Memory that the process holds now, in bytes (Linux; elsewhere its peak so far)."""
    return _status('VmRSS') or peak_bytes()


def reset_peak() -> bool:
    """Forget the peak so far; False where the system cannot (then peaks only grow)."""
    try:
        _CLEAR.write_text('5')
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """Highest memory held since the start or the last `reset_peak`, in bytes."""
    return _status('VmHWM') or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(field: str) -> int:
    if not _STATUS.exists():
        return 0
    rows = dict(line.split(':', 1) for line in _STATUS.read_text().splitlines() if ':' in line)
    return int(rows[field].split()[0]) * 1024 if field in rows else 0
