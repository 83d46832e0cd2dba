"""Predictions of a video on the disk, in chunks of frames as JSON lines.

A chunk appears under its name only when it is complete, so an interrupted run repeats at most one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..io.atomic import dump_json, write_text
from ..io.records import people_from_record, people_to_record
from ..tracking.formats import TrackedPeople

CHUNK_FRAMES = 50


@dataclass(frozen=True)
class FrameStore:
    """Chunks of one video in a folder.

    Attributes:
        folder: created when the first chunk is written.
        chunk_frames: frames of a chunk.
    """

    folder: Path
    chunk_frames: int = CHUNK_FRAMES

    def path(self, number: int) -> Path:
        """File of chunk ``number``, from 0."""
        return self.folder / f'{number:06d}.jsonl'

    def write(self, number: int, frames: Sequence[TrackedPeople]) -> None:
        """Write a complete chunk; the last one of a video may be shorter."""
        lines = (
            dump_json({
                'frame': frame.index,
                'seconds': round(frame.seconds, 6),
                'track_ids': frame.track_ids.tolist(),
                **people_to_record(frame.people),
            })
            for frame in frames
        )  # fmt: skip
        write_text(self.path(number), ''.join(f'{line}\n' for line in lines))

    def read(self, number: int) -> list[TrackedPeople] | None:
        """Frames of a chunk; None if it is absent or damaged, so that it is computed again."""
        try:
            text = self.path(number).read_text(encoding='utf-8')
            return [_parse(json.loads(line)) for line in text.splitlines()]
        except Exception:  # noqa: BLE001 - whatever the damage
            return None

    def frames(self) -> Iterator[TrackedPeople]:
        """All frames in order, with one chunk in memory."""
        number = 0
        while (chunk := self.read(number)) is not None:
            yield from chunk
            number += 1

    def truncate(self, number: int) -> None:
        """Remove the chunks from ``number`` on, which belong to a longer run."""
        for path in self.folder.glob('*.jsonl'):
            if path.stem.isdigit() and int(path.stem) >= number:
                path.unlink()


def _parse(row: dict[str, Any]) -> TrackedPeople:
    people = people_from_record(row)
    ids = np.array(row['track_ids'], np.int64).reshape(len(people))
    return TrackedPeople(int(row['frame']), float(row['seconds']), people, ids)
