"""Keypoint conventions that people are annotated and scored in, as data.

``coco17`` are the keypoints of COCO (`pipeline.keypoints`), ``crowdpose14`` those of CrowdPose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .keypoints import COCO_NAMES, COCO_SIGMAS, NUM_COCO

Convention = Literal['coco17', 'crowdpose14']

CROWDPOSE_NAMES = (
    'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist',
    'left_hip', 'right_hip', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
    'top_head', 'neck',
)  # fmt: skip

# As in the evaluation code of CrowdPose (and `_base_/datasets/crowdpose.py` of MMPose).
CROWDPOSE_SIGMAS = (
    np.array(
        [0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79],
        np.float64,
    ) / 10
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class KeypointSet:
    """The keypoints of one convention; K of them."""

    names: tuple[str, ...]
    sigmas: npt.NDArray[np.float64]  # (K,) of OKS

    @property
    def num(self) -> int:
        """K."""
        return len(self.names)


KEYPOINT_SETS: dict[Convention, KeypointSet] = {
    'coco17': KeypointSet(COCO_NAMES, COCO_SIGMAS),
    'crowdpose14': KeypointSet(CROWDPOSE_NAMES, CROWDPOSE_SIGMAS),
}

# Index of the point in COCO-17 -> index in CrowdPose-14; the rest is estimated.
COCO_TO_CROWDPOSE = {5 + i: i for i in range(12)}
assert len(CROWDPOSE_NAMES) == 14 and NUM_COCO == 17
