"""The instance score: one number per person that ranks boxes, masks and poses alike.

    score = detector^a * pose^b * mask^c

detector: score of the box; pose: mean score of the keypoints scored above 0.2 (the rule of
MMPose's ``CocoMetric``), 0 when there is none; mask: mask quality predicted by SAM. A fallback
mask has no prediction, so detector and pose alone rank the person. Then `later_rounds` multiplies
the score of people found after round one, and `root` is applied
(`pipeline.instances.build_result`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import Floats, Ints
from .masks import MaskSource
from .values import check_ranges

CONFIDENT_KEYPOINT = 0.2


@dataclass(frozen=True)
class ScoreConfig:
    """Exponents of the instance score (0 removes a factor) and the factor for later rounds.

    The product of three scores is low even if each score is high. `root` reports a root of the
    product; with the sum of the exponents it is the geometric mean. It changes neither the order of
    people nor the assignment of disputed pixels, which uses the product.
    """

    detector: float = 1.0  # exponent of the score of the detection
    pose: float = 1.0  # exponent of the mean keypoint score
    mask: float = 1.0  # exponent of the mask quality that SAM predicts
    later_rounds: float = 1.0  # factor for people found after round one
    root: float = 1.0  # the root of the product that is reported; 1: the product itself

    def __post_init__(self) -> None:
        check_ranges(
            self, 'score', detector='>= 0', pose='>= 0', mask='>= 0', later_rounds='in [0, 1]',
            root='>= 1',
        )  # fmt: skip


def pose_scores(keypoint_scores: Floats) -> Floats:
    """Mean score (N,) of the confident keypoints of (N, K); 0 where there is none."""
    confident = keypoint_scores > CONFIDENT_KEYPOINT
    total = np.where(confident, keypoint_scores, 0).sum(1)
    return np.asarray(total / np.maximum(confident.sum(1), 1), np.float32)


def instance_scores(
    box_scores: Floats,
    keypoint_scores: Floats,
    mask_scores: Floats,
    mask_sources: Ints,
    config: ScoreConfig,
) -> Floats:
    """Instance scores (N,) in [0, 1] from the scores of the three stages."""
    mask = np.where(mask_sources == MaskSource.SAM, mask_scores, 1.0).clip(0, 1)
    parts = (
        box_scores**config.detector,
        pose_scores(keypoint_scores) ** config.pose,
        mask**config.mask,
    )
    return np.asarray(np.prod(np.stack(parts), axis=0), np.float32)
