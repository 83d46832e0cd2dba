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

from ..geometry import box_of_mask
from ..structures import Floats, Ints


@dataclass(frozen=True)
class ZoomConfig:
    """How people are cut out."""

    image_size: int = 192  # S, px; a multiple of 32
    margin: float = 1.5  # side of the window, in longer sides of the person's box

    def __post_init__(self) -> None:
        if self.image_size <= 0 or self.image_size % 32:
            raise ValueError(
                f'zoom.image_size must be a positive multiple of 32, got {self.image_size}'
            )
        if self.margin < 1:
            raise ValueError(f'zoom.margin must be >= 1, got {self.margin}')


def windows_around(boxes: Floats, points: Floats, size: tuple[int, int], margin: float) -> Ints:
    """Square windows around people, cut at the edges of the photo.

    Args:
        boxes: (n, 4) xyxy px.
        points: (n, P, 2) px, prompt points, which are in the window as well.
        size: H, W.
        margin: as in `ZoomConfig`.

    Returns:
        (n, 4) xyxy px, each at least one pixel wide and high.
    """
    photo = np.array(size[::-1], np.float32)
    corners = np.concatenate([boxes.reshape(-1, 2, 2), points], axis=1).clip(0, photo)
    low, high = corners.min(1), corners.max(1)
    reach = np.maximum((high - low).max(1, keepdims=True), 1) * margin / 2
    middle = (low + high) / 2
    start = np.floor(middle - reach).clip(0, photo - 1)
    stop = np.ceil(middle + reach).clip(start + 1, photo)
    return np.asarray(np.concatenate([start, stop], axis=1), np.int32)


def boxes_of_places(places: Sequence[tuple[int, int, Any]], size: tuple[int, int]) -> Floats:
    """Boxes of soft masks; an empty one has that of the whole photo.

    Args:
        places: n of left and top pixel and logits (h, w).
        size: H, W.

    Returns:
        (n, 4) xyxy px.
    """
    boxes = np.tile(np.array([0, 0, size[1], size[0]], np.float32), (len(places), 1))
    for row, (left, top, logits) in enumerate(places):
        inside = logits > 0
        if inside.any():
            boxes[row] = box_of_mask(inside) + np.array([left, top, left, top])
    return boxes
