"""The documented commands of detector and pose model, on synthetic images and for a few steps.

Those of the segmenter are in `test_compact_sam.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import train
from pipeline.config import CONFIG_FOLDER
from pipeline.openmmlab import build_model, read_model_config
from projects.compact_models.tools import (
    find_pseudo_boxes,
    prepare_box_data,
    prepare_compact_data,
    prepare_compact_pose_data,
)
from tests.train_data import write_crowd

pytestmark = pytest.mark.usefixtures('one_thread')

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / 'projects/compact_models/configs'
COMPACT = CONFIG_FOLDER / 'compact'
STEPS = [
    'train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=2',
    'default_hooks.checkpoint.interval=2',
]  # fmt: skip


@pytest.fixture(scope='module')
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images with two people each, in the format of the project's data."""
    folder = tmp_path_factory.mktemp('people')
    path = write_crowd(folder, name='annotations')
    content = json.loads(path.read_text())
    for image in content['images']:
        subset = 'val' if image['id'] > 4 else 'train'
        image |= {'source': 'synthetic', 'fully_annotated': True, 'subset': subset}
    for row in content['annotations']:
        row |= {'has_mask': True, 'has_keypoints': True}
    path.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope='module')
def detector_data(people: Path) -> Path:
    out = people / 'detector'
    prepare_compact_data.main([str(people), str(out)])
    return out


def trained(config: str, work_dir: Path, *options: str) -> Path:
    arguments = [str(CONFIGS / config), '--work-dir', str(work_dir), '--cfg-options']
    assert train.main([*arguments, *STEPS, *options]) == 0
    return work_dir / 'weights.pth'


def load(config: str, weights: Path, scope: str) -> Any:
    """The embedded model with new weights; raises if a name or a shape differs."""
    return build_model(read_model_config(str(COMPACT / config), scope), weights, scope)


def test_detector(detector_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('COMPACT_DETECTOR_DATA', str(detector_data))
    load('rtmdet-ins_compact.py', trained('rtmdet-ins_compact_train.py', tmp_path), 'mmdet')


def test_pose(
    people: Path, detector_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations = str(people / 'annotations.json')
    crops, found, pairs = (tmp_path / name for name in ('crops', 'found.json', 'pairs.json'))
    arguments = ['--annotations', annotations, '--images', str(people), '--out', str(crops)]
    assert prepare_compact_pose_data.main(arguments) == 0
    monkeypatch.setenv('COMPACT_POSE_DATA', str(crops))
    monkeypatch.setenv('COMPACT_POSE_IMAGES', f'{people}/')
    weights = trained('vitpose_compact_train.py', tmp_path / 'pose')
    find_pseudo_boxes.main([
        str(detector_data), str(found), '--file', 'train.json', '--size', '448',
        '--config', str(COMPACT / 'rtmdet-ins_compact.py'), '--min-score', '0.08',
        '--checkpoint', str(ROOT / 'checkpoints/rtmdet-ins_compact.pth'),
    ])  # fmt: skip
    prepare_box_data.main([
        str(detector_data), str(found), str(pairs), '--keypoints', annotations,
        '--others-per-image', '2', '--max-iou', '0.5',
    ])  # fmt: skip
    monkeypatch.setenv('COMPACT_DETECTOR_DATA', str(detector_data))
    monkeypatch.setenv('COMPACT_BOX_DATA', str(pairs))
    with_boxes = trained('vitpose_compact_boxes.py', tmp_path / 'boxes', f'load_from={weights}')
    load('vitpose_compact.py', with_boxes, 'mmpose')
