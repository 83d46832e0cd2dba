"""Everything that this package adds to MMPose's registries, for `custom_imports`.

    custom_imports = dict(imports=['pipeline.poses.mmpose_parts'], allow_failed_imports=False)

Adds names; no stock name changes its meaning.
"""

from __future__ import annotations

from .conv_stem_vit import ConvStemViT
from .freezable_estimator import FreezableTopdownPoseEstimator
from .mask_background import MaskBackground
from .multi_head import MultiHead
from .oks_heatmap import OKSArgMaxHeatmap
from .oks_losses import L1LogLoss, OKSHeatmapLoss
from .pmpose_head import PMPoseHead
from .pmpose_losses import SpatialCrossEntropyLoss
from .train_transforms import KeepVisibilityLevels, RandomEdgesBlackout, RandomPatchesBlackout

__all__ = [
    'ConvStemViT', 'FreezableTopdownPoseEstimator', 'KeepVisibilityLevels', 'L1LogLoss',
    'MaskBackground', 'MultiHead', 'OKSArgMaxHeatmap', 'OKSHeatmapLoss', 'PMPoseHead',
    'RandomEdgesBlackout', 'RandomPatchesBlackout', 'SpatialCrossEntropyLoss',
]  # fmt: skip
