"""A device or a model that cannot be used is named in one line."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.build import build_pipeline, pick_device
from pipeline.config import ConfigError, load_config
from pipeline.openmmlab import read_model_config
from pipeline.poses.mmpose_estimator import _dataset_meta
from pipeline.weights.manifest import CheckpointError

ROOT = Path(__file__).resolve().parents[2]

OTHERS = ['mps', 'xla', 'hpu', 'ipu', 'vulkan', 'meta', 'lazy', 'cuda:99', 'gpu', '', 'cpu:-2']


@pytest.mark.parametrize('device', OTHERS)
def test_a_device_that_cannot_compute_is_named_in_one_line(device: str) -> None:
    with pytest.raises(ConfigError, match=f'device {device!r} cannot be used here') as raised:
        pick_device(device)
    assert '\n' not in str(raised.value) and len(str(raised.value)) < 250
    assert str(raised.value).endswith('; try auto or cpu')


def test_usable_devices() -> None:
    assert pick_device('cpu') == 'cpu'
    assert pick_device('auto') == ('cuda' if torch.cuda.is_available() else 'cpu')


def test_random_weights_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, 'pipeline'):
        build_pipeline(load_config('bmp_compact', {'pose.checkpoint': None}))
    assert [r.getMessage() for r in caplog.records] == [
        'pose.checkpoint is None: its weights are random'
    ]


@pytest.mark.parametrize(
    'stored', [{'dataset_name': 'x'}, {'keypoint_info': 3}, {'classes': ['person']}], ids=str
)
def test_a_pose_checkpoint_without_keypoints_is_named(stored: dict[str, Any]) -> None:
    config = read_model_config(str(ROOT / 'configs/models/pmpose_b.py'), 'mmpose')
    with pytest.raises(CheckpointError, match=r'pmpose_b.py: the dataset_meta .* no keypoints'):
        _dataset_meta(config, {'dataset_meta': stored})
