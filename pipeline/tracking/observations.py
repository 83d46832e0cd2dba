"""What a tracker compares of each person: box, pose, mask and colours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Image
from ..boxes import box_areas, box_centers
from ..keypoints import COCO_SIGMAS, NUM_COCO
from ..masks import Masks
from ..structures import People, Rows

Similarity = npt.NDArray[np.float64]
COLOR_BINS = 6  # per channel


@dataclass(frozen=True, eq=False)
class Observations(Rows):
    """Detections of one frame, or the last detection of each track."""

    boxes: Floats  # (N, 4) xyxy px
    box_scores: Floats  # (N,)
    keypoints: Floats  # (N, K, 2) px
    confident: npt.NDArray[np.bool_]  # (N, K) keypoints to compare
    colors: Floats  # (N, C) square roots of the normalized colour histograms
    masks: Masks

    @classmethod
    def collect(cls, people: People, image: Image, min_keypoint_score: float = 0.3) -> Observations:
        """Observations of N people in an image (H, W, 3) RGB."""
        return cls(
            people.boxes,
            people.box_scores,
            people.keypoints[:, :NUM_COCO],
            people.keypoint_scores[:, :NUM_COCO] > min_keypoint_score,
            color_histograms(image, people.masks),
            people.masks,
        )

    def shifted(self, rows: npt.NDArray[np.int64], boxes: Floats) -> Floats:
        """Offsets (M, 2) px from rows (M,) to boxes (M, 4): those of the centres of the boxes."""
        return np.asarray(box_centers(boxes) - box_centers(self.boxes[rows]), np.float32)


def color_histograms(image: Image, masks: Masks) -> Floats:
    """Colours (N, C) of the upper and lower half of each mask, as roots of frequencies.

    The dot product of two rows is their Bhattacharyya coefficient, 1 for equal colours.
    """
    bins = (cv2.cvtColor(image, cv2.COLOR_RGB2LAB) // (256 // COLOR_BINS + 1)).astype(np.int32)
    codes = (bins[..., 0] * COLOR_BINS + bins[..., 1]) * COLOR_BINS + bins[..., 2]
    size = COLOR_BINS**3
    result = np.zeros((len(masks), 2, size), np.float32)
    for i, crop in enumerate(masks.crops):
        values, middle = codes[masks.window(i)], len(crop) // 2
        for half, part in enumerate((slice(0, middle), slice(middle, None))):
            result[i, half] = np.bincount(values[part][crop[part]], minlength=size)
    rows = result.reshape(len(masks), 2 * size)
    return np.asarray(np.sqrt(rows / np.maximum(rows.sum(1, keepdims=True), 1)), np.float32)


def pose_similarity(
    first: Observations, second: Observations, pairs: tuple[npt.NDArray[np.int64], ...],
    shifts: Floats,
) -> Similarity:  # fmt: skip
    """OKS (P,) of pairs of rows, over the keypoints that are confident in both; -1 without any.

    Args:
        first: tracks.
        second: detections.
        pairs: rows (P,) of ``first`` and of ``second``.
        shifts: (P, 2) px, added to the keypoints of ``first``.
    """
    i, j = pairs
    both = first.confident[i] & second.confident[j]
    distances = first.keypoints[i] + shifts[:, None] - second.keypoints[j]
    areas = np.maximum(box_areas(second.boxes[j]), 1)[:, None]
    terms = np.exp(-(distances**2).sum(-1) / (2 * (2 * COCO_SIGMAS) ** 2 * areas))
    count = both.sum(1)
    return np.where(count > 0, (terms * both).sum(1) / np.maximum(count, 1), -1)


def mask_similarity(
    first: Observations, second: Observations, pairs: tuple[npt.NDArray[np.int64], ...],
    shifts: Floats,
) -> Similarity:  # fmt: skip
    """IoU (P,) of the masks of pairs of rows; arguments as in `pose_similarity`."""
    areas = first.masks.areas, second.masks.areas
    result = np.zeros(len(shifts))
    moves = np.rint(shifts).astype(int)
    for p, (i, j) in enumerate(zip(*pairs, strict=True)):
        (x1, y1), (x2, y2) = first.masks.offsets[i] + moves[p], second.masks.offsets[j]
        a, b = first.masks.crops[i], second.masks.crops[j]
        left, top = max(x1, x2), max(y1, y2)
        right = min(x1 + a.shape[1], x2 + b.shape[1])
        bottom = min(y1 + a.shape[0], y2 + b.shape[0])
        if left < right and top < bottom:
            shared = np.logical_and(
                a[top - y1 : bottom - y1, left - x1 : right - x1],
                b[top - y2 : bottom - y2, left - x2 : right - x2],
            ).sum()
            result[p] = shared / max(areas[0][i] + areas[1][j] - shared, 1)
    return result


def motion_distance(boxes: Similarity, targets: Floats) -> Similarity:
    """Distance (T, N) of predicted boxes (T, 4) and boxes (N, 4), in body heights.

    Where another person hides one side of a box, the opposite edges still agree, so the distance
    along each axis is that of the nearest pair of edges, plus a fifth of that of the centres.
    """
    height = np.maximum(boxes[:, 3] - boxes[:, 1], 1)[:, None, None]
    edges = np.abs(targets[None].astype(np.float64) - boxes[:, None]) / height
    nearest = np.minimum(edges[..., :2], edges[..., 2:])
    centers = np.abs(box_centers(targets)[None] - box_centers(boxes)[:, None]) / height
    return np.asarray(np.linalg.norm(nearest + 0.2 * centers, axis=2))
