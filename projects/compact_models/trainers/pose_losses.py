"""Losses of the compact pose model for whole batches of tensors."""

from __future__ import annotations

from typing import Any

import mmpose.models  # noqa: F401  (registers the parts of `pipeline.poses` in order)
import torch
from torch import Tensor, nn

from pipeline.poses.box_losses import box_losses
from pipeline.poses.pmpose_losses import (
    PoseTargets,
    SpatialCrossEntropyLoss,
    branch_losses,
    point_oks,
)

from .pose_augment import H, PoseBatch, W

SIGMA = 1.5  # px of the heatmap, of the target Gaussian
BOX_WEIGHTS = {'loss_box_sides': 0.5, 'loss_box_iou': 1.0, 'loss_box_score': 0.5}
_heatmap_loss = SpatialCrossEntropyLoss()


def make_heatmaps(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Gaussians (B, K, h, w) at points (B, K, 2) in px of the crop, for heatmaps (h, w)."""
    height, width = size
    x, y = (points * torch.tensor([(width - 1) / (W - 1), (height - 1) / (H - 1)])).unbind(-1)
    columns, rows = torch.arange(width), torch.arange(height)
    along_x = torch.exp(-(columns - x[..., None]).square() / (2 * SIGMA**2))
    along_y = torch.exp(-(rows - y[..., None]).square() / (2 * SIGMA**2))
    return along_y[..., :, None] * along_x[..., None, :]


def peaks_of(logits: Tensor) -> Tensor:
    """Maxima (B, K, 2) of heatmaps (B, K, h, w), in px of the crop."""
    height, width = logits.shape[-2:]
    index = logits.flatten(2).argmax(-1)
    xy = torch.stack([index % width, index // width], -1).float()
    return xy * torch.tensor([(W - 1) / (width - 1), (H - 1) / (height - 1)])


def compute_losses(model: nn.Module, batch: PoseBatch) -> dict[str, Tensor]:
    """Losses of heatmaps, presence, visibility, OKS, and box.

    Args:
        model: `TopdownPoseEstimator` with a `PMPoseBoxHead`.
        batch: crops and targets.
    """
    head: Any = model.head
    feature = model.backbone(batch.images)[-1]  # type: ignore[operator]
    upsampled = head.deconv_layers(feature)
    logits = head.final_layer(upsampled).float()
    seen = batch.annotated * batch.present
    heatmaps = make_heatmaps(batch.points, tuple(logits.shape[-2:]))
    losses = {'loss_kpt': _heatmap_loss(logits, heatmaps, seen)}

    targets = PoseTargets(batch.points, batch.annotated, batch.present, batch.visible, batch.area)
    reached = point_oks(peaks_of(logits.detach()), targets, torch.tensor(head.sigmas))
    # These branches read the features but do not shape them.
    apart = feature.detach()
    branches = {
        'presence': head.probability_layers, 'visibility': head.visibility_layers,
        'oks': head.oks_layers,
    }  # fmt: skip
    scalars = {name: layers(apart).flatten(1).float() for name, layers in branches.items()}
    losses.update(branch_losses(scalars, reached, targets))
    boxes = box_losses(head.box_layers(feature, upsampled), batch.boxes, batch.known, batch.judged)
    losses.update({name: value * BOX_WEIGHTS.get(name, 1) for name, value in boxes.items()})
    losses['oks'] = (reached * seen).sum() / seen.sum().clamp(min=1)
    return losses
