"""Tracks of a whole video: drop short ones, fill gaps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Ints
from ..boxes import box_intersections
from ..structures import Rows
from .config import FinishConfig as FinishConfig

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrackRows(Rows):
    """Boxes with identities, one row per person and frame."""

    frames: Ids  # (M,) index of the frame
    seconds: npt.NDArray[np.float64]  # (M,)
    track_ids: Ids  # (M,)
    boxes: Floats  # (M, 4) xyxy px
    scores: Floats  # (M,)
    person_rows: Ints  # (M,) row in the people of the frame, -1 for a filled gap

    @classmethod
    def empty(cls) -> TrackRows:
        """Zero rows."""
        none = np.zeros(0, np.int64)
        scores = np.zeros(0, np.float32)
        return cls(
            none, np.zeros(0), none, np.zeros((0, 4), np.float32), scores, np.zeros(0, np.int32)
        )

    @classmethod
    def join(cls, parts: Iterable[TrackRows]) -> TrackRows:
        """Rows of all parts, in their order."""
        every = [cls.empty(), *parts]
        names = [column.name for column in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in every]) for name in names))


def finish_tracks(
    rows: TrackRows, frames: Ids, seconds: npt.NDArray[np.float64], config: FinishConfig
) -> TrackRows:
    """Drop short and doubtful tracks, and interpolate boxes over short gaps.

    Args:
        rows: in any order.
        frames: (F,) index of every processed frame, ascending.
        seconds: (F,) their timestamps.
        config: settings.

    Returns:
        Rows sorted by frame, then by id.
    """
    kept = []
    for track in np.unique(rows.track_ids):
        part = rows.select(rows.track_ids == track)
        part = part.select(np.argsort(part.frames))
        top = np.sort(part.scores)[-max(len(part) // 4, 1) :].mean()
        if len(part) >= config.min_detections and top >= config.min_top_score:
            kept += [part, _fill(part, frames, seconds, config.max_gap_seconds)]
    result = TrackRows.join(kept)
    result = result.select(np.lexsort((result.track_ids, result.frames)))
    return result if config.max_covered >= 1 else _drop_covered(result, config.max_covered)


def _drop_covered(rows: TrackRows, max_covered: float) -> TrackRows:
    """Drop filled rows behind a detected box that ends lower in the image."""
    keep = np.ones(len(rows), bool)
    seen = rows.person_rows >= 0
    for i in np.flatnonzero(~seen).tolist():
        box = rows.boxes[i]
        first, end = np.searchsorted(rows.frames, [rows.frames[i], rows.frames[i] + 1])
        front = rows.boxes[first:end][seen[first:end] & (rows.boxes[first:end, 3] > box[3])]
        shared = box_intersections(box[None], front).max(initial=0)
        keep[i] = shared <= max_covered * np.prod(box[2:] - box[:2])
    return rows.select(keep)


def _fill(
    track: TrackRows, frames: Ids, seconds: npt.NDArray[np.float64], max_gap: float
) -> TrackRows:
    """Rows of the processed frames that lie in short gaps of a track."""
    first, last = track.frames[0], track.frames[-1]
    missing = np.setdiff1d(frames[(frames > first) & (frames < last)], track.frames)
    times = seconds[np.searchsorted(frames, missing)]
    after = np.searchsorted(track.frames, missing)
    short = track.seconds[after] - track.seconds[after - 1] <= max_gap
    missing, times = missing[short], times[short]
    boxes = [np.interp(times, track.seconds, track.boxes[:, k]) for k in range(4)]
    return TrackRows(
        missing, times, np.full(len(missing), track.track_ids[0]),
        np.stack(boxes, axis=1).astype(np.float32),
        np.interp(times, track.seconds, track.scores).astype(np.float32),
        np.full(len(missing), -1, np.int32),
    )  # fmt: skip
