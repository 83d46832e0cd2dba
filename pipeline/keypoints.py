"""COCO's 17 keypoints: names, swaps, sigmas and bones.

Names, swaps and skeleton are those of the COCO person-keypoint categories; sigmas are those of
pycocotools ``Params.setKpParams``. Other keypoint sets: `pipeline.keypoint_sets`.
"""

from __future__ import annotations

import numpy as np

COCO_NAMES = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear',
    'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist',
    'left_hip', 'right_hip', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
)  # fmt: skip
NUM_COCO = len(COCO_NAMES)
PERSON = 1  # category id of a person in COCO

# Index of the mirrored keypoint.
COCO_FLIP = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)

COCO_SIGMAS = (
    np.array(
        [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72,
         0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89], np.float64,
    ) / 10
)  # fmt: skip

# Area of a person without a mask, in areas of the box, as in MMPose and in the evaluation code of
# CrowdPose.
AREA_OF_BOX = 0.53

# Bones as pairs of keypoint indices, from 0.
COCO_SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip

# Nose and eyes: the loop of BMP v1 keeps only one of them as a prompt.
FACE = (0, 1, 2)


def keypoint_names(num_keypoints: int) -> tuple[str, ...]:
    """Return COCO names for 17 keypoints, numbered names for other sets."""
    if num_keypoints == len(COCO_NAMES):
        return COCO_NAMES
    return tuple(f'keypoint_{i}' for i in range(num_keypoints))
