"""A third less time to start for programs that only find people.

Two imports bring much that no stage of the loop uses, and both have an ``except ImportError``:

- MMDetection imports MMPretrain, where it is installed, for its re-identification models
  (`mmdet/models/reid/base_reid.py`, `mmdet/models/data_preprocessors/reid_data_preprocessor.py`),
  and so torchvision, TorchDynamo and Triton: 2.5 of 9 seconds of processor time;
- MMEngine imports PyTorch's optimisers of several processes for its `ZeroRedundancyOptimizer`
  (`mmengine/optim/optimizer/zero_optimizer.py`), and so a dozen modules that TorchScript compiles:
  0.6 of 7.7 seconds. (It imports FSDP, a second more, in any case.)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType

# Module -> start of the names of those who are told that it is not there.
LEFT_OUT: Mapping[str, str] = {
    'mmpretrain': 'mmdet.',
    'torch.distributed.optim': 'mmengine.optim.',
}


class _LeftOut(MetaPathFinder):
    """Tells some modules, and nobody else, that others are not there."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """None: leaves the search to the other finders.

        Raises:
            ModuleNotFoundError: one of `LEFT_OUT` asks.
        """
        asking = LEFT_OUT.get(fullname)
        if asking is not None and _importer(sys._getframe(1)).startswith(asking):
            raise ModuleNotFoundError('left out by pipeline.lean_imports', name=fullname)
        return None


def _importer(frame: FrameType | None) -> str:
    """Name of the module whose import statement is being run."""
    while frame is not None and frame.f_globals.get('__name__', '').startswith('importlib'):
        frame = frame.f_back
    return str(frame.f_globals.get('__name__', '')) if frame else ''


@contextmanager
def for_inference() -> Iterator[None]:
    """Inside the block the libraries are imported without what `LEFT_OUT` names.

    MMDetection's re-identification models and MMEngine's `ZeroRedundancyOptimizer` stay unusable in
    this process, so this is for programs that own their process and do not train, as
    `tools/run_bmp.py`. Everything else, the modules themselves included, is imported as usual; what
    is imported already stays.
    """
    finder = _LeftOut()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
