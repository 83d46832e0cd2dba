"""A SAM 2 from aligned random weights learns one batch by heart."""

from __future__ import annotations

import pytest

from projects.compact_models.segmenter.alignment import align_attention
from tests.train.test_prompted_sam import data, optimizer_of, raw_batch, tiny  # noqa: F401

pytestmark = pytest.mark.usefixtures('mmengine_scope')


def test_one_batch_can_be_learned_by_heart(data):  # noqa: F811
    model = tiny(
        freeze_image_encoder=False,
        multimask_max_points=0,
        detach_logits=True,
        clicks={'num_corrections': 1, 'gt_prob': 0.0},
        losses={'focal': 5.0, 'dice': 2.0, 'focal_alpha': 0.5},
    ).train()
    align_attention(model.sam)  # random weights ignore prompts for long
    wrapper = optimizer_of(model)
    for group in wrapper.optimizer.param_groups:
        group['lr'], group['weight_decay'] = 1e-3, 0.0
    raw = raw_batch(data, 4)
    for _ in range(100):
        scores = model.train_step(raw, wrapper)
        if scores['iou_first'] > 0.95 and scores['iou_last'] > 0.95:
            return
    raise AssertionError(f'IoU {scores["iou_first"]:.3f}, {scores["iou_last"]:.3f}')
