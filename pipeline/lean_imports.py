"""Over a third less time to start for programs that only find people.

Three imports bring much that no stage of the loop uses. Where there is an ``except ImportError``
the libraries are told that the module is not there:

- MMDetection imports MMPretrain, where it is installed, for its re-identification models
  (`mmdet/models/reid/base_reid.py`, `mmdet/models/data_preprocessors/reid_data_preprocessor.py`),
  and so torchvision, TorchDynamo and Triton: 2.5 of 9 seconds of processor time;
- MMEngine imports PyTorch's optimisers of several processes for its `ZeroRedundancyOptimizer`
  (`mmengine/optim/optimizer/zero_optimizer.py`), and so a dozen modules that TorchScript compiles:
  0.6 of 7.7 seconds;
- MMEngine imports FSDP, and so PyTorch's distributed tensors and SymPy, for a strategy
  (`mmengine/_strategy/fsdp.py`) and a model wrapper: 0.7 of 6.4 seconds. The wrapper
  (`mmengine/model/wrappers/__init__.py`) has no ``except``: a placeholder takes its place.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

# Module -> start of the names of those who are told that it is not there.
LEFT_OUT: Mapping[str, str] = {
    'mmpretrain': 'mmdet.',
    'torch.distributed.optim': 'mmengine.optim.',
    'torch.distributed.fsdp': 'mmengine._strategy.',
}
_FSDP_WRAPPER = 'mmengine.model.wrappers.fully_sharded_distributed'


class _Placeholder(Loader):
    """The module of MMEngine's FSDP wrapper with a class that cannot be used."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        class MMFullyShardedDataParallel:
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                raise RuntimeError(
                    'MMFullyShardedDataParallel was left out by pipeline.lean_imports; import '
                    'mmengine.model before for_inference(), or leave for_inference() out'
                )

        setattr(module, MMFullyShardedDataParallel.__name__, MMFullyShardedDataParallel)


class _LeftOut(MetaPathFinder):
    """Tells some modules, and nobody else, that others are not there; has a placeholder."""

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
        if fullname == _FSDP_WRAPPER:
            return ModuleSpec(fullname, _Placeholder())
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
    """Inside the block the libraries are imported without what `LEFT_OUT` names and FSDP.

    MMDetection's re-identification models and MMEngine's `ZeroRedundancyOptimizer` and FSDP classes
    stay unusable in this process, so this is for programs that own their process and do not train,
    as `tools/run_bmp.py`. Everything else, FSDP of PyTorch included, is imported as usual; what is
    imported already stays.
    """
    finder = _LeftOut()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
