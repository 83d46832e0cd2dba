"""Detection in the whole image and in overlapping slices of it, which shows small people larger.

Wraps any detector. Images without a loop, such as frames of a video, use it in the same way:
``SlicedDetector(detector, SliceConfig('2x2')).predict_batch(images)``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import ceil
from typing import Literal

import numpy as np

from ..boxes import box_nms
from ..masks import Masks
from ..stages import Detector
from ..structures import Detections, Image, size_of

EDGE = 4  # px; a box this close to an inner edge of its slice may be a part of a person
Window = tuple[int, int, int, int]  # xyxy px of a slice


@dataclass(frozen=True)
class SliceConfig:
    """Slices of the image that the detector sees enlarged, beside the whole image."""

    grid: str | None = None  # columns x rows, such as '2x2'; None: the whole image only
    overlap: float = 0.25  # of two neighbouring slices, as a fraction of their side
    from_round: Literal[1, 2] = 1  # 2: round one sees the whole image only
    max_iou: float = 0.5  # box NMS between the people of all slices

    def __post_init__(self) -> None:
        if self.grid is not None and not re.fullmatch('[1-9]x[1-9]', self.grid):
            raise ValueError(
                f'detector.slices.grid must be columns x rows such as 2x2 or 3x2, or None, got '
                f'{self.grid!r}'
            )
        for name, value in (('overlap', self.overlap), ('max_iou', self.max_iou)):
            if not 0 <= value < 1:
                raise ValueError(f'detector.slices.{name} must be in [0, 1), got {value}')


@dataclass(frozen=True)
class SlicedDetector(Detector):
    """Runs a detector on the whole image and on slices of it, and merges what it finds.

    Slices of one image have the same size, so that they share forward passes of the detector.
    """

    inner: Detector
    config: SliceConfig
    max_people: int | None = None  # best people kept per image; None: all

    def __call__(self, image: Image) -> Detections:
        """Detect people in an RGB uint8 image (H, W, 3), highest score first."""
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[Image]) -> list[Detections]:
        """Detect people in every image; images may differ in size."""
        slices = [make_slices(size_of(image), self.config) for image in images]
        views = [
            image[y1:y2, x1:x2]
            for image, windows in zip(images, slices, strict=True)
            for x1, y1, x2, y2 in windows
        ]
        found = iter(self.inner.predict_batch([*images, *views]))
        whole = [next(found) for _ in images]
        return [
            self._merge(first, [_uncrop(next(found), window, size_of(image)) for window in windows])
            for first, image, windows in zip(whole, images, slices, strict=True)
        ]

    def _merge(self, whole: Detections, slices: Sequence[Detections]) -> Detections:
        merged = reduce(Detections.concat, slices, whole)
        keep = box_nms(merged.boxes, merged.box_scores, self.config.max_iou)
        return merged.select(keep[: self.max_people])


def make_slices(shape: tuple[int, int], config: SliceConfig) -> list[Window]:
    """Slices of an image (H, W) as xyxy px, row by row; all have the same size."""
    grid = (config.grid or '1x1').split('x')
    columns, rows = (
        _cut(side, int(count), config.overlap)
        for side, count in zip(shape[::-1], grid, strict=True)
    )
    return [(x1, y1, x2, y2) for y1, y2 in rows for x1, x2 in columns]


def _cut(side: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Start and stop of ``count`` equal parts that cover a side and overlap."""
    length = ceil(side / (count - (count - 1) * overlap))
    starts = np.linspace(0, side - length, count).round().astype(int).tolist()
    return [(start, start + length) for start in starts]


def _uncrop(found: Detections, window: Window, shape: tuple[int, int]) -> Detections:
    """Detections of a slice in an image (H, W), without those at its inner edges."""
    x1, y1, x2, y2 = window
    gaps = np.concatenate([found.boxes[:, :2], [x2 - x1, y2 - y1] - found.boxes[:, 2:]], axis=1)
    is_inner = np.array([x1 > 0, y1 > 0, x2 < shape[1], y2 < shape[0]])
    found = found.select(~((gaps < EDGE) & is_inner).any(axis=1))
    masks = found.detector_masks
    places = zip(masks.offsets.tolist(), masks.crops, strict=True)
    return Detections(
        found.boxes + np.array([x1, y1, x1, y1], np.float32),
        found.box_scores,
        Masks.from_places(*shape, ((x + x1, y + y1, crop) for (x, y), crop in places)),
    )
