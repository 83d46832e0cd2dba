"""Random numbers that depend on where a training is, not on how it came there.

Every sample is drawn with the random state that belongs to its place in the training, and every
step with the one of its number. So a run that was killed and resumed, with any number of loading
processes, makes the same augmentations as one that was not; nothing but the step is remembered.
Two processes with half the batch each draw the same samples as one with the whole batch.
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

# What a random state is for: kinds never share a state.
SAMPLE, STEP = 0, 1
Key = tuple[int, ...]


def seed_everything(*key: int) -> None:
    """Sets the random states of Python, NumPy and torch.

    Args:
        key: whole numbers, none negative; equal keys give equal states.
    """
    states = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(states[0]))
    np.random.seed(int(states[1]))
    torch.manual_seed(int(states[2]))


class SeededDataset(Dataset[Any]):
    """A data set whose items are (index, key): the key seeds what is random in loading the sample.

    Everything else is that of the data set inside, so hooks that look at it (such as
    `PipelineSwitchHook`) work as before.

    Args:
        dataset: any data set with indices.
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
        if name.startswith('__') or name == 'dataset':  # asked for while unpickling
            raise AttributeError(name)
        return getattr(self.dataset, name)

    @property
    def pipeline(self) -> Any:
        """Transforms of the data set inside."""
        return self.dataset.pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Any) -> None:
        self.dataset.pipeline = pipeline


class SeededBatches(Sampler[list[tuple[int, Key]]]):
    """Batches of (index, key), from any batch of an epoch on.

    Args:
        batches: the batches of indices of one process.
        seed: seed of the training.
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
        """Whether one pass never ends."""
        return isinstance(self.sampler, InfiniteSampler)

    def begin(self, epoch: int, skipped: int) -> None:
        """Says where the next pass starts.

        Args:
            epoch: number of the pass.
            skipped: batches of it that were used before.
        """
        self.epoch, self.skipped = epoch, skipped

    def replay(self, epochs: int) -> None:
        """Brings a sampler that remembers earlier passes to where it was after so many."""
        if isinstance(self.sampler, DefaultSampler):
            return  # depends on the number of the pass alone
        for epoch in range(epochs):
            self.set_epoch(epoch)
            for _ in self.batches:
                pass

    def set_epoch(self, epoch: int) -> None:
        """Tells the sampler the number of the pass, if it wants to know."""
        tell = getattr(self.sampler, 'set_epoch', None)
        if tell is not None:
            tell(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, Key]]]:
        epoch, skipped = self.epoch, self.skipped
        rank, world_size = get_dist_info()
        drawn = 0
        for number, indices in enumerate(self.batches):
            if number >= skipped:
                places = range(drawn, drawn + len(indices))
                # Processes take the samples in turn, so this numbers them over all processes.
                keys = [(self.seed, SAMPLE, epoch, i * world_size + rank) for i in places]
                yield list(zip(indices, keys, strict=True))
            drawn += len(indices)


def seeded_loader(loader: DataLoader[Any], seed: int) -> DataLoader[Any]:
    """The same loader, with samples that are seeded by their place in the training.

    Args:
        loader: as MMEngine builds it.
        seed: seed of the training.

    Returns:
        A loader whose `batch_sampler` is a `SeededBatches`.

    Raises:
        ValueError: the loader has no batches of indices.
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
