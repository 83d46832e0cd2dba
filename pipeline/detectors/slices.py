"""Detection in the whole image and in overlapping slices of it, which shows small people larger.

Wraps any detector. Images without a loop, such as frames of a video, use it in the same way:
``SlicedDetector(detector, SliceConfig('2x2')).predict_batch(images)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import ceil

import numpy as np

from ..boxes import box_nms
from ..masks import Masks
from ..stages import Detector
from ..structures import Detections, Image, size_of
from .slice_config import SliceConfig as SliceConfig

EDGE = 4  # px; a box this close to an inner edge of its slice may be a part of a person
Window = tuple[int, int, int, int]  # xyxy px of a slice


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
    """Slices of an image (H, W) as xyxy px, row by row; all have the same size.

    Empty where one slice would be the whole image.
    """
    columns, rows = (
        _cut(side, config.count(side, axis), config.overlap)
        for axis, side in enumerate(shape[::-1])
    )
    slices = [(x1, y1, x2, y2) for y1, y2 in rows for x1, x2 in columns]
    return slices if len(slices) > 1 else []


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
