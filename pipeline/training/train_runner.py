"""MMEngine's Runner with checkpoints that a kill cannot spoil."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, RUNNERS
from mmengine.runner import Runner

LAST = 'last_checkpoint'
GRADIENTS = 'accumulated_gradients'


@RUNNERS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class TrainRunner(Runner):  # type: ignore[misc,unused-ignore]
    """`Runner` whose checkpoints appear whole or not at all. Same arguments."""

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Writes beside the file and puts it in place at once; arguments as of `Runner`."""
        partial = f'{filename}.partial'
        super().save_checkpoint(out_dir, partial, *args, **kwargs)
        if is_main_process():
            os.replace(Path(out_dir) / partial, Path(out_dir) / filename)


@HOOKS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class AccumulatedGradientsHook(Hook):  # type: ignore[misc,unused-ignore]
    """Keeps the gradients that are still being accumulated when a checkpoint is written.

    Without them a run that is resumed between two updates would lose part of a batch. With
    several processes only those of the first are known: there, let checkpoints fall on updates.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Adds the gradients, if there are any."""
        if not runner.optim_wrapper.should_update():
            checkpoint[GRADIENTS] = {
                name: parameter.grad.detach().cpu().clone()
                for name, parameter in runner.model.named_parameters()
                if parameter.grad is not None
            }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Takes note of them, if the run goes on (weights to start from are another matter)."""
        self._kept = checkpoint.get(GRADIENTS, {}) if runner._resume else {}

    def before_train(self, runner: Any) -> None:
        """Puts them back."""
        parameters = dict(runner.model.named_parameters())
        for name, gradient in self._kept.items():
            parameters[name].grad = gradient.to(parameters[name].device)
        self._kept = {}


def latest_checkpoint(work_dir: Path) -> Path | None:
    """The newest whole checkpoint of a run.

    Args:
        work_dir: where the run writes.

    Returns:
        The file that `last_checkpoint` names; if that note is damaged, the newest of the
        `epoch_*.pth` and `iter_*.pth`; None if there is none.
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
