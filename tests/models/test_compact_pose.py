"""The compact pose model: config and backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmpose.apis import inference_topdown, init_model

from pipeline.poses.conv_stem_vit import ConvStemViT

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures('mmpose_scope')


@pytest.fixture(scope='module')
def model() -> Any:
    torch.manual_seed(0)
    return init_model(str(ROOT / 'configs/compact/vitpose_compact.py'), device='cpu')


@pytest.mark.filterwarnings('ignore')
def test_config_gives_a_model_that_runs_in_mmpose(model: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    boxes = np.array([[10, 10, 60, 110], [50, 20, 150, 80]], np.float32)
    results = inference_topdown(model, image, boxes)
    assert len(results) == 2
    predictions = results[0].pred_instances
    assert predictions.keypoints.shape == (1, 17, 2)
    for name in ('keypoint_scores', 'keypoints_visible', 'keypoints_probs', 'keypoints_oks'):
        values = predictions[name]
        assert values.shape == (1, 17), name
        assert ((values >= 0) & (values <= 1)).all(), name
    np.testing.assert_array_equal(predictions.keypoint_scores, predictions.keypoints_oks)


def test_compact_weights_fit_16_mib_in_half_precision(model: Any) -> None:
    assert sum(p.numel() for p in model.parameters()) * 2 < 16 * 2**20


@pytest.mark.parametrize('kwargs', [{'img_size': (190, 144)}, {'embed_dims': 130}])
def test_backbone_refuses_sizes_that_do_not_divide(kwargs: Any) -> None:
    with pytest.raises(ValueError, match='multiple'):
        ConvStemViT(**kwargs)


def test_backbone_gives_one_map_at_a_sixteenth() -> None:
    backbone = ConvStemViT(img_size=(64, 48), stem_channels=(4, 4, 8), embed_dims=16, depth=1)
    (feature,) = backbone(torch.randn(2, 3, 64, 48))
    assert feature.shape == (2, 16, 4, 3)
