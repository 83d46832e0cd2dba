"""JSON content with the layout of MMPose's inferencer."""

from __future__ import annotations

from typing import Any

from ..keypoints import COCO_FLIP, COCO_NAMES, COCO_SIGMAS, COCO_SKELETON, keypoint_names
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
    return {'meta_info': build_mmpose_meta(people.num_keypoints), 'instance_info': rows}


def build_mmpose_meta(num_keypoints: int) -> dict[str, Any]:
    """Build the keypoint part of MMPose's ``dataset_meta`` as JSON content."""
    names = keypoint_names(num_keypoints)
    meta: dict[str, Any] = {
        'num_keypoints': num_keypoints,
        'keypoint_id2name': dict(enumerate(names)),
        'keypoint_name2id': {name: i for i, name in enumerate(names)},
    }
    if names == COCO_NAMES:
        meta |= {
            'dataset_name': 'coco',
            'flip_indices': list(COCO_FLIP),
            'skeleton_links': [list(bone) for bone in COCO_SKELETON],
            'sigmas': COCO_SIGMAS.tolist(),
        }
    return meta
