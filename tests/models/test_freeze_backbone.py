"""A frozen backbone: bit-equal after steps, in evaluation mode, without activations to keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmpose.registry import MODELS

from pipeline.poses import freezable_estimator  # noqa: F401 (fills the registry)

pytestmark = pytest.mark.usefixtures('mmpose_scope')


def build(freeze: bool) -> Any:
    torch.manual_seed(0)
    return MODELS.build({
        'type': 'FreezableTopdownPoseEstimator',
        'freeze_backbone': freeze,
        'backbone': {
            'type': 'ConvStemViT', 'img_size': (64, 48), 'stem_channels': (4, 4, 8),
            'embed_dims': 16, 'depth': 1, 'num_heads': 2,
        },
        'head': {
            'type': 'HeatmapHead', 'in_channels': 16, 'out_channels': 3,
            'deconv_out_channels': None,
        },
    })  # fmt: skip


def steps(model: Any, count: int = 3) -> set[str]:
    """Names of what changed, batch statistics included, after steps of a made-up loss."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5
    )
    model.train()
    for _ in range(count):
        features = model.extract_feat(torch.randn(2, 3, 64, 48))
        optimiser.zero_grad()
        model.head.forward(features).square().mean().backward()
        optimiser.step()
    after = model.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_only_a_frozen_backbone_is_bit_equal_after_steps() -> None:
    changed = steps(build(freeze=True))
    assert changed and all(name.startswith('head.') for name in changed)
    changed = steps(build(freeze=False))
    assert any(name.startswith('backbone.stem') and 'running_mean' in name for name in changed)
    assert any(name.startswith('backbone.layers') for name in changed)


def test_no_gradient_is_kept_for_a_frozen_backbone() -> None:
    crops = torch.randn(1, 3, 64, 48)
    assert not build(freeze=True).train().extract_feat(crops)[0].requires_grad
    assert build(freeze=False).train().extract_feat(crops)[0].requires_grad
    with torch.no_grad():
        assert not build(freeze=False).extract_feat(crops)[0].requires_grad
