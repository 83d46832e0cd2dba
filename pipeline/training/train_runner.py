"""MMEngine's Runner with atomic checkpoints, on any device."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, RUNNERS
from mmengine.runner import Runner

LAST = 'last_checkpoint'
GRADIENTS = 'accumulated_gradients'


@RUNNERS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class TrainRunner(Runner):  # type: ignore[misc,unused-ignore]
    """`Runner` that writes checkpoints atomically. Same arguments."""

    def build_model(self, model: Any) -> Any:
        """Build the model; on a GPU without mmcv's kernels, it validates with torchvision's."""
        if isinstance(model, dict) and get_device() != 'cpu':
            from pipeline.runtime.mmcv_ops import use_torchvision_ops

            model = copy.deepcopy(model)
            use_torchvision_ops(model, get_device())
        return super().build_model(model)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write to a temporary file, then rename it; same arguments as `Runner`."""
        partial = f'{filename}.partial'
        if is_main_process():
            Path(out_dir, partial).unlink(missing_ok=True)  # a link is not followed
        super().save_checkpoint(out_dir, partial, *args, **kwargs)
        if is_main_process():
            os.replace(Path(out_dir) / partial, Path(out_dir) / filename)


@HOOKS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class AccumulatedGradientsHook(Hook):  # type: ignore[misc,unused-ignore]
    """Stores accumulated gradients in checkpoints between two updates.

    Without them, a resumed run would lose part of a batch. Only the gradients of the first process
    are stored: with several processes, write checkpoints at updates.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Add the gradients between two updates."""
        if not runner.optim_wrapper.should_update():
            checkpoint[GRADIENTS] = {
                name: parameter.grad.detach().cpu().clone()
                for name, parameter in runner.model.named_parameters()
                if parameter.grad is not None
            }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Read the gradients if the run resumes; not for initial weights."""
        self._kept = checkpoint.get(GRADIENTS, {}) if runner._resume else {}

    def before_train(self, runner: Any) -> None:
        """Restore the gradients."""
        parameters = dict(runner.model.named_parameters())
        for name, gradient in self._kept.items():
            parameters[name].grad = gradient.to(parameters[name].device)
        self._kept = {}


def latest_checkpoint(work_dir: Path) -> Path | None:
    """Find the newest complete checkpoint of a run.

    Args:
        work_dir: Work directory of the run.

    Returns:
        The file named in `last_checkpoint`; else the newest `epoch_*.pth` or `iter_*.pth`; else
        None.
    """
    note = work_dir / LAST
    if note.is_file():
        named = note.read_text().strip()
        # The folder may have been moved since.
        for path in (Path(named), work_dir / Path(named).name):
            if named and path.is_file():
                return path
    found = [*work_dir.glob('epoch_*.pth'), *work_dir.glob('iter_*.pth')]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
