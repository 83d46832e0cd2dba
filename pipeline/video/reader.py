"""Read frames of video files, image folders, cameras and streams, with their timestamps."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import repeat, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..arrays import Image
from ..io.images import SUFFIXES, ImageReadError, read_image
from ..io.runner import prefetch
from ..values import install_hint

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

FOLDER_FPS = 25.0
AHEAD = 2  # frames that a thread prepares
T = TypeVar('T')


class VideoReadError(ValueError):
    """The source is no video, or none of its frames can be decoded."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A decoded frame.

    Attributes:
        index: position in the source, from 0; skipped frames count.
        seconds: timestamp relative to the first frame.
        image: (H, W, 3) RGB uint8, rotated as the metadata says.
    """

    index: int
    seconds: float
    image: Image


@dataclass(frozen=True)
class FrameSelection:
    """Which frames to read.

    Attributes:
        start: seconds.
        end: seconds, exclusive; None reads to the end.
        stride: every n-th frame.
        max_fps: at most this many frames a second, by their timestamps.
    """

    start: float = 0.0
    end: float | None = None
    stride: int = 1
    max_fps: float | None = None

    def __post_init__(self) -> None:
        if not self.start >= 0:
            raise ValueError(f'start={self.start} must be 0 or more seconds')
        if self.end is not None and not self.end > self.start:
            raise ValueError(f'end={self.end} must be more than start={self.start} seconds')
        if self.stride < 1:
            raise ValueError(f'stride={self.stride} must be 1 or more')
        if self.max_fps is not None and not self.max_fps > 0:
            raise ValueError(f'max_fps={self.max_fps} must be positive')


@dataclass
class VideoReader:
    """Iterates over the frames of a source; memory does not depend on its length.

    Attributes:
        source: file, folder of numbered images, address of a stream, or index of a camera.
        selection: frames to read.
        fps: rate of an image folder.
        ahead: frames that a thread decodes while the caller works; 0: no thread.
        broken: frames that could not be decoded, counted while reading.
    """

    source: str | Path | int
    selection: FrameSelection = field(default_factory=FrameSelection)
    fps: float = FOLDER_FPS
    broken: int = 0
    ahead: int = AHEAD

    def __iter__(self) -> Iterator[Frame]:
        """Yield the selected frames.

        Raises:
            VideoReadError: The source cannot be opened, or has no frame.
        """
        return read_ahead(self._read(), self.ahead)

    def _read(self) -> Iterator[Frame]:
        folder = not isinstance(self.source, int) and Path(self.source).is_dir()
        last, any_frame = -np.inf, False
        for index, seconds, decode in self._folder() if folder else self._stream():
            any_frame = True
            wanted = self.selection
            if wanted.end is not None and seconds >= wanted.end:
                return
            # Half a millisecond of tolerance: timestamps are rounded to ticks.
            due = wanted.max_fps is None or seconds - last >= 1 / wanted.max_fps - 5e-4
            if seconds < wanted.start or index % wanted.stride or not due:
                continue
            last = seconds
            yield Frame(index, seconds, decode())
        if not any_frame:
            raise VideoReadError(f'{self.source}: no frame can be decoded')

    def _folder(self) -> Iterator[tuple[int, float, Any]]:
        folder = Path(str(self.source))
        files = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES]
        for index, path in enumerate(sorted(files, key=_natural_order)):
            try:
                image = read_image(path)
            except ImageReadError:
                self.broken += 1
                continue
            yield index, index / self.fps, lambda image=image: image

    def _stream(self) -> Iterator[tuple[int, float, Any]]:
        with open_video(self.source) as container:
            stream = container.streams.video[0]
            stream.thread_type = 'AUTO'
            start: float | None = None
            previous, index = -np.inf, -1
            for index, frame in enumerate(self._decode(container, stream)):
                if frame.pts is None:  # raw streams carry no timestamps
                    seconds = index / float(stream.average_rate or FOLDER_FPS)
                else:
                    seconds = frame.time
                start = seconds if start is None else start
                # Timestamps of damaged files can jump back.
                previous = max(seconds - start, previous + 1e-3) if index else 0.0
                yield index, previous, lambda frame=frame: to_image(frame)

    def _decode(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        import av

        deinterlacer: Any = None
        packets = iter(container.demux(stream))
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:  # the file ends here
                self.broken += 1
                return
            try:
                frames = packet.decode()  # the last packet has no dts and flushes the decoder
            except av.FFmpegError:
                self.broken += 1
                continue
            for frame in frames:
                if frame.interlaced_frame:
                    deinterlacer = deinterlacer or _make_deinterlacer(stream)
                    deinterlacer.push(frame)
                    yield deinterlacer.pull()
                else:
                    yield frame


def read_ahead(items: Iterable[T], ahead: int = AHEAD) -> Iterator[T]:
    """Yield items, the next ``ahead`` of which a thread computes; 0: without a thread."""
    return _read_ahead(items, ahead) if ahead else iter(items)


def _read_ahead(items: Iterable[T], ahead: int) -> Generator[T, None, None]:
    stream, end = iter(items), object()
    with (
        ThreadPoolExecutor(1) as pool,
        closing(prefetch(pool, lambda _: next(stream, end), repeat(None), ahead)) as ready,
    ):
        yield from takewhile(lambda item: item is not end, ready)


def open_video(source: str | Path | int) -> InputContainer:
    """Open a source that has a video stream.

    Raises:
        VideoReadError: It cannot be opened, or has none.
    """
    try:
        import av
    except ImportError as error:
        raise VideoReadError(
            f'reading videos needs PyAV; install it: {install_hint("video")}'
        ) from error
    try:
        if isinstance(source, int):
            container = av.open(f'/dev/video{source}', format='v4l2')
        else:
            container = av.open(str(source))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoReadError(f'{source}: not a video that can be read ({error})') from error
    if not container.streams.video or container.format.name == 'tty':  # FFmpeg draws text files
        container.close()
        raise VideoReadError(f'{source}: the file has no video stream, only sound, text or data')
    return container


def to_image(frame: VideoFrame) -> Image:
    """Convert a decoded frame to RGB uint8 (H, W, 3), upright."""
    image = frame.to_ndarray(format='rgb24')
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns))


def _make_deinterlacer(stream: VideoStream) -> Any:
    import av.filter

    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(template=stream),
        graph.add('yadif', 'mode=send_frame:deint=interlaced'),
        graph.add('buffersink'),
    ).configure()
    return graph


def _natural_order(path: Path) -> list[tuple[int, int | str]]:
    """Sort key: 2.jpg before 10.jpg."""
    parts = re.split(r'(\d+)', path.name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]
