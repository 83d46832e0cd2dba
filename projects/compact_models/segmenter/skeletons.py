"""Masks known in part, from a box and keypoints: far more people have these than a mask.

On the bones of a skeleton is the person, outside of its box it is not; the rest is unknown.

Legend: n people, K keypoints, H x W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.keypoints import COCO_SKELETON

UNKNOWN = 2
"""Value of pixels that may or may not be the person's, beside 0 and 1."""

_TORSO = (5, 6, 12, 11)
_THICKNESS = 0.05  # of the bones, as a fraction of the box's side: thinner than an arm


def draw_skeleton(
    keypoints: NDArray[np.float32], visible: NDArray[np.bool_], side: float, hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """Pixels that a person surely covers: bones between visible keypoints, and the torso.

    Args:
        keypoints: (K, 2) px.
        visible: (K,); hidden ones lie behind something.
        side: of the person's box, px; the bones are drawn thinner than arms of that size.
        hw: size of the image.

    Returns:
        0 and 1, (H, W).
    """
    canvas = np.zeros(hw, np.uint8)
    points = np.rint(keypoints).astype(int)
    thickness = max(2, round(_THICKNESS * side))
    for first, second in COCO_SKELETON:
        if visible[first] and visible[second]:
            cv2.line(canvas, points[first].tolist(), points[second].tolist(), 1, thickness)
    if visible[list(_TORSO)].all():
        cv2.fillConvexPoly(canvas, points[list(_TORSO)], 1)
    for x, y in points[visible]:
        cv2.circle(canvas, (int(x), int(y)), thickness // 2, 1, -1)
    return canvas


def partial_masks(
    boxes: NDArray[np.float32], skeletons: Sequence[NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Masks of people in an image as far as their boxes and skeletons tell.

    The bones of one person are not another's; where bones cross, nothing is known.

    Args:
        boxes: (n, 4) xyxy px.
        skeletons: n masks (H, W) of 0 and 1.

    Returns:
        (n, H, W) of 0, 1 and `UNKNOWN`.
    """
    drawn = np.stack(skeletons) > 0
    masks = np.zeros(drawn.shape, np.uint8)
    count = drawn.sum(axis=0)
    corners = np.stack([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1).reshape(-1, 4)
    for mask, bones, box in zip(masks, drawn, corners.astype(int), strict=True):
        x1, y1, x2, y2 = box.clip(0)
        window = (slice(y1, y2), slice(x1, x2))
        own, any_bone = bones[window], count[window] > 0
        mask[window] = np.where(any_bone & ~own, 0, UNKNOWN)
        mask[window][own & (count[window] == 1)] = 1
    return masks
