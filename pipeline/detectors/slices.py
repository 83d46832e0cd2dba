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
import numpy.typing as npt

from ..boxes import box_nms
from ..masks import Masks
from ..stages import Detector
from ..structures import Detections, Floats, Image, size_of

EDGE = 4  # px; a box this close to an inner edge of its slice may be a part of a person
_GRID = re.compile(r'([1-9])x([1-9])')


@dataclass(frozen=True)
class SliceConfig:
    """Slices of the image that the detector sees enlarged, beside the whole image."""

    grid: str | None = None  # columns x rows, such as '2x2'; None: the whole image only
    overlap: float = 0.25  # of two neighbouring slices, as a fraction of their side
    from_round: Literal[1, 2] = 1  # 2: round one sees the whole image only
    max_iou: float = 0.5  # box NMS between the people of all slices

    def __post_init__(self) -> None:
        if self.grid is not None and not _GRID.fullmatch(self.grid):
            raise ValueError(
                f'detector.slices.grid must be columns x rows such as 2x2 or 3x2, or None, got '
                f'{self.grid!r}'
            )
        if not 0 <= self.overlap < 1:
            raise ValueError(f'detector.slices.overlap must be in [0, 1), got {self.overlap}')
        if not 0 <= self.max_iou <= 1:
            raise ValueError(f'detector.slices.max_iou must be in [0, 1], got {self.max_iou}')


class SlicedDetector(Detector):
    """Runs a detector on the whole image and on slices of it, and merges what it finds.

    Slices of one image have the same size, so that they share forward passes of the detector.

    Args:
        inner: Any detector.
        config: Slices; its grid is set.
        max_people: Keep at most this many people of an image; None keeps all.
    """

    def __init__(self, inner: Detector, config: SliceConfig, max_people: int | None = None) -> None:
        self.inner = inner
        self.config = config
        self.max_people = max_people

    def __call__(self, image: Image) -> Detections:
        """Detect people in an RGB uint8 image (H, W, 3), highest score first."""
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[Image]) -> list[Detections]:
        """Detect people in every image; images may differ in size."""
        windows = [make_slices(size_of(image), self.config) for image in images]
        views = [
            image[y1:y2, x1:x2]
            for image, rows in zip(images, windows, strict=True)
            for x1, y1, x2, y2 in rows
        ]
        found = iter(self.inner.predict_batch([*images, *views]))
        whole = [next(found) for _ in images]
        return [
            self._merge(first, [_uncrop(next(found), window, size_of(image)) for window in rows])
            for first, image, rows in zip(whole, images, windows, strict=True)
        ]

    def _merge(self, whole: Detections, slices: Sequence[Detections]) -> Detections:
        merged = reduce(Detections.concat, slices, whole)
        keep = box_nms(merged.boxes, merged.box_scores, self.config.max_iou)
        return merged.select(keep[: self.max_people])


def make_slices(shape: tuple[int, int], config: SliceConfig) -> list[tuple[int, int, int, int]]:
    """Slices of an image (H, W) as xyxy px, row by row; all have the same size.

    Raises:
        ValueError: The config has no grid.
    """
    match = _GRID.fullmatch(config.grid or '')
    if match is None:
        raise ValueError('slices need a grid such as 2x2, got None')
    columns, rows = (
        _cut(side, int(count), config.overlap)
        for side, count in zip(shape[::-1], match.groups(), strict=True)
    )
    return [(x1, y1, x2, y2) for y1, y2 in rows for x1, x2 in columns]


def _cut(side: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Start and stop of ``count`` equal parts that cover a side and overlap."""
    length = ceil(side / (count - (count - 1) * overlap))
    starts = np.linspace(0, side - length, count).round().astype(int).tolist()
    return [(start, start + length) for start in starts]


def _uncrop(
    found: Detections, window: tuple[int, int, int, int], shape: tuple[int, int]
) -> Detections:
    """Detections of a slice in an image (H, W), without those at its inner edges."""
    height, width = shape
    x1, y1, _, _ = window
    found = found.select(~_at_inner_edge(found.boxes, window, shape))
    masks = found.detector_masks
    places = zip(masks.offsets.tolist(), masks.crops, strict=True)
    return Detections(
        found.boxes + np.array([x1, y1, x1, y1], np.float32),
        found.box_scores,
        Masks.from_places(height, width, ((x + x1, y + y1, crop) for (x, y), crop in places)),
    )


def _at_inner_edge(
    boxes: Floats, window: tuple[int, int, int, int], shape: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Whether boxes (N, 4) of a slice touch an edge of it that is none of the image; (N,) bool."""
    x1, y1, x2, y2 = window
    gaps = np.concatenate([boxes[:, :2], [x2 - x1, y2 - y1] - boxes[:, 2:]], axis=1)
    is_inner = np.array([x1 > 0, y1 > 0, x2 < shape[1], y2 < shape[0]])
    return np.asarray(((gaps < EDGE) & is_inner).any(axis=1))
