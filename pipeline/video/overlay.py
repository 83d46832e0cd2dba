"""Annotated videos of tracks."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np

from ..arrays import Floats, Image
from ..runtime.timing import StageTimer
from ..tracking.formats import TrackedPeople
from ..visualization.draw import draw_people
from ..visualization.style import DrawingStyle
from ..visualization.trails import draw_hidden_boxes, draw_trails
from .process import TrackedFrame
from .reader import FOLDER_FPS, Frame, VideoReader, VideoReadError, read_ahead
from .results import TrackedVideo
from .writer import choose_codec, join_segments, write_segment

OVERLAY = 'overlay'
SEGMENTS = 'segments'
SEGMENT_FRAMES = 250


def write_overlay(
    folder: Path,
    video: TrackedVideo,
    reader: VideoReader,
    style: DrawingStyle,
    trail: int,
    timer: StageTimer | None = None,
) -> None:
    """Draw the tracks on the frames of a video, unless that is done; goes on after a segment.

    Args:
        folder: the annotated video is ``overlay.mp4`` in it, or ``.webm``.
        video: tracks.
        reader: of the same frames; with ``ahead``, threads read and draw while this one encodes.
        style: what to draw.
        trail: frames whose positions are shown behind each person.
        timer: adds up the seconds of ``draw``.

    Raises:
        VideoReadError: The source has changed.
    """
    suffix = choose_codec()[1]
    target = folder / f'{OVERLAY}{suffix}'
    if target.is_file():
        return
    selection = reader.selection
    pairs = zip(reader, video.people(), strict=False)
    paths: list[Path] = []
    for number in count():
        if number * SEGMENT_FRAMES >= video.size.num_frames:
            break
        paths.append(folder / SEGMENTS / f'{number:06d}{suffix}')
        part = islice(pairs, SEGMENT_FRAMES)
        if paths[-1].is_file():
            for _ in part:
                pass
        else:
            drawn = _draw_frames(part, video, style, trail, timer or StageTimer())
            frames = ((seconds - selection.start, image) for seconds, image in drawn)
            write_segment(paths[-1], read_ahead(frames, reader.ahead), video.size.fps)
    sound = None if Path(str(reader.source)).is_dir() else str(reader.source)
    join_segments(target, paths, sound, selection.start, selection.end)
    shutil.rmtree(folder / SEGMENTS)


def write_live_overlay(folder: Path, frames: Iterable[TrackedFrame], style: DrawingStyle) -> None:
    """Draw the frames of a live source as they come, without trails."""
    drawn = ((frame.seconds, frame.plot(style)) for frame in frames)
    write_segment(folder / f'{OVERLAY}{choose_codec()[1]}', drawn, FOLDER_FPS)


def _draw_frames(
    pairs: Iterable[tuple[Frame, TrackedPeople]],
    video: TrackedVideo,
    style: DrawingStyle,
    trail: int,
    timer: StageTimer,
) -> Iterator[tuple[float, Image]]:
    height, width = video.size.height, video.size.width
    for frame, tracked in pairs:
        if frame.index != tracked.index:
            raise VideoReadError(
                f'{video.size.name}: the frames differ from those of the first pass; '
                'run again with --no-resume'
            )
        with timer('draw'):
            people, ids = tracked.tracked
            image = draw_people(frame.image, people, style, ids)
            _draw_past(image, video, frame.index, style, trail)
            if image.shape[:2] != (height, width):  # the size changes within the video
                image = np.asarray(cv2.resize(image, (width, height)), np.uint8)
        yield frame.seconds, image


def _draw_past(
    image: Image, video: TrackedVideo, index: int, style: DrawingStyle, trail: int
) -> None:
    """Draw the trails of the people of a frame, and the boxes of filled gaps."""
    position = int(np.searchsorted(video.frames, index))
    first = video.frames[max(position - trail, 0)]
    begin, end = np.searchsorted(video.rows.frames, [first, index + 1])
    rows = video.rows.select(np.arange(begin, end))
    now = rows.select(rows.frames == index)
    if 'boxes' in style.layers:
        hidden = now.select(now.person_rows < 0)
        draw_hidden_boxes(image, hidden.boxes, hidden.track_ids)
    if trail:
        feet: Floats = np.stack([rows.boxes[:, [0, 2]].mean(1), rows.boxes[:, 3]], axis=1)
        draw_trails(image, {i: feet[rows.track_ids == i] for i in now.track_ids.tolist()})
