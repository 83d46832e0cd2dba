"""Detector masks without arrays of people times pixels: equal to MMDetection's, and bounded."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import CONFIG_FOLDER
from pipeline.detectors import mmdet_detector
from pipeline.detectors.image_steps import build_image_transforms
from pipeline.detectors.mmdet_detector import MMDetDetector, build_mmdet_detector
from pipeline.openmmlab import read_model_config
from tests.largest_tensor import LargestTensor

COMPACT = str(CONFIG_FOLDER / 'compact/rtmdet-ins_compact.py')
WEIGHTS = Path(__file__).parents[2] / 'checkpoints/rtmdet-ins_compact.pth'


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)


def detector_of(limit: int) -> MMDetDetector:
    """The compact detector; so many boxes of any score."""
    detector = build_mmdet_detector(COMPACT, WEIGHTS, score_threshold=0.0001, max_iou=None)
    settings: Any = detector.model
    settings.bbox_head.test_cfg |= {'score_thr': 0.0001, 'max_per_img': limit}
    return detector


@pytest.mark.parametrize('shape', [(150, 210), (333, 97), (900, 640)])
def test_masks_equal_those_of_the_stock_head(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    compact = detector_of(20)(random_image(*shape))
    monkeypatch.setattr(mmdet_detector, 'use_compact_masks', lambda config: None)
    stock = detector_of(20)(random_image(*shape))
    assert len(compact) == len(stock) > 3
    np.testing.assert_array_equal(compact.boxes, stock.boxes)
    np.testing.assert_array_equal(compact.box_scores, stock.box_scores)
    different = [
        (compact.detector_masks.dense(i) != stock.detector_masks.dense(i)).mean()
        for i in range(len(compact))
    ]
    assert max(different) < 2e-4  # pixels whose logit is 0 but for rounding
    assert (stock.detector_masks.areas > 0).any()


def test_branch_of_classes_and_boxes_runs_once_where_it_is_one() -> None:
    head: Any = detector_of(20).model.bbox_head
    stock: Any = super(type(head), head)
    features = tuple(torch.randn(1, 64, side, side) for side in (12, 6, 3))
    runs: list[Any] = []
    for branch in (*head.cls_convs, *head.reg_convs):
        branch[0].register_forward_hook(lambda module, *_: runs.append(module))
    with torch.inference_mode():
        shared, reference = head(features), stock.forward(features)
        assert len(runs) == 3 * 2 + 6 * 2  # hooks of one module count twice
        # As it would be if MMDetection kept two branches.
        head.reg_convs = copy.deepcopy(head.reg_convs)
        for parameter in head.reg_convs.parameters():
            parameter.mul_(1.5)
        apart, expected = head(features), stock.forward(features)
    for one, other in ((shared, reference), (apart, expected)):
        for a, b in zip((*one[:3], one[3:]), (*other[:3], other[3:]), strict=True):
            assert len(a) == len(b)
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(shared[1][0], apart[1][0])


def test_no_tensor_grows_with_the_number_of_people() -> None:
    largest = []
    for people in (4, 60):
        detector = detector_of(people)
        with LargestTensor() as seen:
            found = detector(random_image(1200, 1600))
        assert len(found) == people
        largest.append(seen.numel)
    # The image itself has 5.76 million numbers; 60 masks of its size would be 115 million.
    assert largest[1] <= max(largest[0], 16 * 320 * 320 + 1, 3 * 1200 * 1600)


STEPS = [
    {'type': 'mmdet.LoadImageFromNDArray'},
    {'type': 'Resize', 'scale': (320, 320), 'keep_ratio': True},
    {'type': 'Pad', 'size': (320, 320), 'pad_val': {'img': (114, 114, 114)}},
    {'type': 'PackDetInputs', 'meta_keys': ('img_id', 'ori_shape', 'img_shape', 'scale_factor')},
]


@pytest.mark.parametrize(
    'steps',
    [
        pytest.param(STEPS, id='usual'),
        pytest.param([STEPS[0], {**STEPS[1], 'type': 'mmdet.Resize'}, STEPS[3]], id='no pad'),
        pytest.param([*STEPS[:2], {'type': 'Pad', 'size_divisor': 32}, STEPS[3]], id='divisor'),
        pytest.param([STEPS[0], {'type': 'PackDetInputs'}], id='nothing'),
    ],
)  # fmt: skip
def test_usual_steps_equal_those_of_mmdetection(steps: list[dict[str, Any]]) -> None:
    from mmcv.transforms import Compose

    from pipeline.openmmlab import building_from

    with building_from('mmdet'):
        stock = Compose(steps)
    compact = build_image_transforms(steps)
    assert compact is not None
    for shape in ((150, 210), (500, 90)):
        result, reference = (
            f({'img': random_image(*shape), 'img_id': 0}) for f in (compact, stock)
        )
        assert torch.equal(result['inputs'], reference['inputs'])
        meta, expected = (d['data_samples'].metainfo for d in (result, reference))
        assert meta == {k: v for k, v in expected.items() if k in meta}
        assert {'ori_shape', 'img_shape'} <= set(meta)


@pytest.mark.parametrize(
    'steps',
    [
        pytest.param([STEPS[0], {'type': 'CenterCrop', 'crop_size': (9, 9)}, STEPS[3]], id='crop'),
        pytest.param(STEPS[:3], id='unpacked'),
    ],
)
def test_other_steps_are_left_to_mmdetection(steps: list[dict[str, Any]]) -> None:
    assert build_image_transforms(steps) is None


def test_the_released_detector_needs_no_transforms_of_mmdetection() -> None:
    from mmdet.utils import get_test_pipeline_cfg

    config = read_model_config('mmdet::rtmdet/rtmdet-ins_l_8xb32-300e_coco.py', 'mmdet')
    steps = [s for s in get_test_pipeline_cfg(config) if s['type'] != 'LoadAnnotations']
    assert build_image_transforms(steps) is not None
