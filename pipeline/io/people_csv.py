"""``people.csv``: one row per person of all images of a run."""

from __future__ import annotations

import csv
from typing import IO

from ..keypoints import COCO_NAMES
from ..structures import MaskSource
from .records import MergeEntry


class PeopleCsv:
    """CSV with one row per person: scores, boxes, mask area and every keypoint."""

    def __init__(self, stream: IO[str]) -> None:
        self._rows = csv.writer(stream, lineterminator='\n')
        self._header_done = False

    def add(self, entry: MergeEntry) -> None:
        """Append the people of an image."""
        self._write_header(entry.people.keypoint_set.names)
        people, areas = entry.people, entry.people.masks.areas
        for i in range(len(people)):
            points = zip(
                people.keypoints[i],
                people.keypoint_scores[i],
                people.presence[i],
                people.visibility[i],
                strict=True,
            )
            self._rows.writerow(
                [
                    *(entry.name, entry.image_id, i + 1),
                    *(people.scores[i], people.box_scores[i], people.mask_scores[i]),
                    *(MaskSource(int(people.mask_sources[i])).name.lower(), people.rounds[i]),
                    *people.boxes[i],
                    *people.detector_boxes[i],
                    int(areas[i]),
                    *(v for xy, *scores in points for v in (*xy, *scores)),
                ]
            )

    def close(self) -> None:
        """Write the header if there is no image."""
        self._write_header(COCO_NAMES)

    def _write_header(self, names: tuple[str, ...]) -> None:
        if self._header_done:
            return
        self._header_done = True
        parts = ('x', 'y', 'score', 'presence', 'visibility')
        self._rows.writerow(
            [
                *('file_name', 'image_id', 'person_id', 'score', 'box_score', 'mask_score'),
                *('mask_source', 'round', 'x1', 'y1', 'x2', 'y2'),
                *('detector_x1', 'detector_y1', 'detector_x2', 'detector_y2', 'mask_area'),
                *(f'{name}_{part}' for name in names for part in parts),
            ]
        )
