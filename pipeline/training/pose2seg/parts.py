"""Registration of all classes of this package that a config may name."""

from __future__ import annotations

from .dataset import PoseMaskDataset
from .export import ExportSamHook
from .metric import PromptMetric
from .model import PromptedSam, PromptedSamPreprocessor
from .optimizer import TrainedPartsConstructor
from .transforms import (
    AffinePose,
    FlipPose,
    GrayscalePose,
    JitterPose,
    LoadPoseImage,
    PackPromptedPoses,
)

__all__ = [
    'AffinePose',
    'ExportSamHook',
    'FlipPose',
    'GrayscalePose',
    'JitterPose',
    'LoadPoseImage',
    'PackPromptedPoses',
    'PoseMaskDataset',
    'PromptMetric',
    'PromptedSam',
    'PromptedSamPreprocessor',
    'TrainedPartsConstructor',
]
