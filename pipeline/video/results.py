"""The tracks of a whole video, and their files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..io.atomic import write_json, write_text
from ..io.tables import CsvWriter
from ..tracking import formats
from ..tracking.config import FinishConfig
from ..tracking.formats import TrackedPeople, VideoSize
from ..tracking.tracks import Ids, TrackRows, finish_tracks
from .reader import FOLDER_FPS
from .store import FrameStore

SUMMARY = 'video.json'  # written last: the first pass is complete
TRACKS = 'tracks.csv'


@dataclass(frozen=True, eq=False)
class TrackedVideo:
    """A video with finished tracks; the people of its frames stay on the disk.

    Attributes:
        store: the frames.
        rows: a row per person and frame, and per filled gap; sorted by frame.
        frames: (F,) index in the source of each processed frame.
        seconds: (F,) their timestamps.
        size: of the video.
    """

    store: FrameStore
    rows: TrackRows
    frames: Ids
    seconds: npt.NDArray[np.float64]
    size: VideoSize

    @classmethod
    def read(cls, store: FrameStore, name: str, config: FinishConfig) -> TrackedVideo:
        """Read a store of one or more frames, and finish the tracks."""
        parts, frames, seconds, shape = [], [], [], (0, 0)
        for frame in store.frames():
            parts.append(frame.to_rows())
            frames.append(frame.index)
            seconds.append(frame.seconds)
            shape = frame.people.image_shape
        span = seconds[-1] - seconds[0]
        fps = (len(frames) - 1) / span if span > 0 else FOLDER_FPS
        indices, times = np.array(frames, np.int64), np.array(seconds)
        return cls(
            store, finish_tracks(TrackRows.join(parts), indices, times, config), indices, times,
            VideoSize(name, *shape, len(frames), round(fps, 3)),
        )  # fmt: skip

    @property
    def num_tracks(self) -> int:
        """Number of identities."""
        return len(np.unique(self.rows.track_ids))

    def people(self) -> Iterator[TrackedPeople]:
        """The frames in order; people of dropped tracks have the id -1."""
        kept = np.unique(self.rows.track_ids)
        for frame in self.store.frames():
            ids = frame.track_ids
            yield replace(frame, track_ids=np.where(np.isin(ids, kept), ids, -1))

    def write(self, kind: str, path: Path) -> None:
        """Write one of `VIDEO_OUTPUTS`, unless it is there."""
        if path.is_file():
            return
        if kind == 'mot':
            formats.write_mot(path, self.rows)
        elif kind == 'mots':
            formats.write_mots(path, self.people())
        elif kind == 'coco-video':
            formats.write_coco_video(path, self.people(), self.size)
        elif kind == 'posetrack':
            formats.write_posetrack(path, self.people(), self.size)
        elif kind == 'cvat':
            # CVAT counts the frames that it shows.
            positions = np.searchsorted(self.frames, self.rows.frames)
            formats.write_cvat(path, replace(self.rows, frames=positions), self.size)
        else:
            formats.write_trajectories(path, self.rows, self.size.fps)


def write_results(folder: Path, video: TrackedVideo, facts: dict[str, Any]) -> None:
    """Write the table of tracks, then the summary with ``facts``."""
    text = io.StringIO()
    table = CsvWriter(text)
    table.writerow([
        'track_id', 'first_frame', 'last_frame', 'first_second', 'last_second', 'seconds',
        'detections', 'filled', 'mean_score',
    ])  # fmt: skip
    for track in np.unique(video.rows.track_ids).tolist():
        part = video.rows.select(video.rows.track_ids == track)
        first, last = part.seconds[0], part.seconds[-1]
        filled = int((part.person_rows < 0).sum())
        table.writerow([
            track, part.frames[0], part.frames[-1], f'{first:.3f}', f'{last:.3f}',
            f'{last - first:.3f}', len(part) - filled, filled, f'{part.scores.mean():.4f}',
        ])  # fmt: skip
    write_text(folder / TRACKS, text.getvalue())
    size = video.size
    summary = {
        **facts, 'frames': size.num_frames, 'height': size.height, 'width': size.width,
        'fps': size.fps, 'seconds': round(float(video.seconds[-1] - video.seconds[0]), 3),
        'tracks': video.num_tracks,
    }  # fmt: skip
    write_json(folder / SUMMARY, summary, indent=1)
