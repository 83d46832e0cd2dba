"""A top-down estimator whose backbone can stay as it is while the head is trained."""

from __future__ import annotations

from typing import Any

import torch
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import MODELS
from torch import Tensor


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class FreezableTopdownPoseEstimator(TopdownPoseEstimator):  # type: ignore[misc,unused-ignore]
    """`TopdownPoseEstimator` with the setting of the released PMPose configs.

    A frozen backbone also stays in evaluation mode (no drop path, fixed batch statistics) and
    keeps no activations. `frozen_stages` of MMPretrain's transformer does neither.

    Args:
        freeze_backbone: train neck and head only.
        **kwargs: of `TopdownPoseEstimator`.
    """

    def __init__(self, *, freeze_backbone: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> FreezableTopdownPoseEstimator:
        """Sets the mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Extracts features.

        Args:
            inputs: float, shape (B, 3, H, W).

        Returns:
            Feature maps of the neck, or of the backbone if there is no neck.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_backbone):
            features: tuple[Tensor, ...] = self.backbone(inputs)
        if self.with_neck:
            features = self.neck(features)
        return features
