"""RTMDet-Ins head for training on data where only some people have a mask.

Box and class losses use all people; the mask loss uses those with a known mask. Layers and weights
are those of MMDetection's `RTMDetInsSepBNHead`: train with this head, then use the stock head.

Legend: B images, N people of an image, H, W size of the padded image.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from mmdet.models.dense_heads.rtmdet_ins_head import RTMDetInsSepBNHead
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData
from torch import Tensor

LevelTensors = Sequence[Tensor]


def fill_unknown_masks(
    masks: BitmapMasks | PolygonMasks, boxes: Tensor
) -> tuple[BitmapMasks, Tensor]:
    """Replace empty masks by their box.

    The label assigner computes the centre of a person from the mask. Without this, an empty mask
    would put it in the corner of the image.

    Args:
        masks: N masks of size (H, W); an empty one means "unknown". Not modified.
        boxes: (N, 4) float32, xyxy in pixels of the padded image.

    Returns:
        The N masks as bitmaps, without empty ones, and (N,) bool: the mask is known.
    """
    bitmaps = masks.to_ndarray().copy()
    is_known = bitmaps.any(axis=(1, 2))
    corners = boxes.round().long().cpu().numpy()
    for index in (~is_known).nonzero()[0]:
        left, top, right, bottom = corners[index].clip(0)
        bitmaps[index, top : max(bottom, top + 1), left : max(right, left + 1)] = 1
    filled = BitmapMasks(bitmaps, masks.height, masks.width)
    return filled, torch.from_numpy(is_known).to(boxes.device)


def in_any_box(points: Tensor, boxes: Tensor) -> Tensor:
    """Return (N,) bool: whether points (N, 2), x, y, lie in any of the boxes (M, 4), xyxy."""
    low, high = boxes[None, :, :2], boxes[None, :, 2:]
    inside = (points[:, None] >= low) & (points[:, None] <= high)
    return inside.all(dim=2).any(dim=1)


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class RTMDetInsPartialMaskHead(RTMDetInsSepBNHead):  # type: ignore[misc,unused-ignore]
    """`RTMDetInsSepBNHead` for annotations with gaps.

    - The mask loss skips people with an empty ground-truth mask.
    - Unassigned points inside ignored boxes (COCO `iscrowd`) are not negatives.

    Arguments are those of `RTMDetInsSepBNHead`.
    """

    def _get_targets_single(
        self,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        gt_instances: InstanceData,
        img_meta: dict[str, Any],
        gt_instances_ignore: InstanceData | None = None,
        unmap_outputs: bool = True,
    ) -> tuple[Any, ...]:
        """Compute the targets of one image; background points in ignored boxes get weight 0."""
        targets = super()._get_targets_single(
            cls_scores,
            bbox_preds,
            flat_anchors,
            valid_flags,
            gt_instances,
            img_meta,
            gt_instances_ignore,
            unmap_outputs,
        )
        if gt_instances_ignore is not None and len(gt_instances_ignore):
            anchors, labels, weights = targets[:3]
            ignored = in_any_box(anchors[:, :2], gt_instances_ignore.bboxes)
            weights[ignored & (labels == self.num_classes)] = 0.0
        return tuple(targets)

    def loss_by_feat(
        self,
        cls_scores: LevelTensors,
        bbox_preds: LevelTensors,
        kernel_preds: LevelTensors,
        mask_feat: Tensor,
        batch_gt_instances: list[InstanceData],
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Compute the losses in float32, whatever the precision of the network.

        Args:
            cls_scores: per level (B, 1, h, w), logits.
            bbox_preds: per level (B, 4, h, w), distances to the box sides in pixels.
            kernel_preds: per level (B, G, h, w), weights of the dynamic convolutions.
            mask_feat: (B, P, H/8, W/8) mask prototypes.
            batch_gt_instances: per image `bboxes` (N, 4) xyxy px, `labels` (N,), `masks` N masks
                (an empty one: unknown). Gets `has_mask` (N,) bool; its masks are filled.
            *args: passed on (image metadata, ignored people).
            **kwargs: passed on.

        Returns:
            `loss_cls`, `loss_bbox` (lists, one scalar per level) and `loss_mask` (scalar).
        """
        for people in batch_gt_instances:
            people.masks, people.has_mask = fill_unknown_masks(people.masks, people.bboxes)
        # Distances of 200 px and dice sums over 10^4 pixels need more than bfloat16's 8 bits.
        with torch.autocast(mask_feat.device.type, enabled=False):
            losses: dict[str, Any] = super().loss_by_feat(
                [level.float() for level in cls_scores],
                [level.float() for level in bbox_preds],
                [level.float() for level in kernel_preds],
                mask_feat.float(),
                batch_gt_instances,
                *args,
                **kwargs,
            )
        return losses

    def loss_mask_by_feat(
        self,
        mask_feats: Tensor,
        flatten_kernels: Tensor,
        sampling_results_list: Sequence[Any],
        batch_gt_instances: list[InstanceData],
    ) -> Tensor:
        """Compute the mask loss over the positive points whose person has a known mask.

        Args:
            mask_feats: (B, P, H/8, W/8) mask prototypes.
            flatten_kernels: (B, points, G) weights of the dynamic convolutions.
            sampling_results_list: per image the positive points and their people.
            batch_gt_instances: per image `masks` (N, H, W) bool and `has_mask` (N,) bool.

        Returns:
            Scalar; zero, with a zero gradient, if no positive point has a known mask.
        """
        with_mask = []
        for samples, people in zip(sampling_results_list, batch_gt_instances, strict=True):
            keep = people.has_mask[samples.pos_assigned_gt_inds]
            with_mask.append(
                SimpleNamespace(
                    pos_inds=samples.pos_inds[keep],
                    pos_priors=samples.pos_priors[keep],
                    pos_assigned_gt_inds=samples.pos_assigned_gt_inds[keep],
                )
            )
        loss: Tensor = super().loss_mask_by_feat(
            mask_feats, flatten_kernels, with_mask, batch_gt_instances
        )
        return loss
