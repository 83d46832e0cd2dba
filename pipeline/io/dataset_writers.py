"""Outputs with one file for the whole run, written from the records of its images.

The order is that of the images, so a resumed run writes the same bytes as an uninterrupted one. To
add an output, add a class and an entry in `DATASET_WRITERS`.
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
    # COCO numbers the keypoints of a skeleton from 1.
    'skeleton': [[a + 1, b + 1] for a, b in COCO_SKELETON],
}


@dataclass(frozen=True)
class MergeEntry:
    """An image for the files of the whole run."""

    name: str
    image_id: int | str
    people: People


class DatasetWriter(Protocol):
    """Writer of all images of a run into one text file."""

    def __init__(self, stream: IO[str]) -> None: ...

    def add(self, entry: MergeEntry) -> None:
        """Append an image."""

    def close(self) -> None:
        """Write the end of the file."""


class JsonRows:
    """Writer of a JSON list, one element per line."""

    def __init__(self, stream: IO[str], head: str = '[', tail: str = ']') -> None:
        self._stream, self._tail, self._separator = stream, tail, '\n'
        stream.write(head)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write an element."""
        self._stream.write(self._separator + dump_json(row))
        self._separator = ',\n'

    def close(self) -> None:
        """Write the end of the list."""
        self._stream.write(f'\n{self._tail}\n')


class CocoResults:
    """COCO results: one row per person with bbox, segmentation and keypoints."""

    def __init__(self, stream: IO[str]) -> None:
        self._rows = JsonRows(stream)

    def add(self, entry: MergeEntry) -> None:
        """Append the people of an image."""
        for row in entry.people.to_coco(entry.image_id):
            self._rows.append(row)

    def close(self) -> None:
        """Write the end of the list."""
        self._rows.close()


class CocoImages:
    """COCO file without annotations: file name and size of each image id, and the category."""

    def __init__(self, stream: IO[str]) -> None:
        tail = f'], "annotations": [], "categories": {dump_json([CATEGORY])}}}'
        self._rows = JsonRows(stream, '{"images": [', tail)

    def add(self, entry: MergeEntry) -> None:
        """Append an image."""
        height, width = entry.people.image_shape
        row = {'id': entry.image_id, 'file_name': entry.name, 'width': width, 'height': height}
        self._rows.append(row)

    def close(self) -> None:
        """Write the end of the file."""
        self._rows.close()


class PeopleCsv:
    """CSV with one row per person: scores, boxes, mask area and every keypoint."""

    def __init__(self, stream: IO[str]) -> None:
        self._rows = csv.writer(stream, lineterminator='\n')
        self._header_done = False

    def add(self, entry: MergeEntry) -> None:
        """Append the people of an image."""
        self._write_header(entry.people.num_keypoints)
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
        self._write_header(len(COCO_NAMES))

    def _write_header(self, num_keypoints: int) -> None:
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


# Value of --save -> file name -> writer.
DATASET_WRITERS: dict[str, dict[str, type[DatasetWriter]]] = {
    'coco': {'coco_results.json': CocoResults, 'coco_images.json': CocoImages},
    'csv': {'people.csv': PeopleCsv},
}


def write_dataset_files(
    out_dir: Path, choices: Iterable[str], entries: Iterable[MergeEntry]
) -> list[Path]:
    """Write the files of ``choices`` in one pass over ``entries``, with one image in memory.

    Returns:
        Paths of the files. Without a file to write, ``entries`` is not consumed.
    """
    types = {out_dir / f: w for c in choices for f, w in DATASET_WRITERS.get(c, {}).items()}
    if not types:
        return []
    with ExitStack() as stack:
        writers = []
        for path, writer_type in types.items():
            raw = stack.enter_context(atomic_file(path))
            text = TextIOWrapper(raw, 'utf-8', errors='backslashreplace', newline='')
            stack.callback(text.detach)
            writers.append(writer_type(text))
        for entry in entries:
            for writer in writers:
                writer.add(entry)
        for writer in writers:
            writer.close()
    return list(types)
