"""JSON content with the layout of MMPose's inferencer."""

from __future__ import annotations

from typing import Any

from ..keypoints import COCO_17, COCO_FLIP, KeypointSet
from ..structures import People


def mmpose_content(people: People) -> dict[str, Any]:
    """Build ``meta_info`` and ``instance_info`` of the people of an image."""
    rows = [
        {
            'person_id': i + 1,
            'keypoints': people.keypoints[i].tolist(),
            'keypoint_scores': people.keypoint_scores[i].tolist(),
            'bbox': [people.boxes[i].tolist()],
            'bbox_score': float(people.box_scores[i]),
            'score': float(people.scores[i]),
            'keypoints_visible': people.visibility[i].tolist(),
            'keypoints_probs': people.presence[i].tolist(),
        }
        for i in range(len(people))
    ]
    return {'meta_info': build_mmpose_meta(people.keypoint_set), 'instance_info': rows}


def build_mmpose_meta(keypoint_set: KeypointSet) -> dict[str, Any]:
    """Build the keypoint part of MMPose's ``dataset_meta`` as JSON content."""
    is_coco = keypoint_set is COCO_17
    meta = {
        'num_keypoints': keypoint_set.num,
        'keypoint_id2name': dict(enumerate(keypoint_set.names)),
        'keypoint_name2id': {name: i for i, name in enumerate(keypoint_set.names)},
        'dataset_name': 'coco' if is_coco else keypoint_set.name,
    }
    if is_coco:
        meta['flip_indices'] = list(COCO_FLIP)
    meta['skeleton_links'] = [list(bone) for bone in keypoint_set.skeleton]
    if keypoint_set.bone_colours:
        meta['skeleton_link_colors'] = [list(colour) for colour in keypoint_set.bone_colours]
    return {**meta, 'sigmas': keypoint_set.sigmas.tolist()}
