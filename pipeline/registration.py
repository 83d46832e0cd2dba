"""Our parts in the registries of MMPose, MMDetection and MMEngine, without importing any of them.

With ``custom_imports = dict(imports=['pipeline'])`` a config of these libraries may name the
classes of the modules below. Importing ``pipeline`` must stay cheap, though, and it may have
happened long before (a second import does nothing). So the modules are tied to the moment at which
a library fills its own registries: those import fixed packages before the first name is looked up
(``locations`` of MMEngine's `Registry`). Each of our modules follows the package named here: at
once if that is imported already, else right after its import.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Package of a library that fills a registry -> our modules that belong into the same registry.
PARTS: Mapping[str, tuple[str, ...]] = {
    'mmpose.models': (
        'pipeline.poses.conv_stem_vit',
        'pipeline.poses.pmpose_head',
        'pipeline.poses.pmpose_losses',
    ),
    'mmpose.datasets.transforms': (
        'pipeline.poses.load_person_mask',
        'pipeline.poses.mask_background',
    ),
    'mmdet.models': ('pipeline.detectors.rtmdet_ins_partial',),
    'mmdet.datasets.transforms': ('pipeline.datasets.transforms',),
    'mmengine.hooks': (
        'pipeline.training.plain_weights_hook',
        'pipeline.training.time_budget_hook',
    ),
    'mmengine.optim': ('pipeline.training.bf16_optim_wrapper',),
}


def register_parts() -> None:
    """Put our parts into the registries that exist, and into the others once they do."""
    _FINDER.start()


class FollowingFinder(MetaPathFinder):
    """Imports some modules right after others; leaves `sys.meta_path` when all have come.

    Args:
        followers: name of a module -> names of the modules to import after it.
    """

    def __init__(self, followers: Mapping[str, Sequence[str]]) -> None:
        self.waiting = dict(followers)

    def start(self) -> None:
        """Import the followers of what is imported already and wait for the rest."""
        for name in [name for name in self.waiting if name in sys.modules]:
            self.has_come(name)
        if self.waiting and self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def has_come(self, name: str) -> None:
        """Import the followers of module ``name``, which is complete."""
        for follower in self.waiting[name]:
            import_module(follower)
        del self.waiting[name]
        if not self.waiting and self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find, told to report when a module that is waited for has run."""
        if fullname not in self.waiting:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ReportingLoader(spec.loader, self)
                return spec
        return None


class _ReportingLoader(Loader):
    """Runs a module with its own loader, puts that loader back and reports."""

    def __init__(self, loader: Loader, finder: FollowingFinder) -> None:
        self.loader = loader
        self.finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        self.finder.has_come(module.__name__)


_FINDER = FollowingFinder(PARTS)
