"""People looked at one by one: each is cut out of the photo and has an embedding of its own.

A SAM 2 model sees a photo as one small square, in which people of a crowd are a few cells wide. In
a cut-out everybody is about equally large, whatever the photo, and a small square is enough.

Legend: n people, H x W photo, S side of the square that a cut-out is scaled to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..boxes import box_of_mask
from ..structures import Floats, Ints
from .image_size import check_image_size


@dataclass(frozen=True)
class CropSegmentationConfig:
    """How people are cut out."""

    image_size: int = 192  # S, px; a multiple of 32
    margin: float = 1.5  # side of the window, in longer sides of the person's box
    # Without a box prompt the first look is around the prompt points alone: side of that window, in
    # longer sides of the box around them, and at least this share of the photo's longer side.
    first_margin: float = 3.0
    # Lower limit of that window without a box prompt, as a fraction of the image's longer side.
    first_fraction: float = 0.36

    def __post_init__(self) -> None:
        check_image_size(self.image_size, 'crop_segmentation.image_size')
        for name in ('margin', 'first_margin'):
            if getattr(self, name) < 1:
                raise ValueError(
                    f'crop_segmentation.{name} must be >= 1, got {getattr(self, name)}'
                )
        if not 0 < self.first_fraction <= 1:
            raise ValueError(
                f'crop_segmentation.first_fraction must be in (0, 1], got {self.first_fraction}'
            )


def windows_around(
    boxes: Floats, points: Floats, size: tuple[int, int], margin: float, least: float = 1.0
) -> Ints:
    """Square windows around people, cut at the edges of the photo.

    Args:
        boxes: (n, 4) xyxy px.
        points: (n, P, 2) px, prompt points, which are in the window as well.
        size: H, W.
        margin: side of the window, in longer sides of what is in it.
        least: px; no window is smaller before it is cut.

    Returns:
        (n, 4) xyxy px, each at least one pixel wide and high.
    """
    photo = np.array(size[::-1], np.float32)
    corners = np.concatenate([boxes.reshape(-1, 2, 2), points], axis=1).clip(0, photo)
    low, high = corners.min(1), corners.max(1)
    reach = np.maximum((high - low).max(1, keepdims=True) * margin, least) / 2
    middle = (low + high) / 2
    start = np.floor(middle - reach).clip(0, photo - 1)
    stop = np.ceil(middle + reach).clip(start + 1, photo)
    return np.asarray(np.concatenate([start, stop], axis=1), np.int32)


def first_windows(points: Floats, size: tuple[int, int], crops: CropSegmentationConfig) -> Ints:
    """Windows around people of whom only prompt points are known.

    Args:
        points: (n, P, 2) px.
        size: H, W.
        crops: the settings.

    Returns:
        (n, 4) as of `windows_around`.
    """
    boxes = np.concatenate([points.min(1), points.max(1)], axis=1)
    # One point says nothing about the size: the whole photo.
    share = crops.first_fraction if points.shape[1] > 1 else 2.0
    return windows_around(boxes, points, size, crops.first_margin, share * max(size))


def boxes_of_places(places: Sequence[tuple[int, int, Any]], windows: Ints) -> Floats:
    """Boxes of soft masks; an empty one has that of its window.

    Args:
        places: n of left and top pixel and logits (h, w).
        windows: (n, 4) xyxy px.

    Returns:
        (n, 4) xyxy px.
    """
    boxes = windows.astype(np.float32)
    for row, (left, top, logits) in enumerate(places):
        inside = logits > 0
        if inside.any():
            boxes[row] = box_of_mask(inside) + np.array([left, top, left, top])
    return boxes
