"""The released pose models as MMPose configs: sizes, stock MMPose around them, training step."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmpose.apis import inference_topdown, init_model
from mmpose.registry import DATASETS, MODELS, VISUALIZERS

from pipeline.keypoint_sets import COCO_MPII_AIC_23, MODEL_SETS
from pipeline.openmmlab import read_model_config
from pipeline.poses.mmpose_estimator import build_mmpose_estimator
from pipeline.poses.released_config import ERROR_BRANCH, stock_config
from pipeline.structures import Detections
from tests.train_data import as_other_convention, write_crowd

pytestmark = [pytest.mark.filterwarnings('ignore'), pytest.mark.usefixtures('mmpose_scope')]
STOCK = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_ViTPose-{}_8xb64-210e_coco-256x192.py'
CONFIG_FOLDER = Path(__file__).parents[2] / 'configs' / 'models'
SIZES = {'s': 'small', 'b': 'base', 'l': 'large', 'h': 'huge'}
CONFIGS = {
    'vitpose_b_multi': 'b',
    'maskpose_b_1.0.0': 'b',
    **{f'{model}_{size}': size for model in ('maskpose', 'pmpose') for size in SIZES},
}
ALPHAS = {'vitpose_b_multi': None, 'maskpose_b_1.0.0': 0.2}


@functools.cache
def shipped(name: str) -> Config:
    return read_model_config(str(CONFIG_FOLDER / f'{name}.py'), 'mmpose')


def read(name: str) -> Config:
    return copy.deepcopy(shipped(name))


@functools.cache
def stock(size: str) -> Config:
    return read_model_config(STOCK.format(SIZES[size]), 'mmpose')


def small(name: str) -> Config:
    """The config with a backbone of 2 layers and 48 channels."""
    config = read(name)
    config.model.backbone.update(
        arch=dict(embed_dims=48, num_layers=2, num_heads=4, feedforward_channels=96),
        init_cfg=None,
    )
    if config.model.backbone.get('frozen_stages', -1) > 0:
        config.model.backbone.frozen_stages = 2
    config.model.head.update(in_channels=48, deconv_out_channels=(32, 32))
    return config


@pytest.mark.parametrize('name', CONFIGS)
def test_settings_are_the_published_ones(name: str) -> None:
    size = CONFIGS[name]
    config, base = read(name), stock(size)
    backbone = dict(config.model.backbone)
    depth = config.optim_wrapper.paramwise_cfg.num_layers
    assert backbone.pop('frozen_stages', None) == (depth if name.startswith('pmpose') else None)
    for key in ('init_cfg', '_scope_'):
        backbone.pop(key, None)
    assert backbone == {k: base.model.backbone[k] for k in backbone}
    assert config.optim_wrapper.paramwise_cfg == base.optim_wrapper.paramwise_cfg
    k = 21 if name in ALPHAS else 23
    assert config.model.head.out_channels == k
    steps = {step['type']: step for step in config.test_dataloader.dataset.pipeline}
    assert steps.get('MaskBackground', {}).get('alpha') == ALPHAS.get(name, 0.25)
    info = config.test_dataloader.dataset.metainfo.keypoint_info
    assert [info[i].name for i in range(k)] == list(MODEL_SETS[k].names)
    assert config.model.test_cfg.flip_test
    assert config.train_cfg.max_epochs == 210


def person_image() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (240, 320, 3), dtype=np.uint8), np.array(
        [[40, 30, 120, 220], [150, 20, 300, 200]], np.float32
    )


@pytest.mark.parametrize('name', ['pmpose_b', 'maskpose_b', 'maskpose_b_1.0.0', 'vitpose_b_multi'])
def test_stock_mmpose_runs_the_model_and_gives_its_heat_maps(name: str) -> None:
    config = small(name)
    config.model.test_cfg.output_heatmaps = True
    torch.manual_seed(0)
    model = init_model(config, device='cpu')
    image, boxes = person_image()
    k = config.model.head.out_channels
    results = inference_topdown(model, image, boxes)
    assert len(results) == 2
    for result in results:
        assert result.pred_instances.keypoints.shape == (1, k, 2)
        assert result.pred_fields.heatmaps.shape == (k, 64, 48)
        if name == 'pmpose_b':
            sums = result.pred_fields.heatmaps.flatten(1).sum(1)
            np.testing.assert_allclose(sums, 1, atol=1e-5)
            for field in ('keypoints_probs', 'keypoints_visible', 'keypoints_oks'):
                assert result.pred_instances[field].shape == (1, k)
            visualizer = VISUALIZERS.build({**config.visualizer, 'name': 'released'})
            visualizer.set_dataset_meta(model.dataset_meta)
            drawn = visualizer.add_datasample('image', image, result, draw_gt=False, kpt_thr=0)
            assert (drawn != image).any()


def test_the_expected_oks_decode_is_one_setting() -> None:
    config = small('pmpose_b')
    config.model.head.decoder.decode = 'expected_oks'
    torch.manual_seed(0)
    image, boxes = person_image()
    expected = inference_topdown(init_model(config, device='cpu'), image, boxes)
    torch.manual_seed(0)
    peaks = inference_topdown(init_model(small('pmpose_b'), device='cpu'), image, boxes)
    for a, b in zip(expected, peaks, strict=True):
        assert (a.pred_instances.keypoints != b.pred_instances.keypoints).any()
        # In a normalised map no px weighs more than what lies around it.
        assert (a.pred_instances.keypoints_conf >= b.pred_instances.keypoints_conf - 1e-6).all()


def place_of(file: Path) -> dict[str, Any]:
    return {'data_root': str(file.parent), 'ann_file': file.name, 'data_prefix': {'img': ''}}


@pytest.mark.parametrize('name', ['pmpose_b', 'maskpose_b_1.0.0'])
def test_coco_evaluation_sees_the_first_17_keypoints(name: str, tmp_path: Path) -> None:
    config = small(name)
    file = write_crowd(tmp_path, num_images=1)
    config.test_dataloader.dataset.update(place_of(file))
    config.test_evaluator.ann_file = str(file)
    dataset, model = DATASETS.build(config.test_dataloader.dataset), MODELS.build(config.model)
    evaluator = Evaluator(config.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    samples = model.eval().test_step(pseudo_collate([dataset[i] for i in range(len(dataset))]))
    assert len(samples) == 2
    for sample in samples:
        # The ground truth in the first 17 points, nonsense in the others.
        points = sample.pred_instances.keypoints
        assert points.shape == (1, config.model.head.out_channels, 2)
        points[:, 17:] = 1e6
        points[:, :17] = np.array(sample.raw_ann_info['keypoints']).reshape(-1, 3)[:, :2]
    evaluator.process(samples)
    assert evaluator.evaluate(len(dataset))['coco/AP'] == pytest.approx(1.0)


@pytest.mark.parametrize('name', ['pmpose_b', 'maskpose_b', 'maskpose_b_1.0.0', 'vitpose_b_multi'])
def test_the_training_recipe_makes_a_step(name: str, tmp_path: Path) -> None:
    config = small(name)
    data = config.train_dataloader.dataset
    coco = write_crowd(tmp_path, num_images=1)
    mpii, aic = COCO_MPII_AIC_23.mpii, COCO_MPII_AIC_23.aic
    others = [as_other_convention(coco, m, k) for m, k in ((mpii, 16), (aic, 14))]
    for part, file in zip(data.datasets, (coco, *others), strict=True):
        part.update(place_of(file))
    np.random.seed(0)
    torch.manual_seed(0)
    dataset = DATASETS.build(data)
    assert len(dataset) == 6
    model = MODELS.build(config.model).train()
    batch = [dataset[i] for i in range(len(dataset))]
    inputs = torch.stack([row['inputs'] for row in batch]).float()
    losses = model.loss(inputs, [row['data_samples'] for row in batch])
    total = sum(v for k, v in losses.items() if k.startswith('loss_'))
    assert torch.isfinite(total) and total > 0
    total.backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    frozen = {n for n, p in model.named_parameters() if n.startswith('backbone.')}
    assert bool(trained & frozen) == (name != 'pmpose_b')
    assert trained >= {n for n, _ in model.named_parameters() if n.startswith('head.')}


def test_a_released_config_is_cleaned_and_otherwise_kept() -> None:
    pipeline = [
        dict(type='MaskBackground', alpha=0.25, continue_on_failure=False),
        dict(type='TopdownAffine', input_size=(192, 256), input_padding=1.25, use_udp=True),
    ]
    released = Config(
        dict(
            model=dict(
                type='TopdownPoseEstimator', freeze_backbone=True, head=dict(type='MultiHead')
            ),
            test_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    )
    config = stock_config(released)
    head = dict(type='PMPoseHead', keypoint_score='oks')
    assert config.model == dict(type='TopdownPoseEstimator', head=head)
    dim, cut = config.test_dataloader.dataset.pipeline
    assert dim == dict(type='MaskBackground', alpha=0.25, continue_on_failure=True)
    assert cut == dict(type='TopdownAffine', input_size=(192, 256), use_udp=True)
    assert 'pipeline.poses.pmpose_head' in config.custom_imports['imports']
    assert released.model.freeze_backbone  # the given one is left alone
    pipeline[1]['input_padding'] = 1.5
    with pytest.raises(ValueError, match=r'GetBBoxCenterScale\.padding'):
        stock_config(Config(dict(model={}, test_dataloader=dict(dataset=dict(pipeline=pipeline)))))


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_full_size_weights_load_strictly_and_run(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = str(CONFIG_FOLDER / f'{name}.py')
    config = read(name)
    config.model.backbone.init_cfg = None
    weights = MODELS.build(config.model).state_dict()
    if name.startswith('pmpose'):  # as released: with an error branch
        branch = {k: v for k, v in weights.items() if k.startswith('head.oks_layers.')}
        weights.update({k.replace('head.oks_layers.', ERROR_BRANCH): v for k, v in branch.items()})
    torch.save({'state_dict': weights, 'meta': {}}, tmp_path / 'weights.pth')
    del weights
    estimator = build_mmpose_estimator(path, tmp_path / 'weights.pth')
    (tmp_path / 'weights.pth').unlink()
    image, boxes = person_image()
    poses = estimator(image, Detections.from_boxes(boxes, image.shape[:2]))
    assert poses.keypoints.shape == (2, config.model.head.out_channels, 2)
    assert np.isfinite(poses.keypoints).all()
