"""A third less time to start for programs that only find people.

MMDetection imports MMPretrain, where it is installed, for its re-identification models
(`mmdet/models/reid/base_reid.py`, `mmdet/models/data_preprocessors/reid_data_preprocessor.py`, both
in ``try: ... except ImportError``), and so torchvision, TorchDynamo and Triton: 2.5 of 9 seconds of
processor time. No stage of the loop uses these models.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType


class _NotForMMDet(MetaPathFinder):
    """Tells MMDetection, and nobody else, that MMPretrain is not there."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """None: leaves the search to the other finders.

        Raises:
            ModuleNotFoundError: a module of MMDetection asks for MMPretrain.
        """
        if fullname == 'mmpretrain' and _importer(sys._getframe(1)).startswith('mmdet.'):
            raise ModuleNotFoundError('left out by pipeline.lean_imports', name=fullname)
        return None


def _importer(frame: FrameType | None) -> str:
    """Name of the module whose import statement is being run."""
    while frame is not None and frame.f_globals.get('__name__', '').startswith('importlib'):
        frame = frame.f_back
    return str(frame.f_globals.get('__name__', '')) if frame else ''


@contextmanager
def without_reid() -> Iterator[None]:
    """Inside the block MMDetection is imported without its re-identification models.

    They stay unusable in this process (they ask to install MMPretrain), so this is for programs
    that own their process, as `tools/run_bmp.py` does. Everything else, MMPretrain itself included,
    is imported as usual; what is imported already stays.
    """
    finder = _NotForMMDet()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
