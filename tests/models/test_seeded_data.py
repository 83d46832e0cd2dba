"""Random states by place in the training; a small model with dropout through the whole tool."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler, pseudo_collate
from torch.utils.data import BatchSampler, DataLoader

from pipeline.training import seeded_data
from pipeline.training.launch import LaunchOptions, build_runner
from pipeline.training.seeded_data import (
    SeededBatches,
    SeededDataset,
    seed_everything,
    seeded_loader,
)


class Numbers:
    """Items are random, by all three generators; the pipeline says which are drawn."""

    def __init__(self) -> None:
        self.pipeline = 'first'

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        drawn = (random.random(), float(np.random.rand()), float(torch.rand(1)))
        return (index, self.pipeline, *drawn)


def loader(seed: int = 0, workers: int = 0, batch_size: int = 2) -> DataLoader[Any]:
    data = Numbers()
    options = {'batch_size': batch_size, 'num_workers': workers, 'collate_fn': list}
    return seeded_loader(DataLoader(data, sampler=DefaultSampler(data, seed=0), **options), seed)  # type: ignore[arg-type]


def read(loading: DataLoader[Any], epoch: int, skipped: int = 0) -> list[Any]:
    loading.batch_sampler.set_epoch(epoch)
    loading.batch_sampler.begin(epoch, skipped)
    return list(loading)


def test_samples_depend_on_their_place_alone() -> None:
    whole = read(loader(), 3)
    random.random(), np.random.rand(), torch.rand(1)
    assert read(loader(), 3) == whole
    assert read(loader(), 3, skipped=2) == whole[2:]
    assert read(loader(workers=2), 3, skipped=1) == whole[1:]
    drawn = [values for batch in [*whole, *read(loader(), 4)] for _, _, *values in batch]
    assert len({tuple(values) for values in drawn}) == len(drawn) == 14, 'none is drawn twice'
    assert read(loader(seed=1), 3) != whole


@pytest.mark.parametrize('kind', [DefaultSampler, InfiniteSampler])
def test_two_processes_draw_the_samples_of_one(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    data = list(range(8))

    def batches(rank: int, world_size: int, batch_size: int) -> Iterator[Any]:
        for module in ('mmengine.dataset.sampler', 'pipeline.training.seeded_data'):
            monkeypatch.setattr(f'{module}.get_dist_info', lambda: (rank, world_size))
        sampler = kind(data, seed=5)
        return iter(SeededBatches(BatchSampler(sampler, batch_size, False), seed=0))

    one = next(batches(0, 1, 4))
    first, second = next(batches(0, 2, 2)), next(batches(1, 2, 2))
    assert {*first, *second} == {*one}
    assert not {*first} & {*second}


def test_the_data_set_inside_can_be_changed_and_sent() -> None:
    loading = loader()
    loading.dataset.pipeline = 'second'
    assert {name for batch in read(loading, 0) for _, name, *_ in batch} == {'second'}
    copied = pickle.loads(pickle.dumps(SeededDataset(Numbers())))
    assert copied.pipeline == 'first'
    assert len(copied) == 7
    with pytest.raises(AttributeError):
        _ = copied.nothing


class Remembers:
    """A sampler that goes on where it stopped, as MMPose's `MultiSourceSampler` does."""

    def __init__(self) -> None:
        self.start = 0

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[int]:
        self.start += 6
        return iter(range(self.start - 6, self.start))


def test_a_sampler_that_remembers_is_brought_forward() -> None:
    batches = SeededBatches(BatchSampler(Remembers(), 2, False), seed=0)  # type: ignore[arg-type]
    batches.replay(2)
    batches.begin(2, 1)
    assert [[index for index, _ in batch] for batch in batches] == [[14, 15], [16, 17]]


def test_states_differ_by_key() -> None:
    drawn = set()
    for key in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0, 1)]:
        seed_everything(*key)
        drawn.add((random.random(), float(np.random.rand()), float(torch.rand(1))))
    assert len(drawn) == 4
    assert seeded_data.SAMPLE != seeded_data.STEP


TOY = """
default_scope = 'mmengine'
custom_imports = dict(imports=['tests.toy_training'], allow_failed_imports=False)
model = dict(type='ToyModel', dropout=0.5)
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(type='ToyData'),
                        sampler=dict(type='DefaultSampler', shuffle=True))
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01), clip_grad=dict(max_norm=1.0))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=8, by_epoch=False)]
train_cfg = dict({loop})
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))
"""


def toy(folder: Path, name: str, loop: str, **options: Any) -> Any:
    config = folder / 'toy_train.py'
    config.write_text(TOY.format(loop=loop))
    named = {'experiment_name': f'{folder}-{name}-{options}', **options.pop('overrides', {})}
    launch = LaunchOptions(work_dir=folder / name, overrides=named, quiet=True, **options)
    return build_runner(config, launch)


@pytest.mark.parametrize(
    ('loop', 'shorter'),
    [
        pytest.param(
            "type='EpochBasedTrainLoop', max_epochs=2", 'train_cfg.max_epochs', id='epoch'
        ),
        pytest.param('by_epoch=True, max_epochs=2', 'train_cfg.max_epochs', id='as in MMPose'),
        pytest.param("type='IterBasedTrainLoop', max_iters=8", 'train_cfg.max_iters', id='iter'),
    ],
)
def test_four_steps_are_two_and_two(tmp_path: Path, loop: str, shorter: str) -> None:
    """Dropout too; from a checkpoint in the middle of an epoch, and from one between epochs."""
    whole = toy(tmp_path, 'whole', loop)
    whole.train()
    assert whole.iter == 8
    final = {k: v.clone() for k, v in whole.model.state_dict().items()}
    for step in (2, 4, 6):
        checkpoint = tmp_path / 'whole' / f'iter_{step}.pth'
        resumed = toy(tmp_path, f'from_{step}', loop, resume=checkpoint)
        torch.rand(step)
        resumed.train()
        assert resumed.iter == 8
        assert resumed.model.seen[0] == whole.model.seen[step], 'the next batch, not the first'
        for name, value in resumed.model.state_dict().items():
            assert torch.equal(value, final[name]), (step, name)


def test_collate_is_that_of_the_config() -> None:
    stock = DataLoader(Numbers(), batch_size=2, collate_fn=pseudo_collate)  # type: ignore[arg-type]
    assert seeded_loader(stock, 0).collate_fn is pseudo_collate
