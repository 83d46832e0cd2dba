"""``coco_annotations.json``: the people as COCO annotations, for labelling tools and training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

import cv2
import numpy as np

from ..masks import Bitmap
from ..structures import People
from .atomic import dump_json
from .dataset_writers import CATEGORY, JsonRows, image_row
from .records import MergeEntry

MIN_SCORE = 0.3  # of score and presence of a labelled keypoint, as in drawings
MIN_VISIBILITY = 0.5


class CocoAnnotations:
    """COCO annotation file: polygons, boxes and keypoints (v = 0, 1, 2) of each person."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._images = stream, list[dict[str, Any]]()
        self._rows = JsonRows(stream, '{"annotations": [', '],')
        self._number = 0

    def add(self, entry: MergeEntry) -> None:
        """Append the people of an image."""
        self._images.append(image_row(entry))
        for row in annotation_rows(entry.people):
            self._number += 1
            self._rows.append({'id': self._number, 'image_id': entry.image_id, **row})

    def close(self) -> None:
        """Write the images and the category."""
        self._rows.close()
        images, categories = dump_json(self._images), dump_json([CATEGORY])
        self._stream.write(f'"images": {images}, "categories": {categories}}}\n')


def annotation_rows(people: People) -> list[dict[str, Any]]:
    """Convert people to COCO annotations without ``id`` and ``image_id``."""
    keys = ('category_id', 'person_id', 'bbox', 'area', 'score')
    return [
        {key: result[key] for key in keys}
        | {
            'iscrowd': 0,
            'segmentation': to_polygons(people.masks.crops[i], people.masks.offsets[i].tolist()),
            **label_keypoints(people, i, result['keypoints']),
        }
        for i, result in enumerate(people.to_coco())
    ]


def label_keypoints(people: People, i: int, points: Sequence[float]) -> dict[str, Any]:
    """Replace the scores of flat x, y, score by COCO's flags; 0, 0, 0 is no keypoint."""
    rows = np.array(points).reshape(-1, 3)
    count = len(rows)
    confident = (rows[:, 2] >= MIN_SCORE) & (people.presence[i, :count] >= MIN_SCORE)
    visible = people.visibility[i, :count] >= MIN_VISIBILITY
    flags = np.where(confident, 1 + visible, 0)
    labelled = [
        value
        for (x, y, _), flag in zip(rows.tolist(), flags.tolist(), strict=True)
        for value in ((x, y, flag) if flag else (0, 0, 0))
    ]
    return {'keypoints': labelled, 'num_keypoints': int(confident.sum())}


def to_polygons(crop: Bitmap, offset: Sequence[int]) -> list[list[float]]:
    """Trace the outlines of a mask as flat x, y px in the image; holes are filled."""
    # At twice the size, the outline runs a quarter of a pixel inside of the pixel edges.
    large = np.pad(crop.astype(np.uint8), 1).repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [((c.reshape(-1, 2) + 0.5) / 2 - 1 + offset).ravel().tolist() for c in contours]
