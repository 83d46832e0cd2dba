"""The shipped configs of SAM fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import (
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
)

from pipeline.training.pose2seg.transforms import TRANSFORMS

pytestmark = pytest.mark.usefixtures('mmengine_scope')

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / 'configs' / 'pose2seg').glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_config_builds_with_random_weights(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = Config.fromfile(str(path))
    config.model.checkpoint = None
    if config.model.config == 'sam2.1_hiera_b+':
        config.model.config = 'sam2.1_hiera_t'  # the same settings in a third of the time
    model = MODELS.build(config.model)
    wrapper = {**config.optim_wrapper, 'type': 'OptimWrapper'}
    paramwise = wrapper.pop('paramwise_cfg', None)
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(wrapper.pop('constructor'))
    built = constructor(wrapper, paramwise)(model)
    trained = sum(p.numel() for g in built.optimizer.param_groups for p in g['params'])
    assert trained == sum(p.numel() for p in model.parameters() if p.requires_grad) > 1e6
    for loader in ('train_dataloader', 'val_dataloader'):
        for step in pipeline_of(config[loader].dataset):
            TRANSFORMS.build(step)


def pipeline_of(dataset):
    while 'pipeline' not in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset['pipeline']


def test_the_published_recipe():
    config = Config.fromfile(str(ROOT / 'configs/pose2seg/sam2.1_hiera_b+_coco_cihp.py'))
    assert config.optim_wrapper.optimizer == {'type': 'AdamW', 'lr': 5e-6, 'weight_decay': 0.1}
    assert config.param_scheduler[0].eta_min_ratio * 5e-6 == pytest.approx(5e-7)
    assert config.optim_wrapper.clip_grad.max_norm == 0.1
    assert config.train_cfg.max_epochs == 15 and config.image_size == 1024
    assert config.model.clicks.num_corrections == 7 and config.model.clicks.gt_prob == 0.1
