"""Images that end in a person, for training the compact pose model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmpose.datasets.transforms import (
    GenerateTarget,
    GetBBoxCenterScale,
    PackPoseInputs,
    TopdownAffine,
)

from pipeline.poses.pmpose_losses import collect_targets
from projects.compact_models.pose.cut_by_image_edge import CutByImageEdge

pytestmark = pytest.mark.usefixtures('mmpose_scope')


@pytest.mark.parametrize(
    ('side', 'black', 'box'),
    [
        (0, np.s_[120:], [100, 40, 160, 120]),
        (1, np.s_[:, :130], [130, 40, 160, 200]),
        (2, np.s_[:, 130:], [100, 40, 130, 200]),
        (3, np.s_[:120], [100, 120, 160, 200]),
    ],
    ids=['below', 'left', 'right', 'above'],
)
def test_a_cut_ends_image_and_box_at_the_same_line(side: int, black: object, box: list) -> None:
    cut = CutByImageEdge(prob=1.0, kept=(0.5, 0.5), sides=tuple(np.eye(4)[side]), min_keypoints=0)
    before = standing()
    after = cut(before)
    expected = np.full((240, 320, 3), 200, np.uint8)
    expected[black] = 0
    assert (after['img'] == expected).all()
    assert after['bbox'].tolist() == [box]


def test_keypoints_beyond_the_cut_are_absent_not_unlabelled() -> None:
    cut = CutByImageEdge(prob=1.0, kept=(0.5, 0.5), sides=(1, 0, 0, 0))
    input_size, heatmap_size = (144, 192), (36, 48)
    codec = {
        'type': 'UDPHeatmap', 'input_size': input_size, 'heatmap_size': heatmap_size, 'sigma': 1.5
    }  # fmt: skip
    results = cut(standing())
    for step in (
        GetBBoxCenterScale(),
        TopdownAffine(input_size=input_size, use_udp=True),
        GenerateTarget(encoder=codec),
        PackPoseInputs(
            pack_transformed=True,
            meta_keys=('input_size', 'input_scale', 'flip_indices', 'raw_ann_info'),
        ),
    ):
        results = step(results)
    targets = collect_targets([results['data_samples']], torch.device('cpu'))
    is_above = standing()['keypoints'][0, :, 1] < 120
    assert targets.annotated.all()
    assert targets.present[0].bool().tolist() == is_above.tolist()
    weights = results['data_samples'].gt_instance_labels.keypoint_weights[0]
    assert (weights[~is_above] == 0).all()
    assert (weights[is_above] > 0).sum() >= is_above.sum() - 1  # one may lie on the edge


def test_who_would_lose_too_many_keypoints_stays_whole() -> None:
    cut = CutByImageEdge(prob=1.0, kept=(0.1, 0.1), sides=(1, 0, 0, 0), min_keypoints=4)
    after = cut(standing())
    assert (after['img'] == 200).all()
    assert after['bbox'].tolist() == [[100, 40, 160, 200]]
    assert (after['keypoints_visible'] == 1).all()


def standing() -> dict:
    """A person of 60 x 160 px at (100, 40) whose 17 keypoints go down the middle."""
    points = np.stack([np.full(17, 130.0), np.linspace(45, 195, 17)], 1).astype(np.float32)
    return {
        'img': np.full((240, 320, 3), 200, np.uint8),
        'bbox': np.array([[100, 40, 160, 200]], np.float32),
        'keypoints': points[None],
        'keypoints_visible': np.ones((1, 17), np.float32),
        'raw_ann_info': {'keypoints': np.c_[points, np.full(17, 2)].ravel().tolist()},
        'flip_indices': list(range(17)),
    }


@pytest.mark.parametrize(
    'settings', [{'prob': -0.1}, {'kept': (0.9, 0.3)}, {'sides': (0, 0, 0, 0)}], ids=str
)
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        CutByImageEdge(**settings)
