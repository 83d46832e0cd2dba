"""Memory of this process: now and at its peak."""

from __future__ import annotations

import resource
from pathlib import Path

_STATUS = Path('/proc/self/status')
_CLEAR = Path('/proc/self/clear_refs')


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
