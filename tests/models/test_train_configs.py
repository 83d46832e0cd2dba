"""Every shipped training config builds, and its pipelines run on synthetic crowds."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope

from pipeline.keypoint_sets import COCO_MPII_AIC_23
from pipeline.training.config_check import check_custom_keys
from pipeline.training.launch import LaunchOptions, all_problems, apply_options, read_config
from tests.train_data import ROOT, as_other_convention, write_crowd

DETECTORS = sorted((ROOT / 'configs/detector').glob('rtmdet-ins_l_*.py'))
POSES = sorted((ROOT / 'configs/pose').glob('*_b_*.py'))
SMALL = [
    ROOT / 'configs/detector/rtmdet-ins_compact_practice.py',
    ROOT / 'configs/pose/pmpose_compact_practice.py',
    ROOT / 'configs/pose2seg/sam2.1_cspnext_compact_practice.py',
]


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


@pytest.fixture(scope='module')
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_crowd(tmp_path_factory.mktemp('crowd'), num_images=2)
    as_other_convention(path, COCO_MPII_AIC_23.mpii, 16)
    as_other_convention(path, COCO_MPII_AIC_23.aic, 14)
    return path.parent


@pytest.fixture
def opened(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The config of the parameter, inside the scope of its library."""
    config, scope = read_config(request.param, {})
    with DefaultScope.overwrite_default_scope(scope):
        yield copy.deepcopy(config)


def on_crowd(dataset: Any, crowd: Path, name: str = 'train.json') -> Any:
    """Settings of a dataset, with the crowd in the place of its files."""
    return {**dataset, 'data_root': str(crowd), 'ann_file': name, 'data_prefix': {'img': ''}}


def training_set(config: Any, crowd: Path) -> Any:
    """Settings of the training set of a config, on the crowd."""
    dataset = copy.deepcopy(config.train_dataloader.dataset)
    if 'datasets' not in dataset:
        return on_crowd(dataset, crowd)
    files = ('train.json', 'train_16.json', 'train_14.json')
    parts = zip(dataset.datasets, files, strict=True)
    dataset.datasets = [on_crowd(part, crowd, name) for part, name in parts]
    return dataset


def is_absence(problem: str) -> bool:
    """Whether data or weights are missing, which are not shipped."""
    return 'docs/user_guide/datasets.md' in problem or problem.startswith('load_from')


def test_every_config_is_tested() -> None:
    shipped = {*(ROOT / 'configs/detector').glob('*.py'), *(ROOT / 'configs/pose').glob('*.py')}
    assert shipped <= {*DETECTORS, *POSES, *SMALL}


@pytest.mark.parametrize('opened', [*DETECTORS, *POSES, *SMALL], indirect=True, ids=str)
def test_settings_are_right(opened: Any, tmp_path: Path) -> None:
    options = LaunchOptions(work_dir=tmp_path)
    found = [
        *apply_options(opened, ROOT / 'some_train.py', options),
        *all_problems(opened, opened.default_scope),
    ]
    assert [problem for problem in found if not is_absence(problem)] == []


@pytest.mark.parametrize('opened', DETECTORS, indirect=True, ids=names(DETECTORS))
def test_detector_pipelines_give_people(opened: Any, crowd: Path) -> None:
    data = DATASETS.build(training_set(opened, crowd))
    second = next(h for h in opened.custom_hooks if h['type'] == 'PipelineSwitchHook')
    steps = [step['type'] for step in second['switch_pipeline']]
    assert 'RemoveRandomInstances' not in steps
    assert [s['type'] for s in opened.train_pipeline].count('RemoveRandomInstances') == 1
    np.random.seed(0)
    for stage in (opened.train_pipeline, second['switch_pipeline']):
        data.pipeline = Compose(stage)
        samples = [data[i % 2] for i in range(6)]
        assert all(s['inputs'].shape == (3, 640, 640) for s in samples)
        assert sum(len(s['data_samples'].gt_instances) for s in samples) > 0


@pytest.mark.parametrize('opened', [*DETECTORS, *POSES], indirect=True, ids=str)
def test_validation_data_can_be_read(opened: Any, crowd: Path) -> None:
    data = DATASETS.build(on_crowd(opened.val_dataloader.dataset, crowd))
    sample = data[0]['data_samples']
    if opened.default_scope == 'mmpose':
        # The model's points, of which the first 17 are labelled.
        assert len(data.metainfo['sigmas']) == opened.model.head.out_channels
        assert len(sample.metainfo['flip_indices']) == opened.model.head.out_channels
    else:
        assert len(data.metainfo['classes']) == opened.model.bbox_head.num_classes


@pytest.mark.parametrize('opened', DETECTORS, indirect=True, ids=names(DETECTORS))
def test_detector_model_is_the_released_one(opened: Any) -> None:
    with torch.device('meta'):
        model = MODELS.build(opened.model)
    classes = len(opened.train_dataloader.dataset.get('metainfo', {}).get('classes', range(80)))
    assert model.bbox_head.num_classes == classes
    assert model.bbox_head.rtm_cls[0].out_channels == classes
    check_custom_keys(opened, [name for name, _ in model.named_parameters()])


def test_80_classes_paint_people_only() -> None:
    config, _ = read_config(ROOT / 'configs/detector/rtmdet-ins_l_insmask_80class.py', {})
    assert config.removal['labels'] == (0,)
    assert config.train_pipeline[2] == config.removal
    assert 'classes' not in config.train_dataloader.dataset.get('metainfo', {})


def small(config: Any) -> Any:
    """The pose model with a backbone of 2 layers of 24 channels."""
    config.model.backbone.update(
        arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
    )
    config.model.head.update(in_channels=24, deconv_out_channels=(16, 16))
    config.optim_wrapper.paramwise_cfg.num_layers = 2
    return config


def pose_batch(config: Any, crowd: Path, count: int = 6) -> Any:
    data = DATASETS.build(training_set(config, crowd))
    np.random.seed(0)
    spread = np.linspace(0, len(data) - 1, count).astype(int)
    return pseudo_collate([data[int(i)] for i in spread])


@pytest.mark.parametrize('opened', POSES, indirect=True, ids=names(POSES))
def test_pose_step(opened: Any, crowd: Path) -> None:
    """One real step: finite losses, gradients where they should be, frozen weights bit-equal."""
    from mmengine.optim import build_optim_wrapper

    config = small(opened)
    batch = pose_batch(config, crowd)
    points = config.model.head.out_channels
    assert points == (23 if 'datasets' in config.train_dataloader.dataset else 17)
    target = batch['data_samples'][0].gt_fields.heatmaps
    assert target.shape == (points, 64, 48)
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    model.init_weights()
    check_custom_keys(config, [name for name, _ in model.named_parameters()])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    losses = model.train_step(batch, wrapper)
    assert all(torch.isfinite(value).all() for value in losses.values())
    moved = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    frozen = {name for name in before if name.startswith('backbone.')}
    assert bool(moved & frozen) is not config.model.freeze_backbone
    if config.model.type == 'FreezableTopdownPoseEstimator' and config.model.freeze_backbone:
        assert not any(module.training for module in model.backbone.modules())
    branches = ['deconv_layers', 'final_layer']
    if config.model.head.type == 'PMPoseHead':
        branches += ['probability_layers', 'visibility_layers', 'oks_layers']
    for branch in branches:
        assert any(name.startswith(f'head.{branch}') for name in moved), branch


@pytest.mark.parametrize('name', ['maskpose_b_coco_mpii_aic', 'pmpose_b_coco_mpii_aic'])
def test_points_of_each_data_set_have_targets(crowd: Path, name: str) -> None:
    config, scope = read_config(ROOT / f'configs/pose/{name}.py', {})
    with DefaultScope.overwrite_default_scope(scope):
        data = DATASETS.build(training_set(config, crowd))
        np.random.seed(1)
        third = len(data) // 3
        seen = []
        for start in (0, third, 2 * third):
            samples = [data[start + i]['data_samples'] for i in range(third) for _ in range(3)]
            weights = np.concatenate([s.gt_instance_labels.keypoint_weights for s in samples])
            seen.append({int(k) for k in np.flatnonzero((weights > 0).any(axis=0))})
    coco, mpii, aic = seen
    assert max(coco) == 16
    assert {17, 18, 19, 20} <= mpii
    assert not mpii & {0, 1, 2, 3, 4, 21, 22}
    assert {21, 22} <= aic
    assert not aic & {0, 1, 2, 3, 4, 17, 18, 19, 20}


def test_images_are_drawn_in_the_configured_ratio(crowd: Path) -> None:
    from mmengine.runner import Runner

    config, scope = read_config(ROOT / 'configs/pose/maskpose_b_coco_mpii_aic.py', {})
    with DefaultScope.overwrite_default_scope(scope):
        loader = copy.deepcopy(config.train_dataloader)
        loader.dataset = training_set(config, crowd)
        loader.update(batch_size=8, num_workers=0, persistent_workers=False)
        loader.sampler.update(batch_size=8, source_ratio=[2, 1, 1])
        built = Runner.build_dataloader(loader, seed=0)
    third = len(built.dataset) // 3
    sources = [[i // third for i in indices] for indices in built.batch_sampler]
    assert sources[0].count(0) == 4
    assert sources[0].count(1) == sources[0].count(2) == 2
