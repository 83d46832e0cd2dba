"""Losses of a promptable segmenter (SAM 2, arXiv 2408.00714, section D.2.2).

Legend: N objects, M candidate masks per object, h x w mask size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class LossWeights:
    """Loss weights; the defaults are those of SAM 2."""

    focal: float = 20.0  # focal loss of the mask
    dice: float = 1.0  # dice loss of the mask
    iou: float = 1.0  # l1 error of the predicted IoU
    object_score: float = 1.0  # cross entropy of the object score
    # Weight of foreground pixels in [0, 1]; background has 1 - alpha. 0.25 (SAM 2) biases uncertain
    # pixels to background; 0.5 is unbiased.
    focal_alpha: float = 0.25


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Compute the focal loss (arXiv 1708.02002) per mask, (N, M); targets in [0, 1]."""
    probability = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction='none')
    hardness = (probability - targets).abs() ** gamma
    balance = alpha * targets + (1 - alpha) * (1 - targets)
    return (balance * hardness * cross_entropy).mean(dim=(-2, -1))


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute 1 - Dice per mask, (N, M), with one pixel of smoothing; arguments as above."""
    probability = logits.sigmoid()
    overlap = (probability * targets).sum(dim=(-2, -1))
    total = probability.sum(dim=(-2, -1)) + targets.sum(dim=(-2, -1))
    return 1 - (2 * overlap + 1) / (total + 1)


def mask_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the IoU of masks (logit > 0) and targets (> 0.5), (N, M); 0 for empty unions."""
    predicted, expected = logits > 0, targets > 0.5
    union = (predicted | expected).sum(dim=(-2, -1))
    return (predicted & expected).sum(dim=(-2, -1)) / union.clamp(min=1)


def prompt_losses(
    outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Compute the weighted losses of one decoder pass; their sum is the loss.

    Of several candidate masks, only the best enters the mask losses; the IoU loss uses all.

    Args:
        outputs: Mask logits (N, M, h, w), predicted IoU (N, M), object score logits (N, 1).
        targets: Masks in [0, 1], (N, 1, h, w).
        weights: Loss weights.
    """
    logits, predicted_iou, object_score = outputs
    masks = targets.expand_as(logits)
    focal = weights.focal * focal_loss(logits, masks, weights.focal_alpha)
    dice = weights.dice * dice_loss(logits, masks)
    best = (focal + dice).argmin(dim=1, keepdim=True)
    iou_error = (predicted_iou - mask_iou(logits, targets)).abs().mean(dim=1, keepdim=True)
    parts = {'focal': focal.gather(1, best), 'dice': dice.gather(1, best)}
    parts['iou'] = weights.iou * iou_error
    score = F.binary_cross_entropy_with_logits(object_score, torch.ones_like(object_score))
    result = {name: part.mean() for name, part in parts.items()}
    return {**result, 'object_score': weights.object_score * score}
