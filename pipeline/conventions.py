"""Keypoint conventions that people are annotated and scored in, as data.

``coco17`` are the keypoints of COCO (`pipeline.keypoints`), ``crowdpose14`` those of CrowdPose.
Legend: N people, K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .keypoints import COCO_NAMES, COCO_SIGMAS, NUM_COCO

Floats = npt.NDArray[np.float32]
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


def convention_of_names(names: Sequence[str]) -> Convention | None:
    """The convention that keypoint names of a COCO category mean; None if it is none of ours.

    Names decide, not their number: AIC has 14 keypoints in another order, and PoseTrack18 has 17
    with two points of the head in place of the eyes. What follows the 17 of COCO is left alone,
    as files with more points (HumanArt) repeat the 17 under ``keypoints``.
    """
    plain = tuple(name.strip().lower().replace(' ', '_') for name in names)
    if plain[:NUM_COCO] == COCO_NAMES:
        return 'coco17'
    heads = {'head', 'top_head', 'head_top'}
    same = plain[:12] == CROWDPOSE_NAMES[:12] and plain[13:] == ('neck',) and plain[12] in heads
    return 'crowdpose14' if same else None


# Index there -> index here, as in the configs of MMPose (`rtmpose/body8`, `rtmo/crowdpose`).
AIC_TO_COCO = {0: 6, 1: 8, 2: 10, 3: 5, 4: 7, 5: 9, 6: 12, 7: 14, 8: 16, 9: 11, 10: 13, 11: 15}
MPII_TO_COCO = {0: 16, 1: 14, 2: 12, 3: 11, 4: 13, 5: 15, 10: 10, 11: 8, 12: 6, 13: 5, 14: 7, 15: 9}
COCO_TO_CROWDPOSE = {5 + i: i for i in range(12)}

# Models trained on several data sets have these two (neck and head top as AIC has them), by K:
# 21 MaskPose 1.0 and ViTPose-multi, 23 MaskPose 1.1 and PMPose.
_OWN_HEAD_AND_NECK = {21: (19, 17), 23: (22, 21)}

# With 17 keypoints, head top and neck are estimated on the line from the middle of the shoulders
# to the face. How many times as far away as a point of the face the head top is, for people who
# stand: shoulders, nose, ears, eyes and head top at 0.80, 0.914, 0.93, 0.936 and 1 of the height
# (Drillis and Contini 1966; for the nose, upright people of PoseTrack18 have 1.71 to 1.79).
_FACE_TO_TOP = {(0,): 1.75, (1, 2): 1.5, (3, 4): 1.55}
# The annotated neck lies above the shoulders: 0.18 to 0.21 of the way to the head top in the
# people of CrowdPose, 0.23 (median) in those of AIC that were looked at.
_NECK_SHARE = 0.2


def to_convention(
    keypoints: npt.ArrayLike, scores: npt.ArrayLike, convention: Convention
) -> tuple[Floats, Floats]:
    """Predicted keypoints in another convention.

    The first 17 points are those of COCO. For ``crowdpose14`` the 12 points of the limbs are
    taken over. Neck and head top are the model's own if it has them (K = 21 or 23: AIC's, as the
    two are annotated alike); else they are estimated from shoulders and face, with the score of
    the weakest part: the lower one of the shoulders, and for the head top at most the best of
    the face. An estimate is right for people who hold their head up; a bowed or turned head
    costs AP, which is a limit of models with 17 keypoints and not of their poses.

    Args:
        keypoints: (N, K, 2) px, K >= 17.
        scores: (N, K), >= 0.
        convention: the one to return.

    Returns:
        keypoints (N, K', 2) float32 px and scores (N, K') float32; K' = 17 or 14.

    Raises:
        ValueError: fewer than 17 keypoints, shapes that do not fit, or an unknown convention.
    """
    points, weights = np.asarray(keypoints, np.float32), np.asarray(scores, np.float32)
    if points.ndim != 3 or points.shape[2] != 2 or points.shape[1] < NUM_COCO:
        raise ValueError(f'keypoints must be (N, K >= {NUM_COCO}, 2), got {points.shape}')
    if weights.shape != points.shape[:2]:
        raise ValueError(f'scores must be {points.shape[:2]}, got {weights.shape}')
    if convention == 'coco17':
        return points[:, :NUM_COCO], weights[:, :NUM_COCO]
    if convention != 'crowdpose14':
        raise ValueError(
            f'convention must be one of {", ".join(KEYPOINT_SETS)}, got {convention!r}'
        )
    own = _OWN_HEAD_AND_NECK.get(points.shape[1])
    if own is not None:
        head, head_scores = points[:, own], weights[:, own]
    else:
        head, head_scores = _estimate_head_and_neck(points, weights)
    limbs = list(COCO_TO_CROWDPOSE)
    return (
        np.concatenate([points[:, limbs], head], axis=1),
        np.concatenate([weights[:, limbs], head_scores], axis=1),
    )


def _estimate_head_and_neck(points: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Head top and neck (N, 2, 2) with scores (N, 2) from 17 keypoints."""
    middle = points[:, 5:7].mean(1)
    tops = [middle + r * (points[:, f].mean(1) - middle) for f, r in _FACE_TO_TOP.items()]
    # A face that nobody saw (all scores 0) is averaged all the same; its score stays 0.
    weights = np.stack([scores[:, f].mean(1) for f in _FACE_TO_TOP], axis=1) + 1e-6
    weights /= weights.sum(1, keepdims=True)
    top = (np.stack(tops, axis=1) * weights[..., None]).sum(1)
    neck = middle + _NECK_SHARE * (top - middle)
    neck_score = scores[:, 5:7].min(1)
    top_score = np.minimum(neck_score, scores[:, :5].max(1))
    estimate = np.stack([top, neck], axis=1), np.stack([top_score, neck_score], axis=1)
    return estimate[0].astype(np.float32), estimate[1].astype(np.float32)
