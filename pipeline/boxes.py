"""Boxes: xyxy float32 pixels everywhere; other formats are converted here and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Floats
from .values import shorten


class BoxesError(ValueError):
    """The user's boxes of one image are invalid."""


def check_boxes(rows: npt.ArrayLike, shape: tuple[int, int]) -> Floats:
    """Convert the user's boxes of an image of ``shape`` (H, W) to an array (N, 4), xyxy px.

    Boxes may reach out of the image, by its longer side at most.

    Raises:
        BoxesError: The content is not N rows of four finite numbers, or a box has no area, is
            outside the image or is not in px.
    """
    form = 'boxes must be (N, 4): rows of x1, y1, x2, y2 in px of the upright image'
    try:
        boxes = np.asarray(rows)
    except (TypeError, ValueError, RecursionError) as error:
        raise BoxesError(f'{form}; got {shorten(rows)}') from error
    if boxes.ndim in (1, 2) and len(boxes) == 0:
        return np.zeros((0, 4), np.float32)
    if boxes.dtype.kind not in 'iuf' or boxes.ndim != 2 or boxes.shape[1] != 4:
        got = f'shape {boxes.shape}' if boxes.dtype.kind in 'iuf' else 'other values than numbers'
        hint = ' (one box is [[x1, y1, x2, y2]])' if boxes.shape == (4,) else ''
        if boxes.shape[1:] == (5,):
            hint = '; are the last ones scores? Give {"boxes": rows of four, "scores": N numbers}'
        raise BoxesError(f'{form}; got {got}: {shorten(boxes.tolist())}{hint}')
    height, width = shape
    first, last, reach = boxes[:, :2], boxes[:, 2:], max(shape)
    far = (first < -reach).any(1) | (last > [width + reach, height + reach]).any(1)
    relative = np.full(len(boxes), ((boxes >= 0) & (boxes <= 1)).all())
    for wrong, reason in (
        (~np.isfinite(boxes).all(1), 'is not finite'),
        (relative, 'and all others are within 0..1; are they fractions of the image?'),
        ((last <= first).any(1), 'needs x2 > x1 and y2 > y1; is it x, y, width, height?'),
        ((last <= 0).any(1) | (first >= [width, height]).any(1), 'is outside the image'),
        (far, 'reaches far out of the image'),
    ):
        if wrong.any():
            raise BoxesError(
                f'box {boxes[wrong][0].tolist()} {reason} (image: {width} x {height} px); {form}'
            )
    return boxes.astype(np.float32)


def xywh_to_xyxy(boxes_xywh: npt.ArrayLike) -> Floats:
    """Boxes (N, 4), or one (4,), from x, y, width, height to x1, y1, x2, y2 (N, 4)."""
    boxes = np.atleast_2d(np.array(boxes_xywh, np.float32))
    if boxes.size == 0:
        return np.zeros((0, 4), np.float32)
    if boxes.shape[1:] != (4,):
        raise ValueError(f'boxes must be (N, 4), got shape {boxes.shape}')
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def xyxy_to_xywh(boxes: Floats) -> Floats:
    """Boxes (N, 4) from x1, y1, x2, y2 to x, y, width, height, the format of COCO files."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def box_of_mask(mask: npt.NDArray[Any]) -> Floats:
    """Box (4,) xyxy px around the nonzero pixels of a mask (H, W); zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def box_areas(boxes: Floats) -> Floats:
    """Areas (N,) in px^2 of boxes (N, 4) xyxy."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def box_centers(boxes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Centres (N, 2) of boxes (N, 4) xyxy."""
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2)


def clip_boxes(boxes: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Boxes (N, 4) xyxy cut at the edges of an image (H, W)."""
    height, width = shape
    return np.clip(boxes, 0, [width, height, width, height])


def box_intersections(
    first: npt.NDArray[Any], second: npt.NDArray[Any], *, pixel: float = 0
) -> npt.NDArray[Any]:
    """Areas (N, M) px^2 that boxes (N, 4) and (M, 4) share; ``pixel`` as in `box_iou`."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray(np.prod(np.maximum(high - low + pixel, 0), axis=-1))


def box_iou(first: Floats, second: Floats, *, pixel: float = 0) -> Floats:
    """IoU (N, M) in [0, 1] of boxes (N, 4) and (M, 4) xyxy.

    Args:
        first: (N, 4) boxes.
        second: (M, 4) boxes.
        pixel: 1 adds a pixel to every side, the legacy rule of MMPose's box NMS
            (``mmpose/evaluation/functional/nms.py``); 0 is the plain definition.
    """
    inner = box_intersections(first, second, pixel=pixel)
    sizes = [np.prod(b[:, 2:] - b[:, :2] + pixel, axis=-1) for b in (first, second)]
    union = sizes[0][:, None] + sizes[1][None] - inner
    return np.asarray(inner / np.maximum(union, 1e-9), np.float32)


def box_nms(boxes: Floats, scores: Floats, max_iou: float, *, pixel: float = 1) -> npt.NDArray[Any]:
    """Greedy NMS: rows kept, best score first; ties keep the earlier row.

    One row of IoUs is computed per kept box, so the memory is linear in the number of boxes.

    Args:
        boxes: (N, 4) xyxy px.
        scores: (N,).
        max_iou: a box is dropped when its IoU with a kept one is above this.
        pixel: see `box_iou`; 1 as in MMPose and in the reference loop.
    """
    order = np.argsort(-scores, kind='stable')
    kept: list[int] = []
    while len(order):
        best, order = int(order[0]), order[1:]
        kept.append(best)
        iou = box_iou(boxes[[best]], boxes[order], pixel=pixel)[0]
        order = order[iou <= max_iou]
    return np.array(kept, np.int64)


def max_neighbour_iou(boxes: Floats) -> Floats:
    """Highest IoU (N,) of each box (N, 4) xyxy with any other one; 0 when alone."""
    if len(boxes) < 2:
        return np.zeros(len(boxes), np.float32)
    rows = (np.delete(box_iou(boxes[[i]], boxes)[0], i).max() for i in range(len(boxes)))
    return np.fromiter(rows, np.float32, len(boxes))
