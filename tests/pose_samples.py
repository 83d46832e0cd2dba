"""Samples with targets, as `PackPoseInputs` makes them, for tests of pose heads."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.structures import PoseDataSample

from pipeline.poses.oks_heatmap import OKSArgMaxHeatmap

SIZES = {'input_size': (144, 192), 'heatmap_size': (36, 48)}


def sample_of(points: np.ndarray, levels: np.ndarray) -> PoseDataSample:
    """A sample with the targets of `OKSArgMaxHeatmap`; points in input px."""
    encoded = OKSArgMaxHeatmap(**SIZES).encode(points[None], levels[None])
    sample = PoseDataSample(
        metainfo={'input_size': SIZES['input_size'], 'input_scale': np.array([72.0, 96.0])}
    )
    sample.gt_fields = PixelData(heatmaps=torch.from_numpy(encoded.pop('heatmaps')))
    sample.gt_instance_labels = InstanceData(**{k: torch.from_numpy(v) for k, v in encoded.items()})
    sample.gt_instances = InstanceData(
        transformed_keypoints=points[None].astype(np.float32),
        bboxes=np.array([[10, 10, 50, 90]], np.float32),
    )
    return sample


def oks_samples(k: int) -> list[PoseDataSample]:
    rng = np.random.default_rng(k)
    points = rng.uniform(-10, 150, (2, k, 2))
    return [sample_of(p, rng.integers(0, 3, k).astype(float)) for p in points]
