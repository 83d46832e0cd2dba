"""Losses of a promptable segmenter for targets that may be known in part.

`known` marks the pixels that count. Of an object known in part the sides are trained too: the known
pixels reach them nowhere (BoxInst, arXiv 2012.02310, section 3.1).

Legend: N objects, M candidate masks per object, h x w mask size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.training.pose2seg.losses import LossWeights, mask_iou, prompt_losses


@dataclass(frozen=True)
class PartialLossWeights(LossWeights):
    """`LossWeights`, and that of what trains the sides.

    Attributes:
        projection: Dice loss of the mask's projections onto both axes, for targets known in part.
    """

    projection: float = 1.0


def projection_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - Dice overlap of the projections of a mask and its target, mean of both axes, (N, M)."""
    probability = logits.sigmoid()
    parts = [
        _dice(probability.amax(axis), targets.amax(axis).expand_as(probability.amax(axis)), (-1,))
        for axis in (-2, -1)
    ]
    return (parts[0] + parts[1]) / 2


def partial_prompt_losses(
    outputs: tuple[Tensor, Tensor, Tensor],
    targets: Tensor,
    weights: PartialLossWeights,
    known: Tensor | None,
) -> dict[str, Tensor]:
    """Weighted parts of the loss of one decoder pass, as of `prompt_losses`.

    Objects that are known in part teach no IoU, but their projections.

    Args:
        outputs: Mask logits (N, M, h, w), predicted IoU (N, M), object score logits (N, 1).
        targets: Masks in [0, 1], (N, 1, h, w); 0 where they are not known.
        weights: Weights of the parts.
        known: 1 where a target is known, else 0, (N, 1, h, w); None: everywhere.
    """
    if known is None:
        return prompt_losses(outputs, targets, weights)
    logits, predicted_iou, object_score = outputs
    probability, masks = logits.sigmoid(), targets.expand_as(logits)
    focal = weights.focal * _known_focal(logits, masks, weights.focal_alpha, known)
    dice = weights.dice * (_dice(probability * known, masks, (-2, -1)))
    best = (focal + dice).argmin(dim=1, keepdim=True)
    partly = (known.flatten(1).amin(1) < 1).float()[:, None]
    iou_error = (predicted_iou - mask_iou(logits, targets)).abs().mean(dim=1, keepdim=True)
    projections = projection_loss(logits, torch.maximum(targets, 1 - known))
    parts = {
        'focal': focal.gather(1, best),
        'dice': dice.gather(1, best),
        'projection': weights.projection * projections.gather(1, best) * partly,
        'iou': weights.iou * iou_error * (1 - partly),
    }
    score = F.binary_cross_entropy_with_logits(object_score, torch.ones_like(object_score))
    result = {name: part.mean() for name, part in parts.items()}
    return {**result, 'object_score': weights.object_score * score}


def _known_focal(logits: Tensor, targets: Tensor, alpha: float, known: Tensor) -> Tensor:
    """`focal_loss` (N, M) in which only known pixels count."""
    probability = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction='none')
    hardness = (probability - targets).abs() ** 2.0
    balance = alpha * targets + (1 - alpha) * (1 - targets)
    return (balance * hardness * cross_entropy * known).mean(dim=(-2, -1))


def _dice(probability: Tensor, targets: Tensor, axes: tuple[int, ...]) -> Tensor:
    overlap = (probability * targets).sum(dim=axes)
    total = probability.sum(dim=axes) + targets.sum(dim=axes)
    return 1 - (2 * overlap + 1) / (total + 1)
