"""The PMPose head with box refinement (`pipeline.poses.box_branch`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mmpose.registry import MODELS
from torch import Tensor
from typing_extensions import Self

from pipeline.poses.box_branch import BoxBranch, flip_boxes
from pipeline.poses.pmpose_head import RELEASED_POOLS, PMPoseHead, PMPoseOutputs


@dataclass(frozen=True, eq=False)
class PMPoseBoxOutputs(PMPoseOutputs):
    """Outputs of `PMPoseBoxHead` for B crops."""

    boxes: Tensor  # float, shape (B, 4), xyxy as fractions of the crop
    box_scores: Tensor  # float, shape (B,), expected IoU of the box; near 0 without a person

    def unflip(self, flip_indices: Sequence[int], *, shift_heatmap: bool) -> Self:
        """Convert the outputs of mirrored crops to outputs of the original crops."""
        unflipped = super().unflip(flip_indices, shift_heatmap=shift_heatmap)
        return replace(unflipped, boxes=flip_boxes(self.boxes))


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PMPoseBoxHead(PMPoseHead):
    """`PMPoseHead` that also predicts the box of the person and its score.

    Args:
        box_channels: Width of the box branch.
        box_weights: Loss weights of sides, IoU and score.
        **kwargs: Arguments of `PMPoseHead`.
    """

    def __init__(
        self,
        *,
        box_channels: int = 32,
        box_weights: tuple[float, float, float] = (1.0, 2.0, 1.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.box_weights = box_weights
        pools = kwargs.get('branch_pools', RELEASED_POOLS)
        upsampled = self.final_layer.in_channels
        self.box_layers = BoxBranch(kwargs['in_channels'], upsampled, box_channels, pools)

    def forward(self, feats: tuple[Tensor, ...]) -> PMPoseBoxOutputs:
        """Run the network; arguments as in `PMPoseHead.forward`."""
        upsampled = self.deconv_layers(feats[-1])
        box = self.box_layers(feats[-1], upsampled)
        return PMPoseBoxOutputs(
            heatmaps=self._normalize(self.final_layer(upsampled)),
            **self._branches(feats[-1]),
            boxes=box.boxes,
            box_scores=box.score_logits.sigmoid(),
        )

    def _rows(self, outputs: Any, samples: Any) -> dict[str, Tensor]:
        """Add `person_bboxes` (B, 4), xyxy image px, and `person_bbox_scores` (B,)."""
        windows = [
            [sample.metainfo[f'input_{k}'] for k in ('center', 'scale')] for sample in samples
        ]
        centre, sides = torch.as_tensor(np.array(windows, np.float32)).unbind(dim=1)
        corners = (outputs.boxes.float().cpu().view(-1, 2, 2) - 0.5) * sides[:, None]
        boxes = (corners + centre[:, None]).flatten(1)
        scores = outputs.box_scores
        return {
            **super()._rows(outputs, samples), 'person_bboxes': boxes, 'person_bbox_scores': scores,
        }  # fmt: skip

    def loss(
        self, feats: tuple[Tensor, ...], batch_data_samples: Any, train_cfg: Any = None
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            feats: feature maps; the last one is used.
            batch_data_samples: as in `PMPoseHead.loss`. Samples of a pipeline with
                `PersonBoxTarget` train the box too, others only the pose.
            train_cfg: unused; part of MMPose's interface.

        Returns:
            Those of `PMPoseHead.loss` and of `box_losses`.
        """
        # Only training needs these two modules.
        from pipeline.poses.box_losses import box_losses, box_targets
        from pipeline.poses.pmpose_losses import pose_losses

        upsampled = self.deconv_layers(feats[-1])
        losses = pose_losses(self, feats[-1], self.final_layer(upsampled), batch_data_samples)
        boxes, known, judged = box_targets(batch_data_samples, upsampled.device)
        added = box_losses(self.box_layers(feats[-1], upsampled), boxes, known, judged)
        names = ('loss_box_sides', 'loss_box_iou', 'loss_box_score')
        for name, weight in zip(names, self.box_weights, strict=True):
            added[name] = added[name] * weight
        return {**losses, **added}
