"""On an accelerator without mmcv's kernels, every model gives what it gives on a CPU."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmcv.ops
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS, DefaultScope

from pipeline import load_pipeline
from pipeline.config import CONFIG_FOLDER, find_model_config, load_config
from pipeline.detectors.mmdet_detector import build_mmdet_detector
from pipeline.openmmlab import read_model_config
from pipeline.runtime import mmcv_ops
from pipeline.runtime.options import RuntimeOptions
from pipeline.synthetic.scene import SceneConfig, make_scene
from pipeline.training import train_runner
from pipeline.training.launch import read_config
from tests.accelerator import simulated_accelerator
from tests.small_models import small_detector, small_vit
from tests.train_data import ROOT, write_crowd

PIPELINES = sorted(path.stem for path in CONFIG_FOLDER.glob('bmp_*.py'))
SIZES = {f'{stage}.batch_size': 4 for stage in ('pose', 'segmenter')} | {'detector.batch_size': 1}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # The same products on both sides: those of the simulated device are computed without oneDNN.
    monkeypatch.setattr('pipeline.runtime.precision.onednn_is_faster', lambda: False)
    with simulated_accelerator() as name:
        yield name


@pytest.fixture(scope='module')
def image() -> np.ndarray:
    scene = SceneConfig(
        width=240, height=200, min_people=2, max_people=2, overlap=0.2, min_person_height=0.7,
        max_person_height=0.9, truncation=0.0, seed=1,
    )  # fmt: skip
    return make_scene(scene).image


def small_options(name: str, folder: Path) -> dict[str, Any]:
    """Overrides that make the models of a released pipeline small and random."""
    if name == 'bmp_compact':
        return {}
    resolved = load_config(name)
    pose = find_model_config(resolved.settings.pose.config, resolved.path)
    return {
        'detector.config': 'compact/rtmdet-ins_compact.py',
        'detector.checkpoint': None,
        'detector.score_threshold': 0.001,
        'detector.max_people': 2,
        'pose.config': small_vit(pose, folder),
        'pose.checkpoint': None,
        'segmenter.config': 'compact/sam2.1_hiera_compact.yaml',
        'segmenter.checkpoint': None,
        'segmenter.prompt.visibility_threshold': 0.0,
        'segmenter.prompt.min_confident': None,
        'loop.refine_min_side': 10,
    }


def load(name: str, device: str, options: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return load_pipeline(name, {**SIZES, **options, 'runtime.device': device})


@pytest.mark.parametrize('name', PIPELINES)
def test_every_pipeline(name: str, image: np.ndarray, device: str, tmp_path: Path) -> None:
    options = small_options(name, tmp_path)
    boxes = [[30, 20, 110, 190], [100, 10, 200, 195]]
    both = [load(name, place, options) for place in ('cpu', device)]
    expected, found = (run(image, None if name == 'bmp_compact' else boxes) for run in both)
    assert len(found) == len(expected) > 0
    assert found.masks.to_rle() == expected.masks.to_rle()
    for column in ('boxes', 'keypoints', 'keypoint_scores', 'scores', 'mask_scores', 'prompts'):
        # PyTorch has another attention kernel on CPUs, so the last bit of SAM's scores may differ.
        rtol = 1e-6 if 'scores' in column else 0
        np.testing.assert_allclose(getattr(found, column), getattr(expected, column), rtol=rtol)


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_half_precision(precision: str, image: np.ndarray, device: str) -> None:
    options = {'loop.refine': True, 'loop.min_score': 0.2}
    expected = load('bmp_compact', 'cpu', options)(image)
    found = load('bmp_compact', device, {**options, 'runtime.precision': precision})(image)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.scores, expected.scores, atol=0.05)
    assert not np.array_equal(found.keypoints, expected.keypoints)  # it did compute in half


def test_batches_of_images(image: np.ndarray, device: str) -> None:
    images = [image, np.ascontiguousarray(image[:, ::-1]), image[:150]]
    run = load('bmp_compact', device, {'detector.batch_size': 2})
    for one, found in zip(images, run.predict_batch(images), strict=True):
        alone = run(one)
        np.testing.assert_allclose(found.keypoints, alone.keypoints, atol=0.01)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4)


DETECTORS = {
    'boxes': 'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
    'instances': 'mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py',
    'two stages': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'two stages, masks': 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
}


@pytest.mark.parametrize('name', DETECTORS.values(), ids=DETECTORS)
def test_detectors(name: str, image: np.ndarray, device: str, tmp_path: Path) -> None:
    config = small_detector(name, tmp_path)
    results = []
    for place in ('cpu', device):
        torch.manual_seed(0)
        detector = build_mmdet_detector(
            config, None, RuntimeOptions(place), score_threshold=0.0, max_people=5
        )
        for weights_name, weights in detector.model.named_parameters():
            weights.requires_grad_(False).mul_(0.1 if 'reg' in weights_name else 1)  # finite boxes
        results.append(detector(image))
    expected, found = results
    assert len(found) == len(expected) > 0
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.box_scores, expected.box_scores)
    # MMDetection pastes masks of two stages with other code on a CPU: their edges may differ.
    areas = [people.detector_masks.areas for people in results]
    np.testing.assert_allclose(*areas, rtol=0.03 if 'mask-rcnn' in name else 0)
    assert areas[1].any() == ('-ins' in name or 'mask-rcnn' in name)


@pytest.mark.parametrize(
    'options',
    [{}, {'offset': 1}, {'max_num': 3}, {'score_threshold': 0.5}, {'iou_threshold': 0.1}],
    ids=str,
)
@pytest.mark.parametrize('count', [0, 1, 200])
def test_nms_equals_that_of_mmcv(options: dict[str, Any], count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 30
    boxes = torch.cat([corners, corners + torch.rand(count, 2, generator=generator) * 30], 1)
    scores = (torch.rand(count, generator=generator) * 20).round() / 20  # with ties
    arguments = {'iou_threshold': 0.5, **options}
    for ours, stock in zip(
        mmcv_ops.nms(boxes, scores, **arguments),
        mmcv.ops.nms(boxes, scores, **arguments),
        strict=True,
    ):
        assert torch.equal(ours, stock)


@pytest.mark.parametrize('pool_mode', ['avg', 'max'])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align_equals_that_of_mmcv(pool_mode: str, aligned: bool, sampling_ratio: int) -> None:
    features = torch.randn(2, 8, 20, 30)
    rois = torch.tensor([[0, 1.5, 2, 80, 60], [1, 0, 0, 9, 9], [1, 50, 30, 200, 170.3]])
    options = {'sampling_ratio': sampling_ratio, 'aligned': aligned, 'spatial_scale': 1 / 4}
    options['pool_mode'] = pool_mode
    ours, stock = (kind(7, **options) for kind in (mmcv_ops.RoIAlign, mmcv.ops.RoIAlign))
    assert torch.equal(ours(features, rois), stock(features, rois))
    # mmcv reads another memory layout wrongly.
    last = features.to(memory_format=torch.channels_last)
    assert torch.equal(ours(last, rois), stock(features, rois))
    assert not torch.equal(stock(last, rois), stock(features, rois))


def test_two_stages_do_not_depend_on_the_memory_layout(image: np.ndarray, tmp_path: Path) -> None:
    config = small_detector(DETECTORS['two stages'], tmp_path)
    found = []
    for layout in ('channels_last', None):
        torch.manual_seed(0)
        runtime = RuntimeOptions('cpu', memory_format=layout)
        detector = build_mmdet_detector(config, None, runtime, score_threshold=0.0, max_people=5)
        found.append(detector(image))
    np.testing.assert_allclose(found[0].boxes, found[1].boxes, atol=0.01)
    np.testing.assert_allclose(found[0].box_scores, found[1].box_scores, atol=1e-4)


def test_an_operator_without_a_kernel_runs_on_the_cpu() -> None:
    def refuse(boxes: torch.Tensor) -> torch.Tensor:
        if boxes.device.type != 'cpu':
            raise NotImplementedError
        return torch.arange(len(boxes))

    with simulated_accelerator() as device:
        boxes = torch.zeros(3, 4).to(device)
        assert mmcv_ops._run(refuse, boxes).device.type == device


def test_nms_changes_only_where_mmcv_has_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_model_config(DETECTORS['two stages, masks'], 'mmdet').model
    before = copy.deepcopy(config.test_cfg)
    mmcv_ops.use_torchvision_ops(config, 'cpu')
    assert config.test_cfg == before
    # A CUDA device without kernels: also the attention of DINO and Mask2Former.
    attention = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
    monkeypatch.setattr(attention, 'IS_CUDA_AVAILABLE', True)
    monkeypatch.setattr(mmcv_ops, 'has_kernels', lambda device: False)
    mmcv_ops.use_torchvision_ops(config, 'cuda:0')
    assert attention.IS_CUDA_AVAILABLE is False
    assert config.test_cfg.rpn.nms.type is mmcv_ops.nms is config.test_cfg.rcnn.nms.type
    extractors = (config.roi_head.bbox_roi_extractor, config.roi_head.mask_roi_extractor)
    assert all(part.roi_layer.type is mmcv_ops.RoIAlign for part in extractors)


TRAINED = ('detector/rtmdet-ins', 'pose/pmpose', 'pose2seg/sam2.1_cspnext')


@pytest.mark.parametrize('name', TRAINED)
def test_training_steps(
    name: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_crowd(tmp_path, num_images=2)
    path = ROOT / f'configs/{name}_compact_practice.py'
    config, scope = read_config(path, {})
    dataset = config.train_dataloader.dataset
    dataset.update(data_root=str(tmp_path), ann_file='train.json', data_prefix={'img': ''})
    with DefaultScope.overwrite_default_scope(scope):
        data = DATASETS.build(dataset)
        losses = []
        for place in ('cpu', device):
            np.random.seed(0)
            torch.manual_seed(0)
            batch = pseudo_collate([data[0], data[1]])
            torch.manual_seed(0)
            monkeypatch.setattr(train_runner, 'get_device', lambda place=place: place)
            runner = object.__new__(train_runner.TrainRunner)
            model = runner.build_model(config.model).train().to(place)
            if hasattr(model.data_preprocessor, '_device'):
                model.data_preprocessor.to(place)
            wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
            steps = [model.train_step(batch, wrapper) for _ in range(2)]
            losses.append([float(step['loss'].detach()) for step in steps])
            if scope == 'mmdet':  # validation, which runs NMS
                model.eval().val_step(batch)
    assert np.isfinite(losses).all() and losses[0][0] != losses[0][1]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
