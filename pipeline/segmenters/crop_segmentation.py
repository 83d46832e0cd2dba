"""Windows for segmenting each person in a separate crop.

SAM 2 resizes the image to one square, in which people of a crowd may be a few cells wide. In crops,
all people have a similar size, and a small square is enough.

Legend: n people, H x W image, S side of the square that a crop is scaled to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..boxes import box_of_mask
from ..structures import Floats, Ints
from ..values import check_ranges


@dataclass(frozen=True)
class CropSegmentationConfig:
    """Size of the crops."""

    image_size: int = 192  # S, px; a multiple of 32
    margin: float = 1.5  # side of the window, in longer sides of the person's box
    # Without a box prompt: side of the first window, in longer sides of the box around the prompt
    # points.
    first_margin: float = 3.0
    # Lower limit of that window without a box prompt, as a fraction of the image's longer side.
    first_fraction: float = 0.36

    def __post_init__(self) -> None:
        check_ranges(
            self, 'crop_segmentation', image_size='a positive multiple of 32', margin='>= 1',
            first_margin='>= 1', first_fraction='in (0, 1]',
        )  # fmt: skip


def windows_around(
    boxes: Floats, points: Floats, size: tuple[int, int], margin: float, min_side: float = 1.0
) -> Ints:
    """Compute square windows around people, clipped to the image.

    Args:
        boxes: (n, 4) xyxy px.
        points: (n, P, 2) px, prompt points, also inside the window.
        size: H, W.
        margin: Side of the window, in longer sides of the box around box and points.
        min_side: px, smallest side before clipping.

    Returns:
        (n, 4) xyxy px, each at least one pixel wide and high.
    """
    limit = np.array(size[::-1], np.float32)
    corners = np.concatenate([boxes.reshape(-1, 2, 2), points], axis=1).clip(0, limit)
    low, high = corners.min(1), corners.max(1)
    reach = np.maximum((high - low).max(1, keepdims=True) * margin, min_side) / 2
    middle = (low + high) / 2
    start = np.floor(middle - reach).clip(0, limit - 1)
    stop = np.ceil(middle + reach).clip(start + 1, limit)
    return np.asarray(np.concatenate([start, stop], axis=1), np.int32)


def first_windows(points: Floats, size: tuple[int, int], crops: CropSegmentationConfig) -> Ints:
    """Compute windows (n, 4) around prompt points (n, P, 2) px, in an image of size H, W."""
    boxes = np.concatenate([points.min(1), points.max(1)], axis=1)
    # One point does not determine the size: use the whole image.
    fraction = crops.first_fraction if points.shape[1] > 1 else 2.0
    return windows_around(boxes, points, size, crops.first_margin, fraction * max(size))


def boxes_of_places(places: Sequence[tuple[int, int, Any]], windows: Ints) -> Floats:
    """Compute the boxes of soft masks; an empty mask gets its window.

    Args:
        places: n tuples of left and top px and logits (h, w).
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
