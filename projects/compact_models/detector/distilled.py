"""RTMDet that also learns from a teacher's predictions on the very crop it sees.

A detector trained from random weights spends its first epochs on an assignment of points to people
that its own, still random, predictions decide. A teacher of the same grid (same strides, same
point offsets) says for every point how well it sees a person there and where that person's box is:
steady targets from the first step, also for people without an annotation. The teacher's
weights are never saved or copied; only what it computes on the training images acts, as targets:
scores and boxes, and, if wished, the features of its neck.

Legend: B images, N points of all levels (grid cells of the strides 8, 16, 32), C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from mmcv.cnn.utils.fuse_conv_bn import fuse_conv_bn
from mmdet.models.detectors import RTMDet
from mmdet.models.losses.iou_loss import giou_loss
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures.bbox import distance2bbox
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import Tensor, nn
from torch.nn import functional


def build_teacher(config: str, checkpoint: str) -> nn.Module:
    """Builds a frozen detector.

    Args:
        config: MMDetection config with `model`.
        checkpoint: its weights.

    Raises:
        FileNotFoundError: one of the two files is missing.
    """
    teacher: nn.Module = MODELS.build(Config.fromfile(config).model)
    load_checkpoint(teacher, checkpoint, map_location='cpu', strict=True)
    fused: nn.Module = fuse_conv_bn(teacher.eval().requires_grad_(False))
    return fused


def flatten_levels(levels: Any) -> Tensor:
    """Joins maps of shape (B, C, h, w), one per level, to (B, N, C) in float32."""
    return torch.cat([level.float().permute(0, 2, 3, 1).flatten(1, 2) for level in levels], dim=1)


def quality_focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Quality focal loss (Li et al., 2020, eq. 2, beta 2) of each element, not reduced.

    Args:
        logits: of any shape.
        targets: soft labels in [0, 1], of the same shape.
    """
    focus = (logits.sigmoid() - targets).square()
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction='none')
    return entropy * focus


def teacher_losses(
    logits: Tensor, boxes: Tensor, teacher_scores: Tensor, teacher_boxes: Tensor, min_score: float
) -> dict[str, Tensor]:
    """Losses of a student against a teacher, both on the same points.

    Class: quality focal loss with the teacher's score as the target.
    Box: GIoU loss, weighted by the teacher's score.

    Args:
        logits: (B, N), student.
        boxes: (B, N, 4) xyxy px, student.
        teacher_scores: (B, N) in [0, 1]; an image of zeros is without effect on boxes.
        teacher_boxes: (B, N, 4) xyxy px.
        min_score: boxes of points below it are not learnt.

    Returns:
        Scalars named loss_teacher_cls and loss_teacher_bbox.
    """
    weight = teacher_scores.where(teacher_scores >= min_score, teacher_scores.new_zeros(()))
    total = weight.sum().clamp(min=1.0)
    at = weight > 0
    box_loss = giou_loss(boxes[at], teacher_boxes[at], weight[at], reduction='sum')
    return {
        'loss_teacher_cls': quality_focal(logits, teacher_scores).sum() / total,
        'loss_teacher_bbox': box_loss / total,
    }


def unexplained_fraction(features: Tensor, targets: Tensor, ridge: float = 1e-2) -> Tensor:
    """Share of the targets' variance that no linear map of the features explains.

    Features are compared up to a linear map, because which channel holds what is arbitrary. The
    best map (least squares over all cells of the batch, with a ridge) is computed anew each time,
    so nothing is learnt that a detector would have to carry. 0: all the targets' content is in the
    features; 1: nothing. In place of the learnt 1 x 1 convolution of FitNets (Romero et al., 2015).

    Args:
        features: (B, C, h, w).
        targets: (B, C2, h, w); no gradient flows into them.
        ridge: added to the covariance of the features, relative to their mean variance.

    Returns:
        Scalar float32.
    """
    x, y = (maps.float().permute(1, 0, 2, 3).flatten(1) for maps in (features, targets.detach()))
    # Each target channel counts alike, whatever its scale.
    y = functional.layer_norm(y, y.shape[1:])
    x = x - x.mean(dim=1, keepdim=True)
    cells = x.shape[1]
    covariance = x @ x.T / cells
    scale = covariance.diagonal().mean().detach().clamp(min=1e-6)
    eye = torch.eye(len(x), device=x.device)
    cross = x @ y.T / cells
    weights = torch.linalg.solve(covariance + ridge * scale * eye, cross)
    # The optimal weights are a minimum: their own gradient is zero, but for the ridge.
    return functional.mse_loss(weights.detach().T @ x, y)


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class DistilledRTMDet(RTMDet):  # type: ignore[misc,unused-ignore]
    """`RTMDet` with the losses of `teacher_losses` beside those of its head.

    Args:
        teacher: `config` and `checkpoint` of a detector with one class, the same strides and the
            same normalisation of the input. None: stock `RTMDet`.
        teacher_weights: factors of the class and of the box loss.
        min_teacher_score: see `teacher_losses`.
        teacher_feature_weight: factor of `unexplained_fraction` between the necks, mean of the
            levels; 0: off.
    """

    def __init__(
        self,
        *args: Any,
        teacher: dict[str, str] | None = None,
        teacher_weights: tuple[float, float] = (1.0, 2.0),
        min_teacher_score: float = 0.1,
        teacher_feature_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        # In a list: not a sub-module, so never in the state dict, the optimiser or the average.
        self._teacher = [] if teacher is None else [build_teacher(**teacher)]
        self.teacher_weights = teacher_weights
        self.min_teacher_score = min_teacher_score
        self.teacher_feature_weight = teacher_feature_weight
        # With weights in the layout of the images a training step on a CPU takes a seventh less.
        models: list[Any] = [self, *self._teacher]
        for each in models:
            each.to(memory_format=torch.channels_last)

    def loss(self, batch_inputs: Tensor, batch_data_samples: Any) -> dict[str, Any]:
        """Computes the losses of the head and of the teacher.

        Args:
            batch_inputs: (B, 3, H, W) normalised images.
            batch_data_samples: B `DetDataSample`s; images whose metainfo has `painted` true (see
                `RemoveRandomInstances`) take no class labels from the teacher, which never
                learned to ignore painted people.
        """
        inputs = batch_inputs.contiguous(memory_format=torch.channels_last)
        features = self.extract_feat(inputs)
        outputs = self.bbox_head(features)
        people, ignored, metas = unpack_gt_instances(batch_data_samples)
        losses: dict[str, Any] = self.bbox_head.loss_by_feat(*outputs, people, metas, ignored)
        if self._teacher:
            asked = [not meta.get('painted', False) for meta in metas]
            rows = torch.tensor(asked).nonzero()[:, 0]
            if len(rows):
                losses.update(self._teacher_losses(inputs[rows], features, outputs, rows))
        return losses

    def _teacher_losses(
        self, inputs: Tensor, features: Any, outputs: Any, rows: Tensor
    ) -> dict[str, Tensor]:
        teacher: Any = self._teacher[0]
        with torch.no_grad():
            teacher_features = teacher.extract_feat(inputs)
            teacher_logits, teacher_distances = teacher.bbox_head(teacher_features)[:2]
        device = inputs.device
        points = torch.cat(
            self.bbox_head.prior_generator.grid_priors(
                [level.shape[-2:] for level in teacher_logits], device=device
            )
        )[None]
        logits, distances = (flatten_levels(level[rows] for level in o) for o in outputs[:2])
        with torch.autocast(device.type, enabled=False):
            losses = teacher_losses(
                logits[..., 0],
                distance2bbox(points, distances),
                flatten_levels(teacher_logits)[..., 0].sigmoid(),
                distance2bbox(points, flatten_levels(teacher_distances)),
                self.min_teacher_score,
            )
            losses = {
                name: factor * value
                for (name, value), factor in zip(losses.items(), self.teacher_weights, strict=True)
            }
            if self.teacher_feature_weight:
                fractions = [
                    unexplained_fraction(student[rows], target)
                    for student, target in zip(features, teacher_features, strict=True)
                ]
                losses['loss_teacher_feature'] = (
                    self.teacher_feature_weight * torch.stack(fractions).mean()
                )
        return losses
