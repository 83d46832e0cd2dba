"""MMEngine's training loops with exact resuming.

MMEngine restarts the epoch and does not restore random states. These loops skip the used batches of
the epoch, and seed every sample and every step (`seeded_data`). `tools/train.py` uses them in place
of the stock loops.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from mmengine.dist import get_rank
from mmengine.registry import LOOPS
from mmengine.runner.loops import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from .seeded_data import STEP, SeededBatches, seed_everything, seeded_loader


@LOOPS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class ResumableEpochLoop(EpochBasedTrainLoop):  # type: ignore[misc,unused-ignore]
    """`EpochBasedTrainLoop` that also resumes in the middle of an epoch. Same arguments."""

    dataloader: DataLoader[Any]

    def __init__(self, runner: Any, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, *args, **kwargs)
        self.dataloader = seeded_loader(self.dataloader, runner.seed)

    @property
    def batches(self) -> SeededBatches:
        """The batch sampler."""
        return cast(SeededBatches, self.dataloader.batch_sampler)

    def run(self) -> Any:
        """Train from the checkpoint, or from the start."""
        self.batches.replay(self._epoch)
        return super().run()

    def run_epoch(self) -> None:
        """Train one epoch, or the rest of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        self.batches.begin(self._epoch, done)
        for number, batch in enumerate(self.dataloader, start=done):
            self.run_iter(number, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Train one step."""
        seed_everything(self.runner.seed, STEP, self._iter, get_rank())
        super().run_iter(idx, data_batch)


class BatchStream:
    """Infinite iterator over the batches of a loader.

    Args:
        loader: Result of `seeded_loader`.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self._pass, self._skipped = 0, 0
        self._iterator: Iterator[Any] | None = None

    def skip_iter(self, num_iters: int) -> None:
        """Skip the first `num_iters` batches; call it before the first batch."""
        batches = cast(SeededBatches, self.loader.batch_sampler)
        if batches.is_infinite:
            self._skipped = num_iters
        else:
            self._pass, self._skipped = divmod(num_iters, len(self.loader))
            batches.replay(self._pass)

    def __next__(self) -> Any:
        if self._iterator is None:
            self._iterator = self._begin()
        try:
            return next(self._iterator)
        except StopIteration:
            self._pass, self._skipped = self._pass + 1, 0
            self._iterator = self._begin()
            return next(self._iterator)

    def _begin(self) -> Iterator[Any]:
        batches = cast(SeededBatches, self.loader.batch_sampler)
        batches.set_epoch(self._pass)
        batches.begin(self._pass, self._skipped)
        return iter(self.loader)


@LOOPS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class ResumableIterLoop(IterBasedTrainLoop):  # type: ignore[misc,unused-ignore]
    """`IterBasedTrainLoop` with seeded samples and steps. Same arguments."""

    dataloader: DataLoader[Any]

    def __init__(self, runner: Any, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, *args, **kwargs)
        self.dataloader = seeded_loader(self.dataloader, runner.seed)
        self.dataloader_iterator = BatchStream(self.dataloader)

    def run_iter(self, data_batch: Any) -> None:
        """Train one step."""
        seed_everything(self.runner.seed, STEP, self._iter, get_rank())
        super().run_iter(data_batch)
