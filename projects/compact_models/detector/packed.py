"""RTMDet-Ins trained on whole batches of tensors, so that a small detector keeps a GPU busy.

MMDetection assigns points to people and computes mask losses image by image, person by person. For
a detector of 2.6 M parameters that takes a GPU longer than the network itself. Here the same
assignment and losses are computed for all images of a batch at once, on the batches that
`PackedCrops` gives.

Legend: B images, N points of all levels (cells of the strides 8, 16, 32), M places for people of a
image, T people whose mask is trained, P mask prototypes, h x w cells of stride 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.losses.iou_loss import giou_loss
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps, distance2bbox
from torch import Tensor
from torch.nn import functional

from projects.compact_models.packed.crops import PackedTargets

from .distilled import DistilledRTMDet, flatten_levels, quality_focal

_EPS = 1e-7
_CENTRE_RADIUS = 3.0  # of DynamicSoftLabelAssigner, in cells
_IOU_WEIGHT = 3.0  # likewise


@dataclass(frozen=True)
class Assignment:
    """Which person each point has to find.

    Attributes:
        person: index among the M places, -1 for none, long (B, N).
        overlap: IoU of the point's box with the person's, 0 for none, (B, N).
    """

    person: Tensor
    overlap: Tensor


@torch.no_grad()
def assign_points(
    logits: Tensor, boxes: Tensor, points: Tensor, people: Tensor, is_person: Tensor, topk: int = 13
) -> Assignment:
    """`DynamicSoftLabelAssigner` of MMDetection for one class and a whole batch.

    RTMDet (arXiv 2212.07784), section 3.3: each person takes the dynamic number of points that cost
    least, by class, IoU and distance from the centre of the box; a point that several people want
    goes to the person of the least cost. Only points inside the box of a person are candidates.

    Args:
        logits: (B, N).
        boxes: predicted, (B, N, 4) xyxy px.
        points: (N, 3), x, y and stride, px.
        people: true boxes, (B, M, 4) xyxy px.
        is_person: bool (B, M), places that are taken.
        topk: most points of a person.
    """
    inside = _inside(points, people) & is_person[:, None]
    asked = inside.any(2, keepdim=True) & is_person[:, None]
    overlap = bbox_overlaps(boxes, people) * asked
    centres = (people[..., :2] + people[..., 2:]) / 2
    distance = (points[None, :, None, :2] - centres[:, None]).square().sum(-1).sqrt()
    cost = quality_focal(logits[..., None].expand_as(overlap), overlap)
    cost = cost - _IOU_WEIGHT * torch.log(overlap + _EPS)
    cost = cost + torch.pow(10, distance / points[None, :, 2:] - _CENTRE_RADIUS)
    cost = cost.masked_fill(~asked, torch.inf)

    topk = min(topk, points.shape[0])
    count = overlap.topk(topk, dim=1).values.sum(1, keepdim=True).int().clamp(min=1)
    cheapest = cost.topk(topk, dim=1, largest=False).indices
    rank = torch.arange(topk, device=cost.device)[None, :, None]
    wanted = torch.zeros_like(asked).scatter(1, cheapest, rank < count) & asked
    several = wanted.sum(2, keepdim=True) > 1
    least = functional.one_hot(cost.argmin(2), cost.shape[2]).bool()
    wanted = torch.where(several, least & asked, wanted)
    person = torch.where(wanted.any(2), wanted.int().argmax(2), -1)
    return Assignment(person, (overlap * wanted).sum(2))


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether a point (N, >= 2) lies in a box (B, M, 4), bool (B, N, M)."""
    places = points[None, :, None, :2]
    low, high = boxes[:, None, :, :2], boxes[:, None, :, 2:]
    return ((places > low) & (places < high)).all(-1)


def box_losses(
    logits: Tensor, boxes: Tensor, points: Tensor, targets: PackedTargets, found: Assignment
) -> tuple[Tensor, Tensor]:
    """Class and box loss of RTMDet (quality focal loss, GIoU), before their weights.

    Points inside of ignored regions that no person takes teach nothing.

    Args:
        logits: (B, N).
        boxes: predicted, (B, N, 4) xyxy px.
        points: (N, 3), x, y and stride, px.
        targets: of the batch.
        found: of `assign_points`.
    """
    is_taken = found.person >= 0
    ignored = (_inside(points, targets.boxes) & targets.is_ignored[:, None]).any(2) & ~is_taken
    focal = quality_focal(logits, found.overlap) * ~ignored
    total = found.overlap.sum().clamp(min=1)
    rows = torch.arange(len(boxes), device=boxes.device)[:, None]
    true_boxes = targets.boxes[rows, found.person.clamp(min=0)]
    apart = giou_loss(
        boxes.flatten(0, 1), true_boxes.flatten(0, 1), found.overlap.flatten(), reduction='sum'
    )
    return focal.sum() / total, apart / total


def mask_logits(head: Any, features: Tensor, kernels: Tensor, points: Tensor) -> Tensor:
    """Dynamic convolutions of RTMDet-Ins for T people, each with the features of its image.

    Args:
        head: `RTMDetInsHead`; `parse_dynamic_params` and `prior_generator` are used.
        features: mask prototypes of each person's image, (T, P, h, w).
        kernels: weights of the convolutions, (T, G).
        points: that the kernels are of, (T, 3), x, y and stride, px.

    Returns:
        Logits (T, h, w).
    """
    count, _, height, width = features.shape
    cells = head.prior_generator.single_level_grid_priors(
        (height, width), level_idx=0, device=features.device
    )
    offsets = (points[:, None, :2] - cells) / (points[:, None, 2:] * 8)
    x = torch.cat([offsets.transpose(1, 2), features.flatten(2)], dim=1)
    weights, biases = head.parse_dynamic_params(kernels)
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        weight = weight.reshape(count, -1, x.shape[1])
        x = torch.baddbmm(bias.reshape(count, -1, 1), weight, x)
        if index < len(weights) - 1:
            x = x.relu()
    return x.reshape(count, height, width)


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PackedPreprocessor(DetDataPreprocessor):  # type: ignore[misc,unused-ignore]
    """`DetDataPreprocessor` that also takes the batches of `PackedCrops`."""

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalises a batch; see `DetDataPreprocessor.forward`."""
        if not isinstance(data['data_samples'], PackedTargets):
            result: dict[str, Any] = super().forward(data, training)
            return result
        pixels = data['inputs'].to(self.mean)
        if self._channel_conversion:
            pixels = pixels.flip(1)
        pixels = (pixels - self.mean) / self.std
        return {'inputs': pixels, 'data_samples': data['data_samples']}


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PackedRTMDet(DistilledRTMDet):  # type: ignore[misc,unused-ignore]
    """`DistilledRTMDet` whose `loss` takes a batch of `PackedCrops`.

    The head is a `RTMDetInsSepBNHead` of one class; its `loss_cls`, `loss_bbox` and `loss_mask`
    give the weights of the losses, which are those of RTMDet.

    Args:
        max_masks: most people whose masks are trained in a step, drawn from all points that find
            a person with a known mask.
    """

    def __init__(self, *args: Any, max_masks: int = 256, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if max_masks < 1:
            raise ValueError(f'max_masks = {max_masks}; give 1 or more')
        if self.bbox_head.num_classes != 1:
            raise ValueError(f'PackedRTMDet is for one class, got {self.bbox_head.num_classes}')
        self.max_masks = max_masks

    def loss(self, batch_inputs: Tensor, batch_data_samples: Any) -> dict[str, Any]:
        """Computes the losses of head and teacher.

        Args:
            batch_inputs: (B, 3, H, W) normalised crops.
            batch_data_samples: `PackedTargets`.
        """
        targets: PackedTargets = batch_data_samples
        head = self.bbox_head
        inputs = batch_inputs.contiguous(memory_format=torch.channels_last)
        features = self.extract_feat(inputs)
        outputs = head(features)
        with torch.autocast(inputs.device.type, enabled=False):
            logits, distances, kernels = (flatten_levels(part) for part in outputs[:3])
            points = torch.cat(
                head.prior_generator.grid_priors(
                    [level.shape[-2:] for level in outputs[0]],
                    device=inputs.device, with_stride=True,
                )
            )[:, :3]  # fmt: skip
            boxes = distance2bbox(points[None, :, :2], distances)
            found = assign_points(
                logits[..., 0], boxes, points, targets.boxes, targets.is_person,
                topk=head.assigner.topk,
            )  # fmt: skip
            loss_class, loss_box = box_losses(logits[..., 0], boxes, points, targets, found)
            losses = {
                'loss_cls': head.loss_cls.loss_weight * loss_class,
                'loss_bbox': head.loss_bbox.loss_weight * loss_box,
                'loss_mask': self._mask_loss(outputs[3].float(), kernels, points, targets, found),
            }
        rows = (~targets.painted).nonzero()[:, 0]
        if self._teacher and len(rows):
            losses.update(self._teacher_losses(inputs[rows], features, outputs[:2], rows))
        return losses

    def _mask_loss(
        self, prototypes: Tensor, kernels: Tensor, points: Tensor, targets: PackedTargets,
        found: Assignment,
    ) -> Tensor:  # fmt: skip
        """Dice loss of the masks of some points whose person has one."""
        head = self.bbox_head
        # Row of each place's mask among all masks of the batch.
        rows = targets.has_mask.flatten().cumsum(0).reshape(targets.has_mask.shape) - 1
        place = found.person.clamp(min=0)
        has_mask = targets.has_mask.gather(1, place) & (found.person >= 0)
        image, point = has_mask.nonzero(as_tuple=True)
        if len(image) > self.max_masks:
            some = torch.randperm(len(image), device=image.device)[: self.max_masks]
            image, point = image[some], point[some]
        if len(image) == 0:
            nothing: Tensor = prototypes.sum() * 0 + kernels.sum() * 0
            return nothing
        found_masks = mask_logits(head, prototypes[image], kernels[image, point], points[point])
        target = targets.masks[rows[image, place[image, point]]]
        found_masks = functional.interpolate(
            found_masks[None], target.shape[-2:], mode='bilinear', align_corners=False
        )[0]
        loss: Tensor = head.loss_mask(
            found_masks, (target >= 0.5).float(), weight=None, avg_factor=len(image)
        )
        return loss
