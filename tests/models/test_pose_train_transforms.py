"""Blackouts and visibility levels for training PMPose."""

from __future__ import annotations

import numpy as np
import pytest
from mmpose.datasets.transforms import (
    KeypointConverter,
    RandomFlip,
)

from pipeline.poses.train_transforms import (
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
