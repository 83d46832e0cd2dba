"""Pose NMS: drop duplicate poses of a person.

Greedy: sort by quality, keep a pose, drop all later ones that are too similar to it. Dropped poses
suppress no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .boxes import box_areas
from .keypoints import COCO_SIGMAS
from .masks import Masks
from .scores import pose_scores
from .structures import Floats, People, Poses
from .values import check_ranges

Indices = npt.NDArray[np.int64]
Similarity = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PoseNMSConfig:
    """Settings of the pose NMS."""

    max_oks: float = 0.8  # a pose more similar than this to a better one is dropped
    confidence_threshold: float = 0.5  # keypoints scored above count for the similarity
    box_area: Literal['box', 'mask'] = 'box'  # person size inside OKS
    # The pose with the higher value is kept.
    quality: Literal['score', 'keypoint_score', 'num_confident'] = 'score'

    def __post_init__(self) -> None:
        check_ranges(self, 'pose_nms', max_oks='in (0, 1]', confidence_threshold='in [0, 1)')

    def keep(self, candidates: Candidates) -> Indices:
        """Rows that survive, ascending."""
        rows, confident = candidates, candidates.confident(self.confidence_threshold)
        similarity = oks_matrix(
            rows.keypoints, confident, rows.areas(self.box_area), rows.boxes, rows.sigmas
        )
        # A pose without a confident keypoint suppresses no other pose.
        similarity[~confident.any(1)] = 0
        return greedy_nms(similarity, rows.quality(self), self.max_oks)


def keep_distinct_poses(old: Poses, new: Poses, config: PoseNMSConfig) -> tuple[Indices, Indices]:
    """Rows of ``old`` and of ``new`` that survive, each in ascending order.

    Args:
        old: people found so far (their masks give the size when ``box_area='mask'``).
        new: poses of this round; on a tie in quality the old pose wins.
        config: settings.
    """
    kept = config.keep(Candidates.join(old, new))
    return kept[kept < len(old)], kept[kept >= len(old)] - len(old)


def oks_matrix(
    keypoints: npt.NDArray[Any],
    confident: npt.NDArray[np.bool_],
    areas: npt.NDArray[Any],
    boxes: npt.NDArray[Any],
    sigmas: npt.NDArray[np.float64] = COCO_SIGMAS,
) -> Similarity:
    """Object keypoint similarity (N, N) in [0, 1] of every pose j to every pose i.

    As in pycocotools ``COCOeval.computeOks`` with pose i as ground truth: its size, its
    confident keypoints. A pose without a confident keypoint is compared by the distance of j's
    points to its doubled box, again as COCO does.

    Args:
        keypoints: (N, K, 2) px.
        confident: (N, K) keypoints that count.
        areas: (N,) px^2.
        boxes: (N, 4) xyxy px.
        sigmas: (S,) of the first S keypoints; further ones are not compared.
    """
    points = keypoints[:, : len(sigmas)].astype(np.float64)
    use = confident[:, : len(sigmas)]
    variances = (2 * sigmas) ** 2
    sizes = areas.astype(np.float64) + np.spacing(1)
    result = np.zeros((len(points), len(points)))
    for i in range(len(points)):  # a row at a time: N x K temporaries, not N x N x K
        if use[i].any():
            squared = ((points[:, use[i]] - points[i, use[i]]) ** 2).sum(-1)
            result[i] = np.exp(-squared / (2 * variances[use[i]] * sizes[i])).mean(-1)
        else:
            squared = _squared_distance_to_doubled_box(points, boxes[i].astype(np.float64))
            result[i] = np.exp(-squared / (2 * variances * sizes[i])).mean(-1)
    return result


def greedy_nms(similarity: Similarity, quality: npt.NDArray[Any], max_similarity: float) -> Indices:
    """Rows kept, ascending: best quality first, ties to the earlier row."""
    alive = np.ones(len(similarity), bool)
    kept = []
    for i in np.argsort(-quality, kind='stable').tolist():
        if alive[i]:
            kept.append(i)
            alive &= ~(similarity[i] > max_similarity)
    return np.array(sorted(kept), np.int64)


@dataclass(frozen=True)
class Candidates:
    """Columns of old and new poses that the NMS uses."""

    boxes: Floats
    box_scores: Floats
    keypoints: Floats  # (N, S, 2) px, those that `KeypointSet.compared` names
    keypoint_scores: Floats  # (N, S)
    mask_areas: Floats
    sigmas: npt.NDArray[np.float64]  # (S,)

    @classmethod
    def join(cls, old: Poses, new: Poses) -> Candidates:
        """Old poses, then new ones."""
        names = ('boxes', 'box_scores', 'keypoints', 'keypoint_scores')
        columns = {n: np.concatenate([getattr(old, n), getattr(new, n)]) for n in names}
        kept = new.keypoint_set
        columns |= {n: kept.view(columns[n]) for n in names[2:]}
        areas = np.concatenate([_masks(old).areas, _masks(new).areas])
        return cls(**columns, mask_areas=areas, sigmas=kept.sigmas[kept.compared])

    def confident(self, threshold: float) -> npt.NDArray[np.bool_]:
        """Whether the score of each keypoint is above the threshold, (N, S)."""
        return np.asarray(self.keypoint_scores > threshold)

    def areas(self, kind: str) -> Floats:
        """Area of each person (N,) px^2: of the 'box', or of the 'mask' where one exists."""
        boxes = box_areas(self.boxes)
        if kind == 'mask':
            return np.where(self.mask_areas > 0, self.mask_areas, boxes)
        return boxes

    def quality(self, config: PoseNMSConfig) -> Floats:
        """Sort key of the poses (N,), higher is better."""
        if config.quality == 'num_confident':
            return np.asarray(self.confident(config.confidence_threshold).sum(1), np.float32)
        if config.quality == 'keypoint_score':
            return np.asarray(self.keypoint_scores.mean(1), np.float32)
        return np.asarray(self.box_scores * pose_scores(self.keypoint_scores))


def _masks(poses: Poses) -> Masks:
    return poses.masks if isinstance(poses, People) else poses.detector_masks


def _squared_distance_to_doubled_box(
    points: npt.NDArray[np.float64], box: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    low, size = box[:2], box[2:] - box[:2]
    outside = np.maximum(low - size - points, 0) + np.maximum(points - (low + 2 * size), 0)
    return np.asarray((outside**2).sum(-1))
