"""Outputs with one file for the whole run, made from the records of its photos.

They are written from the records alone and in the order of the photos, so a run that was killed
and resumed ends with the same bytes as one that was not. Another one: a class here and a line in
`DATASET_WRITERS`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, Protocol

from ..keypoints import COCO_NAMES, COCO_SKELETON
from ..structures import MaskSource, People
from .atomic import atomic_file, dump_json
from .writers import keypoint_names

CATEGORY = {
    'id': 1,
    'name': 'person',
    'supercategory': 'person',
    'keypoints': list(COCO_NAMES),
    # COCO counts the points of a skeleton from 1.
    'skeleton': [[a + 1, b + 1] for a, b in COCO_SKELETON],
}


@dataclass(frozen=True)
class MergeEntry:
    """One photo that goes into the merged files."""

    name: str
    image_id: int | str
    people: People


class DatasetWriter(Protocol):
    """Writes all photos of a run into one text file."""

    def __init__(self, stream: IO[str]) -> None: ...

    def add(self, entry: MergeEntry) -> None:
        """Append one photo."""

    def close(self) -> None:
        """Write what has to follow the last photo."""


class JsonRows:
    """A JSON list with one element per line, written as it comes."""

    def __init__(self, stream: IO[str], head: str = '[', tail: str = ']') -> None:
        self._stream, self._tail, self._glue = stream, tail, '\n'
        stream.write(head)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one more element."""
        self._stream.write(self._glue + dump_json(row))
        self._glue = ',\n'

    def close(self) -> None:
        """End the list."""
        self._stream.write(f'\n{self._tail}\n')


class CocoResults:
    """COCO results: one row per person with bbox, segmentation and keypoints."""

    def __init__(self, stream: IO[str]) -> None:
        self._rows = JsonRows(stream)

    def add(self, entry: MergeEntry) -> None:
        """Append the people of one photo."""
        for row in entry.people.to_coco(entry.image_id):
            self._rows.append(row)

    def close(self) -> None:
        """End the list."""
        self._rows.close()


class CocoImages:
    """COCO file without annotations: which image id is which photo, and the category."""

    def __init__(self, stream: IO[str]) -> None:
        tail = f'], "annotations": [], "categories": {dump_json([CATEGORY])}}}'
        self._rows = JsonRows(stream, '{"images": [', tail)

    def add(self, entry: MergeEntry) -> None:
        """Append one photo."""
        height, width = entry.people.image_shape
        row = {'id': entry.image_id, 'file_name': entry.name, 'width': width, 'height': height}
        self._rows.append(row)

    def close(self) -> None:
        """End the file."""
        self._rows.close()


class PeopleCsv:
    """CSV with one row per person: scores, boxes, mask area and every keypoint."""

    def __init__(self, stream: IO[str]) -> None:
        self._rows = csv.writer(stream, lineterminator='\n')
        self._header_done = False

    def add(self, entry: MergeEntry) -> None:
        """Append the people of one photo."""
        self._header(entry.people.num_keypoints)
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
        """Write the header if there was no photo."""
        self._header(len(COCO_NAMES))

    def _header(self, num_keypoints: int) -> None:
        if self._header_done:
            return
        self._header_done = True
        parts = ('x', 'y', 'score', 'presence', 'visibility')
        self._rows.writerow(
            [
                *('file_name', 'image_id', 'person_id', 'score', 'box_score', 'mask_score'),
                *('mask_source', 'round', 'x1', 'y1', 'x2', 'y2'),
                *('detector_x1', 'detector_y1', 'detector_x2', 'detector_y2', 'mask_area'),
                *(f'{name}_{part}' for name in keypoint_names(num_keypoints) for part in parts),
            ]
        )


# Choice of the user -> files that it means.
DATASET_WRITERS: dict[str, dict[str, type[DatasetWriter]]] = {
    'coco': {'coco_results.json': CocoResults, 'coco_images.json': CocoImages},
    'csv': {'people.csv': PeopleCsv},
}


def write_dataset_files(
    out_dir: Path, choices: Iterable[str], entries: Iterable[MergeEntry]
) -> list[Path]:
    """Write the merged files of ``choices``; one pass over ``entries``, one photo in memory.

    Returns:
        The files; none when no choice is a merged one, and then the entries are not looked at.
    """
    kinds = {out_dir / f: kind for c in choices for f, kind in DATASET_WRITERS.get(c, {}).items()}
    if not kinds:
        return []
    with ExitStack() as stack:
        writers = []
        for path, kind in kinds.items():
            raw = stack.enter_context(atomic_file(path))
            text = TextIOWrapper(raw, 'utf-8', errors='backslashreplace', newline='')
            stack.callback(text.detach)
            writers.append(kind(text))
        for entry in entries:
            for writer in writers:
                writer.add(entry)
        for writer in writers:
            writer.close()
    return list(kinds)
