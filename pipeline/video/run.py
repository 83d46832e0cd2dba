"""Run a pipeline on videos: identities, files of tracks and annotated videos; resume.

Each video has a folder ``videos/NAME`` with two passes. The first one finds and follows the people
and writes chunks of frames. The second one draws them on the decoded frames again, in segments. An
interrupted run goes on after the last complete chunk or segment. ``settings.json`` says what the
files were made with; files made with other settings are removed first.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from ..io.atomic import write_json
from ..io.inputs import Failure
from ..io.progress import Reporter, count_of
from ..io.run import disk_errors, lock_folder
from ..io.run_options import VIDEO_OUTPUTS, Pipeline, RunReport
from ..io.runner import DISK_ERRORS, describe_origin
from ..tracking.config import TrackingConfig
from ..visualization.style import DrawingStyle
from .inputs import VideoInput
from .overlay import OVERLAY, SEGMENTS, write_live_overlay, write_overlay
from .process import TrackedFrame
from .reader import FOLDER_FPS, FrameSelection, VideoReader, VideoReadError
from .results import SUMMARY, TRACKS, TrackedVideo, write_results
from .store import CHUNK_FRAMES, FrameStore

FRAMES = 'frames'
# Part of the settings -> what is removed, with all that follows, when it changes.
MADE_FROM = {
    'made_with': (FRAMES,),
    'tracked_with': (SUMMARY, TRACKS, *VIDEO_OUTPUTS.values()),
    'drawn_with': (SEGMENTS, f'{OVERLAY}.*'),
}


class VideoPipeline(Pipeline, Protocol):
    """The part of a loaded pipeline that videos use; see `pipeline.api.LoadedPipeline`."""

    @property
    def tracking(self) -> TrackingConfig:
        """Settings of tracking."""

    def track(
        self, source: Any, *, detect_every: int, batch_size: int, store: FrameStore
    ) -> Iterator[TrackedFrame]:
        """Find and follow every person in frames."""


@dataclass(frozen=True)
class VideoOptions:
    """Outputs and options of videos.

    Attributes:
        out_dir: the results of a video are in its folder ``videos/NAME``.
        save: outputs; ``overlay`` is the annotated video.
        selection: frames to read.
        fps: rate of folders of frames.
        detect_every: the detector looks at every n-th frame.
        batch_size: frames that go through the networks together.
        style: of the annotated video.
        trail: frames whose positions the annotated video shows behind each person; 0: none.
        resume: go on with the files of an earlier run.
    """

    out_dir: Path
    save: frozenset[str]
    selection: FrameSelection = field(default_factory=FrameSelection)
    fps: float = FOLDER_FPS
    detect_every: int = 1
    batch_size: int = 1
    style: DrawingStyle = field(default_factory=lambda: DrawingStyle(labels='id'))
    trail: int = 25
    resume: bool = True

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.trail < 0:
            raise ValueError(f'fps={self.fps} must be positive and trail={self.trail} 0 or more')


def run_videos(
    pipeline: VideoPipeline,
    videos: Sequence[VideoInput],
    options: VideoOptions,
    report: RunReport,
    reporter: Reporter | None = None,
) -> None:
    """Run a pipeline on videos and add the results to a report.

    A video that cannot be read does not stop the run. Ctrl-C ends it; it ends a live source alone.

    Raises:
        OutputError: Another run writes to the same folder, or the disk is full or read-only.
    """
    reporter = reporter or Reporter()
    with lock_folder(options.out_dir), disk_errors(options.out_dir):
        for video in videos:
            try:
                report.videos.append(run_video(pipeline, video, options, reporter))
            except Exception as error:  # the other videos continue
                if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                    raise
                report.failures.append(Failure.from_error(str(video.source), error))
                reporter.message(f'failed: {report.failures[-1].describe()}')
            except KeyboardInterrupt:
                report.interrupted = True
                return


def run_video(
    pipeline: VideoPipeline, video: VideoInput, options: VideoOptions, reporter: Reporter
) -> str:
    """Run one video, in a folder that the caller has locked; returns a line about the results."""
    folder = options.out_dir / 'videos' / video.name
    _prepare(folder, _describe(pipeline, video, options), resume=options.resume)
    store = FrameStore(folder / FRAMES)
    reader = VideoReader(video.source, options.selection, options.fps)
    facts = None
    if not (folder / SUMMARY).is_file():
        facts = _follow(pipeline, video, reader, options, store, reporter)
    results = TrackedVideo.read(store, video.name, pipeline.tracking.finish)
    if facts is not None:
        write_results(folder, results, facts)
    for kind in sorted(options.save & set(VIDEO_OUTPUTS)):
        results.write(kind, folder / VIDEO_OUTPUTS[kind])
    if 'overlay' in options.save and not video.live:
        reporter.message(f'{video.name}: drawing')
        write_overlay(folder, results, reader, options.style, options.trail)
    people = count_of(results.num_tracks, 'person', 'people')
    return f'{video.source}: {count_of(results.size.num_frames, "frame")}, {people}: {folder}'


def _describe(
    pipeline: VideoPipeline, video: VideoInput, options: VideoOptions
) -> dict[str, dict[str, Any]]:
    """What the files depend on; the keys are those of `MADE_FROM`."""
    tracking, every = asdict(pipeline.tracking), options.detect_every
    settings = {
        'made_with': {
            **describe_origin(pipeline),
            'video': video.fingerprint(),
            'selection': asdict(options.selection),
            'fps': options.fps,
            'detect_every': every,
            # Between detections, the people depend on the tracker.
            'tracking': tracking if every > 1 else tracking['low_score'],
        },
        'tracked_with': tracking,
        'drawn_with': {**asdict(options.style), 'trail': options.trail},
    }
    return json.loads(json.dumps(settings))  # type: ignore[no-any-return]  # tuples become lists


def _prepare(folder: Path, settings: dict[str, dict[str, Any]], *, resume: bool) -> None:
    """Remove the files of earlier runs that other settings have made."""
    path, before = folder / 'settings.json', {}
    if resume and path.is_file():
        try:
            before = dict(json.loads(path.read_bytes()))
        except ValueError:
            pass  # damaged: all is made again
    if before != settings:
        path.unlink(missing_ok=True)  # first: a kill while files are removed leaves no wrong record
    outdated = False
    for part, names in MADE_FROM.items():
        outdated |= before.get(part) != settings[part]
        for file in (f for name in names if outdated for f in folder.glob(name)):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    write_json(path, settings, indent=1)


def _follow(
    pipeline: VideoPipeline,
    video: VideoInput,
    reader: VideoReader,
    options: VideoOptions,
    store: FrameStore,
    reporter: Reporter,
) -> dict[str, Any]:
    """First pass: find and follow the people; returns facts about the video."""
    start, number = time.monotonic(), 0
    with stop_on_interrupt(video.live) as stopped:
        frames = takewhile(lambda _: not stopped(), reader)
        tracked = pipeline.track(
            frames, detect_every=options.detect_every, batch_size=options.batch_size, store=store
        )

        def report_progress() -> Iterator[TrackedFrame]:
            nonlocal number
            for number, frame in enumerate(tracked, 1):
                yield frame
                if number % CHUNK_FRAMES == 0:
                    rate = number / (time.monotonic() - start)
                    reporter.message(
                        f'{video.name}: {number} frames, {frame.seconds:.1f} s of the video, '
                        f'{rate:.1f} frames a second'
                    )

        if video.live and 'overlay' in options.save:
            write_live_overlay(store.folder.parent, report_progress(), options.style)
        deque(report_progress(), maxlen=0)
    if not number:
        raise VideoReadError(
            f'{video.source}: no frame in the chosen part; check --start, --end and --stride'
        )
    return {'source': str(video.source), 'broken_frames': reader.broken}


@contextmanager
def stop_on_interrupt(live: bool) -> Iterator[Callable[[], bool]]:
    """Inside the block of a live source, the first Ctrl-C makes the result true, and no more."""
    stopped = Event()
    if not live:
        yield stopped.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield stopped.is_set
    finally:
        signal.signal(signal.SIGINT, before)
