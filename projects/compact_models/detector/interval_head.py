"""RTMDet-Ins head that trains its masks in some steps only."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads.rtmdet_head import RTMDetHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional

from pipeline.detectors.rtmdet_ins_partial import LevelTensors, RTMDetInsPartialMaskHead


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class MaskIntervalHead(RTMDetInsPartialMaskHead):
    """`RTMDetInsPartialMaskHead` for fast training: masks cost a quarter of a training step.

    Args:
        mask_interval: masks are computed and trained in every this-many-th training step.
        **kwargs: of `RTMDetInsSepBNHead`.

    Raises:
        ValueError: `mask_interval` is below 1.
    """

    def __init__(self, *args: Any, mask_interval: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if mask_interval < 1:
            raise ValueError(f'mask_interval = {mask_interval}; give 1 or more')
        self.mask_interval = mask_interval
        self._step = 0

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """Runs the head; see `RTMDetInsSepBNHead.forward`.

        Args:
            feats: per level (B, C, h, w).

        Returns:
            Class logits, distances in pixels, mask kernels (per level) and mask prototypes; the
            last two are `()` and None in training steps without masks.
        """
        if not self.training:
            outputs: tuple[Any, ...] = super().forward(feats)
            return outputs
        with_masks = self._step % self.mask_interval == 0
        self._step += 1
        if with_masks:
            return tuple(super().forward(feats))
        levels = [self._class_and_distance(index, x) for index, x in enumerate(feats)]
        logits, distances = zip(*levels, strict=True)
        return logits, distances, (), None

    def _class_and_distance(self, index: int, feature: Tensor) -> tuple[Tensor, Tensor]:
        class_feature = box_feature = feature
        for layer in self.cls_convs[index]:
            class_feature = layer(class_feature)
        if self.reg_convs[index] is self.cls_convs[index]:
            box_feature = class_feature  # one branch in MMDetection 3.x: run it once
        else:
            for layer in self.reg_convs[index]:
                box_feature = layer(box_feature)
        stride = self.prior_generator.strides[index][0]
        distance = functional.relu(self.rtm_reg[index](box_feature)) * stride
        return self.rtm_cls[index](class_feature), distance

    def loss_by_feat(
        self,
        cls_scores: LevelTensors,
        bbox_preds: LevelTensors,
        kernel_preds: LevelTensors,
        mask_feat: Tensor | None,
        batch_gt_instances: list[InstanceData],
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Computes the losses in float32; `mask_feat` is None in steps without masks."""
        if mask_feat is None:
            return self._box_losses(cls_scores, bbox_preds, batch_gt_instances, *args, **kwargs)
        return super().loss_by_feat(
            cls_scores, bbox_preds, kernel_preds, mask_feat, batch_gt_instances, *args, **kwargs
        )

    def _box_losses(
        self,
        cls_scores: LevelTensors,
        bbox_preds: LevelTensors,
        batch_gt_instances: list[InstanceData],
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """`loss_cls` and `loss_bbox` alone, in float32."""
        # Without masks the assigner takes the centre of the box, which is cheaper.
        people = [InstanceData(bboxes=p.bboxes, labels=p.labels) for p in batch_gt_instances]
        with torch.autocast(cls_scores[0].device.type, enabled=False):
            # The box-only parent of the mask head.
            losses: dict[str, Any] = RTMDetHead.loss_by_feat(
                self,
                [level.float() for level in cls_scores],
                [level.float() for level in bbox_preds],
                people,
                *args,
                **kwargs,
            )
        return losses
