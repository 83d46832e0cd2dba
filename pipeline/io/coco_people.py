"""Conversion of COCO results of any program to `People`, for drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..boxes import xywh_to_xyxy
from ..keypoints import NUM_COCO
from ..masks import Masks
from ..structures import Floats, MaskSource, People
from ..values import shorten


def people_from_coco(rows: Sequence[dict[str, Any]], height: int, width: int) -> People:
    """Convert the COCO results of one image to `People`, in the same order.

    Only ``score`` is required. A missing mask is empty. Missing keypoints are at the center of the
    box with score 0. A missing box is the box of the mask or, without a mask, of the keypoints. The
    third number of a keypoint is its score. Presence and visibility default to 1.

    Args:
        rows: Results of one image.
        height: Image height, px.
        width: Image width, px.

    Raises:
        ValueError: A mask has another size, or the numbers of keypoints differ.
    """
    masks = Masks.from_dense((_row_mask(r, height, width) for r in rows), (height, width))
    points = [_row_keypoints(r) for r in rows]
    boxes = np.array(
        [_row_box(r, m, p) for r, m, p in zip(rows, masks.boxes, points, strict=True)], np.float32
    ).reshape(-1, 4)
    keypoints = np.array(points, np.float32).reshape(len(rows), -1 if rows else NUM_COCO, 3)
    absent = ~keypoints.any(-1, keepdims=True)
    center = boxes.reshape(-1, 2, 2).mean(1)[:, None]
    positions = np.where(absent, center, keypoints[..., :2])
    ones = np.ones(keypoints.shape[:2], np.float32)

    def column(key: str, default: Floats) -> Floats:
        values = [r.get(key, d) for r, d in zip(rows, default.tolist(), strict=True)]
        try:
            return np.array(values, np.float32).reshape(default.shape)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f'{key} of a result is not numbers: {shorten(values)}') from error

    scores = np.array([r['score'] for r in rows], np.float32)
    return People(
        boxes=boxes,
        box_scores=column('box_score', scores),
        detector_masks=Masks.empty(height, width, len(rows)),
        keypoints=np.asarray(positions, np.float32),
        keypoint_scores=keypoints[..., 2],
        presence=column('keypoint_presence', ones),
        visibility=column('keypoint_visibility', ones),
        masks=masks,
        mask_scores=column('mask_score', scores),
        mask_sources=np.full(len(rows), MaskSource.SAM, np.int32),
        prompts=np.full(keypoints.shape[:2], -1, np.int32),
        detector_boxes=boxes,
        rounds=column('round', np.ones(len(rows), np.float32)).astype(np.int32),
        scores=scores,
    )


def _row_mask(row: dict[str, Any], height: int, width: int) -> Any:
    if row.get('segmentation') is None:
        return np.zeros((height, width), bool)
    return Masks.from_rle([row['segmentation']], (height, width)).dense(0)


def _row_keypoints(row: dict[str, Any]) -> Any:
    """Rows of x, y, score (K, 3)."""
    flat = row.get('keypoints')
    return np.array([0] * 3 * NUM_COCO if flat is None else flat, np.float32).reshape(-1, 3)


def _row_box(row: dict[str, Any], mask_box: Any, points: Any) -> Any:
    """Box xyxy px."""
    if row.get('bbox') is not None:
        return xywh_to_xyxy(row['bbox'])[0]
    if row.get('segmentation') is not None:
        return mask_box
    return np.concatenate([points[:, :2].min(0), points[:, :2].max(0)])
