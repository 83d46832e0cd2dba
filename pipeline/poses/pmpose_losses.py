"""Losses and targets of the PMPose head.

Legend: B crops, K keypoints, heatmaps of h x w px, network input of W x H px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from pipeline.keypoints import AREA_OF_BOX


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """sum(values * weights) / sum(weights); 0 where nothing has weight."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class SpatialCrossEntropyLoss(nn.Module):
    """Cross entropy between the softmax of a heatmap and the normalized target.

    Trains much faster from scratch than the mean squared error, which starts from an all-zero map.

    Args:
        loss_weight: Factor of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: float, shape (B, K, h, w), before normalization.
            target: float, shape (B, K, h, w), >= 0, any scale.
            weights: float, shape (B, K); 0 ignores a keypoint.

        Returns:
            Scalar, nats per keypoint.
        """
        flat = target.flatten(2)
        probability = flat / flat.sum(dim=-1, keepdim=True).clamp(min=1e-6)
        entropy = -(probability * logits.float().flatten(2).log_softmax(dim=-1)).sum(dim=-1)
        return self.loss_weight * weighted_mean(entropy, weights)


@dataclass(frozen=True, eq=False)
class PoseTargets:
    """Targets of the scalar branches; float32, shape (B, K) unless stated otherwise."""

    points: Tensor  # shape (B, K, 2), keypoints x, y in input px
    annotated: Tensor  # 1 where the keypoint is labelled. "Not labelled" does not mean "absent".
    present: Tensor  # 1 where the keypoint is inside the crop
    visible: Tensor  # 1 where the label is visible (COCO v = 2)
    area: Tensor  # shape (B, 1), area of the person in input px squared

    @property
    def seen(self) -> Tensor:
        """1 where a keypoint is labelled and inside the crop."""
        return self.annotated * self.present


def collect_targets(samples: Sequence[Any], device: torch.device) -> PoseTargets:
    """Read the targets from packed MMPose samples.

    Args:
        samples: B `PoseDataSample`s of `PackPoseInputs(pack_transformed=True)`, with `input_size`
            and `input_scale` among their meta keys; and, unless the codec is `OKSArgMaxHeatmap`,
            `flip`, `flip_indices` and `raw_ann_info`.
        device: Device of the targets.
    """
    rows = [_sample_targets(sample) for sample in samples]
    columns = [np.stack(column).astype(np.float32) for column in zip(*rows, strict=True)]
    return PoseTargets(*(torch.from_numpy(column).to(device) for column in columns))


def _sample_targets(sample: Any) -> tuple[Any, ...]:
    points = sample.gt_instances.transformed_keypoints[0][:, :2]
    size = np.array(sample.metainfo['input_size'], dtype=np.float32)
    levels = _label_levels(sample)
    present = np.all((points >= 0) & (points <= size - 1), axis=1)
    box = sample.gt_instances.bboxes[0]
    area = (box[2] - box[0]) * (box[3] - box[1]) * AREA_OF_BOX
    to_input = np.prod(size) / np.prod(sample.metainfo['input_scale'])
    return points, levels > 0, present, levels == 2, np.array([area * to_input])


def _label_levels(sample: Any) -> Any:
    """Return COCO's level of every keypoint, (K,): 0 not labelled, 1 hidden, 2 visible."""
    labels = sample.gt_instance_labels
    if 'keypoints_annotated' in labels:  # from `OKSArgMaxHeatmap`
        return (labels.keypoints_annotated + labels.keypoints_visibility)[0].cpu().numpy()
    levels = np.array(sample.metainfo['raw_ann_info']['keypoints'], dtype=np.float32)[2::3]
    # The augmentation does not flip the raw annotation.
    if sample.metainfo.get('flip', False):
        levels = levels[list(sample.metainfo['flip_indices'])]
    return levels


def point_oks(points: Tensor, targets: PoseTargets, sigmas: Tensor) -> Tensor:
    """Compute the object keypoint similarity of every keypoint.

    COCO's exp(-d^2 / (2 area (2 sigma)^2)).

    Args:
        points: float, shape (B, K, 2), predicted x, y in input px.
        targets: the ground truth.
        sigmas: float, shape (K,).

    Returns:
        float, shape (B, K), in [0, 1].
    """
    squared = (points - targets.points).square().sum(dim=-1)
    return torch.exp(-squared / (2 * targets.area.clamp(min=1.0) * (2 * sigmas).square()))


def branch_losses(
    logits: dict[str, Tensor], oks: Tensor, targets: PoseTargets
) -> dict[str, Tensor]:
    """Losses of presence and visibility (binary cross entropy) and predicted OKS (squared error).

    Args:
        logits: 'presence', 'visibility', 'oks', float, shape (B, K), before the sigmoid.
        oks: float, shape (B, K), OKS of the decoded keypoints.
        targets: the ground truth.

    Returns:
        Scalars named loss_presence, loss_visibility, loss_oks.
    """
    bce = functional.binary_cross_entropy_with_logits
    presence = bce(logits['presence'], targets.present, reduction='none')
    visibility = bce(logits['visibility'], targets.visible, reduction='none')
    squared = (logits['oks'].sigmoid() - oks).square()
    return {
        'loss_presence': weighted_mean(presence, targets.annotated),
        'loss_visibility': weighted_mean(visibility, targets.seen),
        'loss_oks': weighted_mean(squared, targets.seen),
    }


def pose_losses(head: Any, feature: Tensor, logits: Tensor, samples: Any) -> dict[str, Tensor]:
    """Compute the losses of a `PMPoseHead`.

    Args:
        head: The head.
        feature: float, shape (B, C, rows, columns).
        logits: float, shape (B, K, h, w), of the heatmaps.
        samples: See `PMPoseHead.loss`.
    """
    target = torch.stack([s.gt_fields.heatmaps for s in samples])
    weights = torch.cat([s.gt_instance_labels.keypoint_weights for s in samples])
    on_logits = isinstance(head.heatmap_loss, SpatialCrossEntropyLoss)
    maps = logits if on_logits else head._normalize(logits)
    losses = {'loss_kpt': head.heatmap_loss(maps, target, weights)}
    targets = collect_targets(samples, logits.device)
    sigmas = torch.tensor(head.sigmas, device=logits.device)
    reached = point_oks(_peaks(logits.detach(), samples), targets, sigmas)
    losses.update(branch_losses(head._branch_logits(feature), reached, targets))
    losses['oks'] = (reached * targets.seen).sum() / targets.seen.sum().clamp(min=1)
    return losses


def _peaks(logits: Tensor, samples: Any) -> Tensor:
    """Position of the maximum of every map, shape (B, K, 2), x, y in input px (UDP scaling)."""
    height, width = logits.shape[-2:]
    index = logits.flatten(2).argmax(dim=-1)
    xy = torch.stack([index % width, index // width], dim=-1).float()
    input_size = np.array(samples[0].metainfo['input_size'], dtype=np.float32)
    scale = (input_size - 1) / np.array([width - 1, height - 1], dtype=np.float32)
    return xy * torch.as_tensor(scale, device=logits.device)
