"""Training of the compact pose model: data preparation, schedule by the clock, plain weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub

from projects.compact_models.tools import prepare_compact_pose_data as prepare
from projects.compact_models.training.plain_weights_hook import PlainWeightsHook
from projects.compact_models.training.time_budget_hook import TimeBudgetHook


def image_with_dots(points: np.ndarray) -> np.ndarray:
    image = np.zeros((240, 320, 3), np.uint8)
    for x, y in points.astype(int):
        image[y, x] = 255
    return image


def write_dataset(folder: Path, points: np.ndarray) -> Path:
    """Two people: one for training with a mask, one for validation."""
    import pycocotools.mask as pycocotools_mask

    (folder / 'images').mkdir(parents=True)
    mask = np.zeros((240, 320), np.uint8)
    mask[40:200, 100:160] = 1
    rle = pycocotools_mask.encode(np.asfortranarray(mask))
    keypoints = np.concatenate([points, np.full((17, 1), 2.0)], axis=1)
    keypoints[16] = 0
    annotations, images = [], []
    for i, subset in enumerate(('train', 'val'), start=1):
        name = f'images/{i}.png'
        cv2.imwrite(str(folder / name), image_with_dots(points))
        images.append({'id': i, 'file_name': name, 'width': 320, 'height': 240, 'subset': subset})
        annotations.append(
            {
                'id': 10 * i, 'image_id': i, 'category_id': 1, 'iscrowd': 0, 'area': 9600,
                'bbox': [100, 40, 60, 160], 'has_keypoints': True, 'num_keypoints': 16,
                'keypoints': keypoints.ravel().tolist(), 'has_mask': True,
                'segmentation': {'size': [240, 320], 'counts': rle['counts'].decode('ascii')},
            }
        )  # fmt: skip
    data = {'images': images, 'annotations': annotations, 'categories': [{'id': 1}]}
    (folder / 'annotations.json').write_text(json.dumps(data))
    return folder / 'annotations.json'


def test_prepared_crops_show_the_key_points_where_they_are_said_to_be(tmp_path: Path) -> None:
    points = np.random.default_rng(0).integers([102, 42], [158, 198], (17, 2)).astype(float)
    source = write_dataset(tmp_path / 'data', points)
    out = tmp_path / 'out'
    arguments = ['--annotations', str(source), '--images', str(source.parent), '--out', str(out)]
    assert prepare.main(arguments) == 0
    train = json.loads((out / 'train.json').read_text())
    (annotation,) = train['annotations']
    crop = cv2.imread(str(out / train['images'][0]['file_name']))
    keypoints = np.array(annotation['keypoints']).reshape(17, 3)
    assert annotation['num_keypoints'] == 16
    assert keypoints[16].tolist() == [0, 0, 0]
    for x, y, _ in keypoints[:16]:
        assert crop[round(y), round(x)].max() > 50
    height, width = annotation['segmentation']['size']
    assert (height, width) == crop.shape[:2]
    validation = json.loads((out / 'val.json').read_text())
    assert [a['bbox'] for a in validation['annotations']] == [[100, 40, 60, 160]]


def test_large_people_are_stored_smaller() -> None:
    box = np.array([0.0, 0.0, 300.0, 800.0])
    window = prepare.plan_crop(box, (2000, 1000), context=1.7, input_height=256)
    assert window.scale == pytest.approx(256 / 1000)
    assert (window.x1, window.y1) == (0, 0)
    annotation = {
        'id': 1, 'category_id': 1, 'bbox': [0, 0, 300, 800], 'area': 1000,
        'keypoints': [99.5, 199.5, 2] * 17,
    }  # fmt: skip
    moved = prepare.move_annotation(annotation, window)
    assert moved['bbox'] == pytest.approx([0, 0, 76.8, 204.8])
    assert moved['keypoints'][:2] == pytest.approx([25.1, 50.7])


def fake_runner(hub: str) -> Any:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.5)
    return SimpleNamespace(
        iter=1000,
        message_hub=MessageHub.get_instance(hub),
        optim_wrapper=SimpleNamespace(optimizer=optimiser),
        train_loop=SimpleNamespace(stop_training=False),
    )


@pytest.mark.parametrize(
    ('iteration', 'elapsed', 'expected'),
    [
        pytest.param(0, 0.0, 0.01, id='first step'),
        pytest.param(99, 0.0, 1.0, id='warm'),
        pytest.param(500, 30.0, 0.5, id='half of the time'),
        pytest.param(500, 60.0, 0.0, id='end'),
        pytest.param(500, 90.0, 0.0, id='late'),
    ],
)
def test_learning_rate_follows_the_clock(iteration: int, elapsed: float, expected: float) -> None:
    hook = TimeBudgetHook(minutes=1, warmup_iters=100)
    assert hook.factor(iteration, elapsed) == pytest.approx(expected, abs=1e-9)


def test_a_resumed_run_goes_on_with_the_time_that_is_left() -> None:
    runner = fake_runner('budget resumed')
    runner.message_hub.update_info('time_budget_used', 30.0)
    hook = TimeBudgetHook(minutes=1, warmup_iters=1)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    assert runner.optim_wrapper.optimizer.param_groups[0]['lr'] == pytest.approx(0.25, abs=0.01)
    hook.after_train_iter(runner, 0)
    assert not runner.train_loop.stop_training


def test_training_stops_when_the_time_is_over() -> None:
    runner = fake_runner('budget over')
    runner.message_hub.update_info('time_budget_used', 61.0)
    hook = TimeBudgetHook(minutes=1)
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    assert runner.train_loop.stop_training


def test_a_budget_must_be_positive() -> None:
    with pytest.raises(ValueError, match='positive'):
        TimeBudgetHook(minutes=0)


def test_plain_weights_can_be_read_without_trust(tmp_path: Path) -> None:
    meta = {'sigmas': np.ones(2, np.float32), 'names': {0: 'nose'}, 'pairs': {(0, 1)}, 'n': 17}
    checkpoint = {
        'state_dict': {'w': torch.arange(3.0)},
        'meta': {'dataset_meta': meta, 'cfg': object()},
        'optimizer': object(),
    }
    PlainWeightsHook().before_save_checkpoint(SimpleNamespace(work_dir=tmp_path), checkpoint)
    content = torch.load(tmp_path / 'weights.pth', weights_only=True)
    assert content['state_dict']['w'].tolist() == [0, 1, 2]
    expected = {'sigmas': [1, 1], 'names': {0: 'nose'}, 'pairs': [[0, 1]], 'n': 17}
    assert content['meta'] == {'dataset_meta': expected}
