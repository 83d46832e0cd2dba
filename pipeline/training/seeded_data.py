"""Random states that depend only on the position in the training.

The position of a sample seeds its augmentation, and the step number seeds the step. A resumed run,
with any number of loading processes, is identical to one without interruption; only the step is
stored. Two processes with half the batch each draw the same samples as one with the whole batch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_dist_info
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

# Purpose of a random state, part of its key.
SAMPLE, STEP = 0, 1
Key = tuple[int, ...]


def seed_everything(*key: int) -> None:
    """Set the random states of Python, NumPy and torch from a key of non-negative integers."""
    states = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(states[0]))
    np.random.seed(int(states[1]))
    torch.manual_seed(int(states[2]))


class SeededDataset(Dataset[Any]):
    """A dataset indexed by (index, key); the key seeds the loading of the sample.

    All other attributes are those of the wrapped dataset, so hooks such as `PipelineSwitchHook`
    work.

    Args:
        dataset: Any map-style dataset.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: tuple[int, Key]) -> Any:
        index, key = item
        seed_everything(*key)
        return self.dataset[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'dataset':  # requested while unpickling
            raise AttributeError(name)
        return getattr(self.dataset, name)

    @property
    def pipeline(self) -> Any:
        """Transforms of the wrapped dataset."""
        return self.dataset.pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Any) -> None:
        self.dataset.pipeline = pipeline


class SeededBatches(Sampler[list[tuple[int, Key]]]):
    """Batches of (index, key), starting at any batch of an epoch.

    Args:
        batches: Index batches of one process.
        seed: Seed of the training.
    """

    def __init__(self, batches: BatchSampler, seed: int) -> None:
        self.batches = batches
        self.seed = seed
        self.epoch, self.skipped = 0, 0

    @property
    def sampler(self) -> Any:
        """The sampler of single indices."""
        return self.batches.sampler

    @property
    def is_infinite(self) -> bool:
        """Whether an epoch never ends."""
        return isinstance(self.sampler, InfiniteSampler)

    def begin(self, epoch: int, skipped: int) -> None:
        """Start the next iteration in this epoch, after `skipped` batches."""
        self.epoch, self.skipped = epoch, skipped

    def replay(self, epochs: int) -> None:
        """Advance a stateful sampler by this number of epochs."""
        if isinstance(self.sampler, DefaultSampler):
            return  # depends only on the epoch
        for epoch in range(epochs):
            self.set_epoch(epoch)
            for _ in self.batches:
                pass

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the sampler, if it has `set_epoch`."""
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, Key]]]:
        epoch, skipped = self.epoch, self.skipped
        rank, world_size = get_dist_info()
        drawn = 0
        for number, indices in enumerate(self.batches):
            if number >= skipped:
                places = range(drawn, drawn + len(indices))
                # Processes alternate samples, so this is the position over all processes.
                keys = [(self.seed, SAMPLE, epoch, i * world_size + rank) for i in places]
                yield list(zip(indices, keys, strict=True))
            drawn += len(indices)


def seeded_loader(loader: DataLoader[Any], seed: int) -> DataLoader[Any]:
    """Copy a loader, with samples seeded by their position in the training.

    Args:
        loader: Loader built by MMEngine.
        seed: Seed of the training.

    Returns:
        A loader with a `SeededBatches` as `batch_sampler`.

    Raises:
        ValueError: The loader has no batch sampler.
    """
    if loader.batch_sampler is None:
        raise ValueError('train_dataloader needs a batch size or a batch sampler over indices')
    return DataLoader(
        SeededDataset(loader.dataset),
        batch_sampler=SeededBatches(loader.batch_sampler, seed),  # type: ignore[arg-type]
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
