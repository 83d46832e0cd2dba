"""``coco_annotations.json``: the people as COCO annotations, for labelling tools and training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

import cv2
import numpy as np

from ..keypoints import COCO_17
from ..masks import Bitmap
from .atomic import dump_json
from .dataset_writers import JsonRows, image_row, make_category
from .records import MergeEntry


class CocoAnnotations:
    """COCO annotation file: polygons, boxes and keypoints (v = 0, 1, 2) of each person."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._images = stream, list[dict[str, Any]]()
        self._rows = JsonRows(stream, '{"annotations": [', '],')
        self._number, self._keypoint_set = 1, COCO_17

    def add(self, entry: MergeEntry) -> None:
        """Append the people of an image."""
        self._images.append(image_row(entry))
        self._keypoint_set, masks = entry.people.keypoint_set, entry.people.masks
        rows = entry.people.to_coco_annotations(entry.image_id, self._number)
        for row, crop, offset in zip(rows, masks.crops, masks.offsets.tolist(), strict=True):
            self._rows.append(row | {'segmentation': to_polygons(crop, offset)})
        self._number += len(rows)

    def close(self) -> None:
        """Write the images and the category."""
        self._rows.close()
        categories = dump_json([make_category(self._keypoint_set)])
        self._stream.write(f'"images": {dump_json(self._images)}, "categories": {categories}}}\n')


def to_polygons(crop: Bitmap, offset: Sequence[int]) -> list[list[float]]:
    """Trace the outlines of a mask as flat x, y px in the image; holes are filled."""
    # At twice the size, the outline runs a quarter of a pixel inside of the pixel edges.
    large = np.pad(crop.astype(np.uint8), 1).repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [((c.reshape(-1, 2) + 0.5) / 2 - 1 + offset).ravel().tolist() for c in contours]
