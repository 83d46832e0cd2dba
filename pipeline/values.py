"""Values of users: ranges of settings, and values in messages."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_REPR.maxlong = 30
_REPR.maxlevel, _REPR.maxtuple, _REPR.maxlist, _REPR.maxdict = 3, 6, 6, 4


def shorten(value: Any) -> str:
    """Format any value for a message, in a bounded length and depth."""
    text = _REPR.repr(value)
    return text if len(text) <= 120 else f'{text[:117]}...'


RANGES: dict[str, Callable[[float], bool]] = {
    '>= 0': lambda value: value >= 0,
    '>= 1': lambda value: value >= 1,
    'in [0, 1]': lambda value: 0 <= value <= 1,
    'in [0, 1)': lambda value: 0 <= value < 1,
    'in (0, 1]': lambda value: 0 < value <= 1,
    'in [1, 17]': lambda value: 1 <= value <= 17,  # of COCO's keypoints
    'a positive multiple of 32': lambda value: value > 0 and value % 32 == 0,
}


def check_range(name: str, value: Any, text: str) -> None:
    """Check that a number is inside one of the `RANGES`; None and texts pass.

    Raises:
        ValueError: It is not; starts with ``name``.
    """
    if isinstance(value, int | float) and not RANGES[text](value):
        raise ValueError(f'{name} must be {text}, got {value}')


def check_ranges(settings: object, place: str, **ranges: str) -> None:
    """Check attributes of ``settings``, named after ``place``, as `check_range` does."""
    for name, text in ranges.items():
        check_range(f'{place}.{name}', getattr(settings, name), text)


def install_hint(extra: str) -> str:
    """Command that installs an extra of this project."""
    return f"pip install 'bbox-mask-pose[{extra}]'"


def in_line(text: object) -> str:
    """Format a text of a file or a library in one line of limited length."""
    return ' '.join(str(text).split())[:300]
