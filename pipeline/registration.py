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
        'pipeline.poses.freezable_estimator',
        'pipeline.poses.oks_losses',
        'pipeline.poses.pmpose_box_head',
        'pipeline.poses.pmpose_head',
        'pipeline.poses.pmpose_losses',
    ),
    'mmpose.datasets': ('pipeline.poses.detected_people',),
    'mmpose.datasets.transforms': (
        'pipeline.poses.load_person_mask',
        'pipeline.poses.mask_background',
        'pipeline.poses.paste_people',
        'pipeline.poses.person_box_target',
        'pipeline.poses.train_transforms',
    ),
    'mmpose.codecs': ('pipeline.poses.oks_heatmap',),
    'mmpose.evaluation': ('pipeline.evaluation.mmpose_metric',),
    'mmdet.evaluation': ('pipeline.evaluation.mmdet_metric',),
    'mmdet.models': (
        'pipeline.detectors.compact_masks',
        'pipeline.detectors.rtmdet_distilled',
        'pipeline.detectors.rtmdet_ins_partial',
        'pipeline.detectors.rtmdet_packed',
    ),
    'mmdet.datasets.transforms': (
        'pipeline.datasets.copy_paste',
        'pipeline.datasets.transforms',
    ),
    'mmengine.dataset': (
        'pipeline.training.packed.crops',
        'pipeline.training.pose2seg.augment',
        'pipeline.training.pose2seg.dataset',
        'pipeline.training.pose2seg.transforms',
    ),
    'mmengine.evaluator': ('pipeline.training.pose2seg.metric',),
    'mmengine.hooks': (
        'pipeline.training.plain_weights_hook',
        'pipeline.training.pose2seg.embedding_cache',
        'pipeline.training.pose2seg.export',
        'pipeline.training.time_budget_hook',
    ),
    'mmengine.model': (
        'pipeline.training.depthwise_conv',
        'pipeline.training.pose2seg.model',
    ),
    'mmengine.optim': (
        'pipeline.training.bf16_optim_wrapper',
        'pipeline.training.layer_decay',
        'pipeline.training.muon',
        'pipeline.training.pose2seg.optimizer',
    ),
    'mmengine.runner': (
        'pipeline.training.resumable_loops',
        'pipeline.training.train_runner',
    ),
}


def register_parts() -> None:
    """Put our parts into the registries that exist, and into the others once they do."""
    _FINDER.start()


class FollowingFinder(MetaPathFinder):
    """Imports some modules right after others; leaves `sys.meta_path` when all have come.

    A follower may itself be what brings the other module in, and further followers may need it; the
    other modules may need each other. So nothing is imported while one of them all is half
    imported, but as soon as it has run.

    Args:
        followers: name of a module -> names of the modules to import after it.
    """

    def __init__(self, followers: Mapping[str, Sequence[str]]) -> None:
        self.waiting = dict(followers)
        self.followers = frozenset(name for names in followers.values() for name in names)
        self.due: list[str] = []
        self.running = 0

    def start(self) -> None:
        """Import the followers of what is imported already and wait for the rest."""
        if self.waiting and self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        self.due += [name for name in self.waiting if name in sys.modules]
        self.catch_up()

    def run(self, module: ModuleType, loader: Loader) -> None:
        """Execute a module that is a follower or has some, then import what is due."""
        self.running += 1
        try:
            loader.exec_module(module)
        finally:
            self.running -= 1
        if module.__name__ in self.waiting:
            self.due.append(module.__name__)
        self.catch_up()

    def catch_up(self) -> None:
        """Import the followers of all modules that have come."""
        while self.due and not self.running:
            name = self.due.pop(0)
            for follower in self.waiting.get(name, ()):
                import_module(follower)
            self.waiting.pop(name, None)
        if not self.waiting and self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find; modules that matter here are run by `run`."""
        if fullname not in self.waiting and fullname not in self.followers:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ObservedLoader(spec.loader, self)
                return spec
        return None


class _ObservedLoader(Loader):
    """Lets a finder run a module, and gives the module its own loader back."""

    def __init__(self, loader: Loader, finder: FollowingFinder) -> None:
        self.loader = loader
        self.finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.finder.run(module, self.loader)


_FINDER = FollowingFinder(PARTS)
