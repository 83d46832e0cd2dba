"""A top-down estimator with a backbone that can be frozen."""

from __future__ import annotations

from typing import Any

import torch
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import MODELS
from torch import Tensor


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class FreezableTopdownPoseEstimator(TopdownPoseEstimator):  # type: ignore[misc,unused-ignore]
    """`TopdownPoseEstimator` with `freeze_backbone`, a setting of the released PMPose configs.

    A frozen backbone stays in evaluation mode (no drop path, fixed batch statistics) and stores no
    activations. `frozen_stages` of MMPretrain's transformer does neither.

    Args:
        freeze_backbone: Train neck and head only.
        **kwargs: Arguments of `TopdownPoseEstimator`.
    """

    def __init__(self, *, freeze_backbone: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> FreezableTopdownPoseEstimator:
        """Set the mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            inputs: float, shape (B, 3, H, W).

        Returns:
            Feature maps of the neck, or of the backbone without a neck.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_backbone):
            features: tuple[Tensor, ...] = self.backbone(inputs)
        if self.with_neck:
            features = self.neck(features)
        return features
