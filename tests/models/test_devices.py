"""A device or a model that cannot be used is named in one line."""

from __future__ import annotations

import logging

import pytest
import torch

from pipeline.build import build_pipeline, pick_device
from pipeline.config import ConfigError, load_config

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
