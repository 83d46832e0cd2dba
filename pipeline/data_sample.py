"""People as `InstanceData` of MMEngine; see `People.to_data_sample`."""

from __future__ import annotations

from typing import Any

from mmengine.structures import InstanceData


def make_instances(people: Any, with_masks: bool) -> InstanceData:
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
    return instances
