"""People as a data sample of MMPose; see `People.to_data_sample`."""

from __future__ import annotations

from typing import Any

from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample


def make_sample(people: Any, with_masks: bool) -> PoseDataSample:
    """Copy the columns of `People`; ``with_masks`` adds masks (N, H, W)."""
    instances = InstanceData(
        bboxes=people.boxes.copy(),
        bbox_scores=people.box_scores.copy(),
        scores=people.scores.copy(),
        keypoints=people.keypoints.copy(),
        keypoint_scores=people.keypoint_scores.copy(),
        keypoints_visible=people.visibility.copy(),
        keypoints_probs=people.presence.copy(),
        mask_scores=people.mask_scores.copy(),
        mask_sources=people.mask_sources.copy(),
        mask_rles=people.masks.to_rle(),
        detector_bboxes=people.detector_boxes.copy(),
        rounds=people.rounds.copy(),
    )
    if with_masks:
        instances.masks = people.masks.to_dense()
    shape = people.image_shape
    sample = PoseDataSample(metainfo={'ori_shape': shape, 'img_shape': shape})
    sample.pred_instances = instances
    return sample
