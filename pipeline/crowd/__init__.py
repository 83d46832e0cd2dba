"""Crowd analysis: from people and tracks to positions, occlusion, density, flow and groups.

`analyze` is the entry; ``bmp crowd`` calls it. The extra ``crowd`` installs what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analysis import CrowdAnalysis, analyze
    from .camera import Camera
    from .regions import Region
    from .summary import summarize

_HOMES = {
    'analyze': '.analysis',
    'CrowdAnalysis': '.analysis',
    'Camera': '.camera',
    'Region': '.regions',
    'summarize': '.summary',
}

__all__ = ['Camera', 'CrowdAnalysis', 'Region', 'analyze', 'summarize']


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_HOMES[name], __name__), name)
