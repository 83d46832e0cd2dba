"""BBox-Mask-Pose: find every person in an image of a crowd: box, mask and pose.

Imports are lazy, so that ``import pipeline`` costs nothing. Where MMEngine is imported already, as
in a program of MMPose or MMDetection that names the package in ``custom_imports``, the package
registers its models, transforms and hooks; see `registry`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import LoadedPipeline, load_pipeline
    from .loop import LoopConfig, PersonPipeline
    from .masks import Masks
    from .resources import locate_file
    from .structures import Detections, People, Poses
    from .visualization.style import DrawingStyle

__version__ = '0.2.0'

_HOMES = {
    'load_pipeline': '.api',
    'locate_file': '.resources',
    'LoadedPipeline': '.api',
    'LoopConfig': '.loop',
    'PersonPipeline': '.loop',
    'Masks': '.masks',
    'Detections': '.structures',
    'DrawingStyle': '.visualization.style',
    'Poses': '.structures',
    'People': '.structures',
}

__all__ = [
    'Detections', 'DrawingStyle', 'LoadedPipeline', 'LoopConfig', 'Masks', 'People',
    'PersonPipeline', 'Poses', 'load_pipeline', 'locate_file',
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_HOMES[name], __name__), name)


if 'mmengine' in sys.modules:
    import_module('.registry', __name__)
