"""Losses of the detector against a teacher, and against annotated masks.

Legend: B crops, N points of all levels, T people with masks.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.structures.bbox import bbox_overlaps, distance2bbox
from torch import Tensor, nn
from torch.nn import functional

from projects.compact_models.detector.distilled import flatten_levels, teacher_losses
from projects.compact_models.detector.packed import mask_logits

from .detector_data import DetectorBatch

MIN_SCORE = 0.1  # of the teacher; boxes of points below it are not learned
MIN_IOU = 0.5  # of the teacher's box with a person whose mask the point learns
MAX_MASKS = 64  # points per worker whose masks are learned
BOX_WEIGHT, MASK_WEIGHT = 2.0, 2.0


def run_network(model: nn.Module, images: Tensor) -> tuple[Any, Tensor, Tensor, Tensor]:
    """Outputs of the head, logits (B, N), boxes (B, N, 4) xyxy px, and points (N, 3)."""
    head: Any = model.bbox_head
    outputs = head(model.extract_feat(images))  # type: ignore[operator]
    sizes = [level.shape[-2:] for level in outputs[0]]
    points = torch.cat(head.prior_generator.grid_priors(sizes, device='cpu', with_stride=True))
    boxes = distance2bbox(points[None, :, :2], flatten_levels(outputs[1]))
    return outputs, flatten_levels(outputs[0])[..., 0], boxes, points[:, :3]


class TeacherLosses:
    """Losses of a student; called as `loop.Task.compute_losses`.

    Args:
        teacher: frozen detector with the same strides and normalization.
    """

    def __init__(self, teacher: nn.Module) -> None:
        self.teacher = teacher

    def __call__(self, model: nn.Module, batch: DetectorBatch) -> dict[str, Tensor]:
        """Losses of scores, boxes, and masks."""
        with torch.no_grad():
            _, logits, teacher_boxes, _ = run_network(self.teacher, batch.teacher_images)
            scores = logits.sigmoid() * ~_shows_any(teacher_boxes, batch.painted)
        outputs, logits, boxes, points = run_network(model, batch.images)
        # Sums over thousands of px need more than the 8 bits of bfloat16.
        with torch.autocast('cpu', enabled=False):
            return self._compare(
                model, batch, (outputs, logits, boxes, points), (scores, teacher_boxes)
            )

    def _compare(
        self, model: nn.Module, batch: DetectorBatch, found: Any, wanted: tuple[Tensor, Tensor]
    ) -> dict[str, Tensor]:
        (outputs, logits, boxes, points), (scores, teacher_boxes) = found, wanted
        weight = scores.where(scores >= MIN_SCORE, scores.new_zeros(()))
        losses = teacher_losses(logits, boxes, scores, teacher_boxes, MIN_SCORE)
        return {
            'loss_score': losses['loss_teacher_cls'],
            'loss_box': BOX_WEIGHT * losses['loss_teacher_bbox'],
            'loss_mask': MASK_WEIGHT
            * mask_loss(model, outputs, points, weight, teacher_boxes, batch),
        }


def _shows_any(boxes: Tensor, people: Tensor) -> Tensor:
    """Whether boxes (B, N, 4) show one of the people (B, P, 4), bool (B, N)."""
    if not people.any():
        return torch.zeros(boxes.shape[:2], dtype=torch.bool)
    return bbox_overlaps(boxes, people).amax(2) > MIN_IOU  # type: ignore[no-any-return]


def mask_loss(
    model: nn.Module, outputs: Any, points: Tensor, weight: Tensor, boxes: Tensor,
    batch: DetectorBatch,
) -> Tensor:  # fmt: skip
    """Dice loss of masks at points where the teacher sees a person with a mask."""
    kernels, prototypes = flatten_levels(outputs[2]), outputs[3].float()
    if not len(batch.masks):
        return prototypes.sum() * 0 + kernels.sum() * 0  # type: ignore[no-any-return]
    rows = batch.is_person.flatten().cumsum(0).view(batch.is_person.shape) - 1
    overlaps = bbox_overlaps(boxes, batch.people) * batch.is_person[:, None]
    best, place = overlaps.max(2)
    crop, point = ((best >= MIN_IOU) & (weight > 0)).nonzero(as_tuple=True)
    if len(crop) > MAX_MASKS:
        chosen = torch.linspace(0, len(crop) - 1, MAX_MASKS).long()
        crop, point = crop[chosen], point[chosen]
    if not len(crop):
        return prototypes.sum() * 0 + kernels.sum() * 0  # type: ignore[no-any-return]
    found = mask_logits(model.bbox_head, prototypes[crop], kernels[crop, point], points[point])
    target = batch.masks[rows[crop, place[crop, point]]]
    found = functional.interpolate(found[None], target.shape[-2:], mode='bilinear')[0].sigmoid()
    overlap = 2 * (found * target).sum((1, 2)) + 1
    return (1 - overlap / (found.square().sum((1, 2)) + target.square().sum((1, 2)) + 1)).mean()
