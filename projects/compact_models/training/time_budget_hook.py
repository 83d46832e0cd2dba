"""Train for a given wall-clock time: the learning rate falls to zero when the time is over.

On a shared CPU the number of steps that fit into an hour is not known beforehand; a schedule in
steps would stop half-way or leave time unused.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

_USED = 'time_budget_used'


@HOOKS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class TimeBudgetHook(Hook):  # type: ignore[misc,unused-ignore]
    """Warm-up in steps, then a cosine over wall-clock time; stops, validates and saves at its end.

    Takes the place of MMEngine's parameter schedulers. The time used is stored in the
    checkpoints, so that a resumed run goes on where it was.

    Args:
        minutes: time from the first training step to the end, validation included.
        warmup_iters: steps in which the learning rate rises linearly to the optimiser's.

    Raises:
        ValueError: `minutes` is not positive.
    """

    priority = 'VERY_LOW'

    def __init__(self, minutes: float, warmup_iters: int = 150) -> None:
        if minutes <= 0:
            raise ValueError(f'minutes = {minutes}; it must be positive')
        self.seconds = 60.0 * minutes
        self.warmup_iters = warmup_iters
        self._start = 0.0
        self._base_lrs: list[float] = []

    def before_train(self, runner: Any) -> None:
        """Start the clock, after the time that earlier runs used."""
        used = 0.0
        if _USED in runner.message_hub.runtime_info:
            used = float(runner.message_hub.get_info(_USED))
        self._start = time.monotonic() - used
        groups = runner.optim_wrapper.optimizer.param_groups
        # `initial_lr` survives in the optimiser state of a checkpoint, `lr` is what we change.
        self._base_lrs = [group.setdefault('initial_lr', group['lr']) for group in groups]

    def factor(self, iteration: int, elapsed: float) -> float:
        """Learning rate relative to the optimiser's, in [0, 1].

        Args:
            iteration: steps done.
            elapsed: seconds used.
        """
        warmup = min(1.0, (iteration + 1) / max(1, self.warmup_iters))
        progress = min(1.0, elapsed / self.seconds)
        return warmup * 0.5 * (1 + math.cos(math.pi * progress))

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the learning rate of the step."""
        factor = self.factor(runner.iter, time.monotonic() - self._start)
        groups = runner.optim_wrapper.optimizer.param_groups
        for group, base_lr in zip(groups, self._base_lrs, strict=True):
            group['lr'] = base_lr * factor

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Note the time used; stop when it is over."""
        elapsed = time.monotonic() - self._start
        runner.message_hub.update_info(_USED, elapsed)
        if elapsed >= self.seconds:
            runner.train_loop.stop_training = True

    def after_train(self, runner: Any) -> None:
        """Validate and save the final weights."""
        if runner.val_loop is not None:
            runner.val_loop.run()
        runner.save_checkpoint(str(Path(runner.work_dir)), 'final.pth', by_epoch=False)
