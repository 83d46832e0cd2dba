"""The compact detector's backbone and neck as the trunk of SAM 2's image encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.openmmlab import build_model, read_model_config
from pipeline.segmenters.build_sam2 import build_sam2_model
from pipeline.segmenters.cspnext_trunk import CSPNeXtTrunk
from pipeline.weights.manifest import CheckpointError
from projects.compact_models.segmenter.detector_trunk import load_detector_trunk
from projects.compact_models.segmenter.model import CompactSam

ROOT = Path(__file__).parents[3]
COMPACT = ROOT / 'configs' / 'compact'
DETECTOR = ROOT / 'checkpoints' / 'rtmdet-ins_compact.pth'
SIZES = {'deepen_factor': 0.33, 'widen_factor': 0.25, 'neck_channels': 64}


def detector():
    config = read_model_config(str(COMPACT / 'rtmdet-ins_compact.py'), 'mmdet')
    return build_model(config, DETECTOR, 'mmdet')[0]


@torch.no_grad()
def test_the_trunk_sees_in_rgb_what_the_detector_sees_in_bgr():
    trunk = CSPNeXtTrunk(**SIZES).eval()
    load_detector_trunk(trunk, DETECTOR)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    finest, *levels = trunk(images)
    assert finest.shape == (2, 32, 16, 24)
    expected = detector().extract_feat(images.flip(1))
    for level, same in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, same, atol=1e-5, rtol=1e-5)
    assert (finest - trunk(images.flip(1))[0]).abs().max() > 0.1


def test_a_sam_starts_from_the_detector_and_the_rest_stays_random():
    def model(**settings):
        torch.manual_seed(0)
        config = str(COMPACT / 'sam2.1_cspnext_compact.yaml')
        return CompactSam(config, image_size=64, **settings).sam.state_dict()

    plain, started = model(), model(trunk_checkpoint='rtmdet-ins_compact')
    trunk = CSPNeXtTrunk(**SIZES)
    load_detector_trunk(trunk, DETECTOR)
    trunk_state = {
        f'image_encoder.trunk.{name}': value for name, value in trunk.state_dict().items()
    }
    for name, value in started.items():
        assert torch.equal(value, trunk_state.get(name, plain[name])), name
    assert any(not torch.equal(value, plain[name]) for name, value in trunk_state.items())


def hiera():
    config = COMPACT / 'sam2.1_hiera_compact.yaml'
    return build_sam2_model(config, None, 'cpu', image_size=64).image_encoder.trunk


@pytest.mark.parametrize(
    ('trunk', 'checkpoint', 'error', 'message'),
    [
        (hiera, DETECTOR, ValueError, 'only a CSPNeXtTrunk can start .* this is a Hiera'),
        (
            lambda: CSPNeXtTrunk(**SIZES),
            ROOT / 'checkpoints' / 'vitpose_compact.pth',
            CheckpointError,
            'holds no RTMDet',
        ),
        (
            lambda: CSPNeXtTrunk(**{**SIZES, 'widen_factor': 0.125}),
            DETECTOR,
            CheckpointError,
            'does not fit the config',
        ),
    ],
)
def test_what_does_not_fit_is_refused(trunk, checkpoint, error, message):
    with pytest.raises(error, match=message):
        load_detector_trunk(trunk(), checkpoint)
