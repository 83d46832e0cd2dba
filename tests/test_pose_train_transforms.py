"""Blackouts and visibility levels for training PMPose."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('mmpose', reason='they are MMPose transforms')

import torch
from mmpose.datasets.transforms import (
    GenerateTarget,
    GetBBoxCenterScale,
    KeypointConverter,
    PackPoseInputs,
    RandomFlip,
    TopdownAffine,
)

from pipeline.poses.pmpose_losses import collect_targets
from pipeline.poses.train_transforms import (
    CutByPhotoEdge,
    KeepVisibilityLevels,
    RandomEdgesBlackout,
    RandomPatchesBlackout,
)


def sample() -> dict:
    return {
        'img': np.full((240, 320, 3), 200, np.uint8),
        'bbox_center': np.array([[160.0, 120.0]]),
        'bbox_scale': np.array([[80.0, 100.0]]),
    }


def test_edges_cut_into_the_window_from_one_side_at_least() -> None:
    cut = RandomEdgesBlackout(prob=1.0, ratio=(0.1, 0.3), context=1.5)
    for seed in range(20):
        np.random.seed(seed)
        image = cut(sample())['img'][..., 0]
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        kept = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert (image[rows[0] : kept[3], columns[0] : kept[2]] == 200).all()  # one rectangle
        # The window is 120 x 150 px around (160, 120): x 100-220, y 45-195.
        limits = [(112, 136), (60, 90), (184, 208), (150, 180)]
        untouched = [0, 0, 320, 240]
        moved = [k != u for k, u in zip(kept, untouched, strict=True)]
        assert any(moved)
        for k, m, (low, high) in zip(kept, moved, limits, strict=True):
            assert not m or low <= k <= high


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
    ('side', 'black', 'box'),
    [
        (0, np.s_[120:], [100, 40, 160, 120]),
        (1, np.s_[:, :130], [130, 40, 160, 200]),
        (2, np.s_[:, 130:], [100, 40, 130, 200]),
        (3, np.s_[:120], [100, 120, 160, 200]),
    ],
    ids=['below', 'left', 'right', 'above'],
)
def test_a_cut_ends_photo_and_box_at_the_same_line(side: int, black: object, box: list) -> None:
    cut = CutByPhotoEdge(prob=1.0, kept=(0.5, 0.5), sides=tuple(np.eye(4)[side]), min_keypoints=0)
    before = standing()
    after = cut(before)
    expected = np.full((240, 320, 3), 200, np.uint8)
    expected[black] = 0
    assert (after['img'] == expected).all()
    assert after['bbox'].tolist() == [box]


def test_keypoints_beyond_the_cut_are_absent_not_unlabelled() -> None:
    cut = CutByPhotoEdge(prob=1.0, kept=(0.5, 0.5), sides=(1, 0, 0, 0))
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
    cut = CutByPhotoEdge(prob=1.0, kept=(0.1, 0.1), sides=(1, 0, 0, 0), min_keypoints=4)
    after = cut(standing())
    assert (after['img'] == 200).all()
    assert after['bbox'].tolist() == [[100, 40, 160, 200]]
    assert (after['keypoints_visible'] == 1).all()


def test_patches_are_cells_of_the_grid() -> None:
    np.random.seed(0)
    image = RandomPatchesBlackout(prob=1.0, grid=(8, 6), ratio=0.5)(
        {'img': np.full((256, 192, 3), 200, np.uint8)}
    )['img']
    cells = image[..., 0].reshape(8, 32, 6, 32)
    painted = cells[:, 0, :, 0] == 0
    assert (cells == np.where(painted, 0, 200)[:, None, :, None]).all()
    assert 0.2 < painted.mean() < 0.8


@pytest.mark.parametrize('kind', [RandomEdgesBlackout, RandomPatchesBlackout])
def test_probability_zero_changes_nothing(kind: type) -> None:
    image = kind(prob=0.0)(sample())['img']
    assert (image == 200).all()


@pytest.mark.parametrize(
    ('kind', 'kwargs'),
    [
        (RandomEdgesBlackout, {'prob': 1.5}),
        (RandomEdgesBlackout, {'ratio': (0.3, 0.1)}),
        (RandomEdgesBlackout, {'context': 0}),
        (CutByPhotoEdge, {'prob': -0.1}),
        (CutByPhotoEdge, {'kept': (0.9, 0.3)}),
        (CutByPhotoEdge, {'sides': (0, 0, 0, 0)}),
        (RandomPatchesBlackout, {'ratio': -0.1}),
        (RandomPatchesBlackout, {'grid': (0, 6)}),
    ],
)
def test_settings_out_of_range_are_refused(kind: type, kwargs: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        kind(**kwargs)


def test_visibility_levels_survive_flip_and_converter() -> None:
    levels = np.array([2, 1, 0, 2, 1, *[0] * 12], np.float32)
    results = {
        **sample(),
        'img_shape': (240, 320),
        'keypoints': np.zeros((1, 17, 2), np.float32),
        'keypoints_visible': levels.clip(max=1)[None],
        'raw_ann_info': {'keypoints': np.stack([levels] * 3, axis=1).ravel().tolist()},
        'flip_indices': [0, 2, 1, 4, 3, *range(5, 17)],
    }
    results = KeepVisibilityLevels()(results)
    results = KeypointConverter(17, [(i, i) for i in range(17)])(results)
    results = RandomFlip(prob=1.0)(results)
    visible = results['keypoints_visible']
    visible = visible[..., 0] if visible.ndim == 3 else visible
    assert visible[0, :5].tolist() == [2, 0, 1, 1, 2]
