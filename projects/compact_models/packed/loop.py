"""A training loop over batches that the data set makes whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from mmengine.registry import LOOPS
from mmengine.runner.loops import IterBasedTrainLoop
from torch.utils.data import DataLoader

from pipeline.training.resumable_loops import ResumableIterLoop


class WholeBatchStream:
    """Batches of a data set that makes them whole and by number, as `PackedCrops`.

    Args:
        loader: of an `IterableDataset` with an attribute `first`, the number to begin with.

    Raises:
        ValueError: the data set has no such attribute.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        if not hasattr(loader.dataset, 'first'):
            raise ValueError(
                f'train_dataloader: batches of {type(loader.dataset).__name__} cannot be counted; '
                'give one with an attribute first, as PackedCrops'
            )
        self.loader = loader
        self._iterator: Iterator[Any] | None = None

    def skip_iter(self, num_iters: int) -> None:
        """Goes on after so many batches from the very start; comes before the first batch."""
        cast(Any, self.loader.dataset).first = num_iters

    def __next__(self) -> Any:
        if self._iterator is None:
            # The loader has nothing to add, and would warn of more batches than an epoch has.
            self._iterator = iter(cast(Any, self.loader.dataset))
        return next(self._iterator)


@LOOPS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class WholeBatchLoop(ResumableIterLoop):
    """`ResumableIterLoop` for `PackedCrops`. Same arguments."""

    def __init__(self, runner: Any, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        IterBasedTrainLoop.__init__(self, runner, dataloader, *args, **kwargs)
        self.dataloader_iterator = cast(Any, WholeBatchStream(self.dataloader))
