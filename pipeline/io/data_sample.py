"""`People` as the `PoseDataSample` that MMPose code works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..structures import People

if TYPE_CHECKING:
    from mmengine.structures import InstanceData
    from mmpose.structures import PoseDataSample


def people_to_data_sample(people: People, *, with_masks: bool = False) -> PoseDataSample:
    """Sample with ``pred_instances`` under the names that MMPose users know.

    As in a top-down prediction: ``bboxes`` (N, 4) xyxy px, ``bbox_scores`` (N,) of the detector,
    ``keypoints`` (N, K, 2) px, ``keypoint_scores`` (N, K). As in ProbPose:
    ``keypoints_visible`` (N, K), probability that nothing hides the point, and
    ``keypoints_probs`` (N, K), probability that it lies in the picture. MMPose's visualizer
    compares ``kpt_thr`` with ``keypoints_visible``. Ours: ``scores`` (N,) of the whole person,
    ``mask_scores`` (N,), ``mask_sources`` (N,) of `MaskSource`, ``detector_bboxes`` (N, 4),
    ``rounds`` (N,) and ``mask_rles``, N COCO RLE dicts. ``ori_shape`` and ``img_shape`` are (H, W).
    All arrays are numpy copies, float32 or int32.

    Args:
        people: N people.
        with_masks: add ``masks`` (N, H, W) bool, the layout of MMDetection; N x H x W bytes.
    """
    from mmpose.structures import PoseDataSample

    shape = people.image_shape
    sample = PoseDataSample(metainfo={'ori_shape': shape, 'img_shape': shape})
    sample.pred_instances = _instances(people, with_masks)
    return sample


def _instances(people: People, with_masks: bool) -> InstanceData:
    from mmengine.structures import InstanceData

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
        dense = np.zeros((len(people), *people.image_shape), bool)
        for i, crop in enumerate(people.masks.crops):
            dense[i][people.masks.window(i)] = crop
        instances.masks = dense
    return instances
