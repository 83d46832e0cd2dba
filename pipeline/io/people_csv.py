"""``people.csv`` and ``images.csv``: one row per person and per image of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from ..conversions import table_columns
from ..structures import People
from .records import MergeEntry
from .tables import CsvWriter


class PeopleCsv:
    """CSV with one row per person: scores, boxes, mask area and every keypoint."""

    def __init__(self, stream: IO[str]) -> None:
        self._rows = CsvWriter(stream)
        self._header_done = False

    def add(self, entry: MergeEntry) -> None:
        """Append the people of an image."""
        columns = table_columns(entry.people)
        self._write_header(columns)
        for row in zip(*columns.values(), strict=True):
            self._rows.writerow([entry.name, entry.image_id, *row])

    def close(self) -> None:
        """Write the header if there is no image."""
        self._write_header(table_columns(People.empty(1, 1)))

    def _write_header(self, columns: Iterable[str]) -> None:
        if not self._header_done:
            self._header_done = True
            self._rows.writerow(['file_name', 'image_id', *columns])


class ImagesCsv:
    """CSV with one row per image, also without people: counts, size and time."""

    def __init__(self, stream: IO[str]) -> None:
        self._rows = CsvWriter(stream)
        self._rows.writerow(
            ('file_name', 'image_id', 'people', 'dropped', 'width', 'height', 'seconds', 'output')
        )

    def add(self, entry: MergeEntry) -> None:
        """Append an image."""
        height, width = entry.people.image_shape
        counts = (len(entry.people), entry.dropped)
        row = (entry.name, entry.image_id, *counts, width, height, entry.seconds, entry.output)
        self._rows.writerow(row)

    def close(self) -> None:
        """Do nothing; the file is complete."""
