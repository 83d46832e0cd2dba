"""Outputs with one file for the whole run, written from the records of its images.

The order is that of the images, so a resumed run writes the same bytes as an uninterrupted one. To
add an output, add a class and an entry in `DATASET_WRITERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, Protocol

from ..keypoints import COCO_17, KeypointSet
from .atomic import atomic_file, dump_json
from .records import MergeEntry


def make_category(keypoint_set: KeypointSet) -> dict[str, Any]:
    """COCO category of people with these keypoints; as in `People.to_coco`, COCO's come first."""
    shown = COCO_17 if keypoint_set.has_coco else keypoint_set
    extra = [name for name in keypoint_set.names if name not in shown.names]
    return {
        'id': 1,
        'name': 'person',
        'supercategory': 'person',
        'keypoints': list(shown.names),
        # COCO numbers the keypoints of a skeleton from 1.
        'skeleton': [[a + 1, b + 1] for a, b in shown.skeleton],
        **({'extra_keypoints': extra} if extra else {}),
    }


CATEGORY = make_category(COCO_17)


def image_row(entry: MergeEntry) -> dict[str, Any]:
    """Describe an image for the list ``images`` of a COCO file."""
    height, width = entry.people.image_shape
    return {'id': entry.image_id, 'file_name': entry.name, 'width': width, 'height': height}


class DatasetWriter(Protocol):
    """Writer of all images of a run into one text file."""

    def add(self, entry: MergeEntry) -> None:
        """Append an image."""

    def close(self) -> None:
        """Write the end of the file."""


class JsonRows:
    """Writer of a JSON list, one element per line."""

    def __init__(self, stream: IO[str], head: str = '[', tail: str = ']') -> None:
        self._stream, self.tail, self._separator = stream, tail, '\n'
        stream.write(head)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write an element."""
        self._stream.write(self._separator + dump_json(row))
        self._separator = ',\n'

    def close(self) -> None:
        """Write the end of the list."""
        self._stream.write(f'\n{self.tail}\n')


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
        self._rows = JsonRows(stream, '{"images": [')
        self._keypoint_set = COCO_17

    def add(self, entry: MergeEntry) -> None:
        """Append an image."""
        self._keypoint_set = entry.people.keypoint_set
        self._rows.append(image_row(entry))

    def close(self) -> None:
        """Write the end of the file."""
        category = dump_json([make_category(self._keypoint_set)])
        self._rows.tail = f'], "annotations": [], "categories": {category}}}'
        self._rows.close()


def _lazy(module: str, name: str) -> Callable[[IO[str]], DatasetWriter]:
    """Import a writer when it is used; the default outputs do not need it."""
    return lambda stream: getattr(import_module(module, __package__), name)(stream)


# Value of --save -> file name -> function that creates the writer.
DATASET_WRITERS: dict[str, dict[str, Callable[[IO[str]], DatasetWriter]]] = {
    'coco': {'coco_results.json': CocoResults, 'coco_images.json': CocoImages},
    'annotations': {'coco_annotations.json': _lazy('.coco_annotations', 'CocoAnnotations')},
    'csv': {
        'people.csv': _lazy('.people_csv', 'PeopleCsv'),
        'images.csv': _lazy('.people_csv', 'ImagesCsv'),
    },
}


def write_dataset_files(
    out_dir: Path, choices: Iterable[str], entries: Iterable[MergeEntry]
) -> list[Path]:
    """Write the files of ``choices`` in one pass over ``entries``, with one image in memory.

    Files of other choices that an earlier run left in the folder are written too, so that all files
    describe the same run.

    Returns:
        Paths of the files. Without a file to write, ``entries`` is not consumed.
    """
    selected = set(choices)
    types = {
        out_dir / name: make_writer
        for choice, files in DATASET_WRITERS.items()
        for name, make_writer in files.items()
        if choice in selected or (out_dir / name).exists()
    }
    if not types:
        return []
    with ExitStack() as stack:
        writers = []
        for path, make_writer in types.items():
            raw = stack.enter_context(atomic_file(path))
            text = TextIOWrapper(raw, 'utf-8', errors='backslashreplace', newline='')
            stack.callback(text.detach)
            writers.append(make_writer(text))
        for entry in entries:
            for writer in writers:
                writer.add(entry)
        for writer in writers:
            writer.close()
    return list(types)
