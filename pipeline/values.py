"""Values of users in messages."""

from __future__ import annotations

import reprlib
from typing import Any

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_REPR.maxlong = 30
_REPR.maxlevel, _REPR.maxtuple, _REPR.maxlist, _REPR.maxdict = 3, 6, 6, 4


def shorten(value: Any) -> str:
    """Format any value for a message, in a bounded length and depth."""
    text = _REPR.repr(value)
    return text if len(text) <= 120 else f'{text[:117]}...'


def in_line(text: object) -> str:
    """Format a text of a file or a library in one line of limited length."""
    return ' '.join(str(text).split())[:300]
