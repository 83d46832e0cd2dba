"""Losses and targets of the box branch of `PMPoseBoxHead`.

Legend: B crops, h x w = upsampled feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from mmpose.structures.bbox import bbox_overlaps
from torch import Tensor
from torch.nn import functional

from pipeline.poses.box_branch import BoxOutputs

BLUR = 1.0  # columns or rows; standard deviation of the target distribution


def box_losses(
    outputs: BoxOutputs, boxes: Tensor, known: Tensor, judged: Tensor
) -> dict[str, Tensor]:
    """Compute the losses of a batch.

    Args:
        outputs: Outputs of the branch.
        boxes: float, shape (B, 4), ground-truth boxes as fractions of the crop; may reach outside.
        known: float, shape (B,), 1 where there is a person with a known box.
        judged: float, shape (B,), 1 where the presence of a person is known.

    Returns:
        Scalars loss_box_sides (cross entropy, nats per side), loss_box_iou (1 - IoU),
        loss_box_score (binary cross entropy to the IoU reached; 0 without a person), and box_iou,
        the mean IoU (for the log).
    """
    x, y = boxes[:, [0, 2]], boxes[:, [1, 3]]
    entropy = _entropy(outputs.x_logits, x).mean(1) + _entropy(outputs.y_logits, y).mean(1)
    reached = bbox_overlaps(outputs.boxes, boxes.clamp(0, 1), is_aligned=True, eps=1e-9)
    target = reached.detach() * known
    score = functional.binary_cross_entropy_with_logits(
        outputs.score_logits, target, reduction='none'
    )
    count = known.sum().clamp(min=1)
    return {
        'loss_box_sides': (entropy * known).sum() / (2 * count),
        'loss_box_iou': ((1 - reached) * known).sum() / count,
        'loss_box_score': (score * judged).sum() / judged.sum().clamp(min=1),
        'box_iou': target.sum() / count,
    }


def box_targets(samples: Sequence[Any], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return ground-truth boxes (B, 4), known (B,), judged (B,); see `box_losses`."""
    rows = [_box_target(sample.gt_instance_labels) for sample in samples]
    table = torch.stack(rows).to(device)
    return table[:, :4], table[:, 4], table[:, 5]


def _box_target(labels: InstanceData) -> Tensor:
    if 'person_box' not in labels:
        return torch.zeros(6)
    return torch.cat([labels.person_box[0], labels.person_box_known, labels.person_box_judged])


def _entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy (B, 2) of distributions (B, 2, n) to blurred targets (B, 2)."""
    last = logits.shape[-1] - 1
    index = torch.arange(last + 1, device=logits.device)
    distance = (index - targets.clamp(0, 1)[..., None] * last) / BLUR
    blurred = torch.exp(-distance.square() / 2)
    blurred = blurred / blurred.sum(-1, keepdim=True)
    return -(blurred * logits.log_softmax(-1)).sum(-1)
