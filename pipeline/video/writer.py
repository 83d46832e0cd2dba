"""Write annotated videos in segments, and join them with the sound of the source.

A segment is complete once it has its final name, so that an interrupted run goes on after the
last one. Joining copies packets: nothing is encoded twice.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..arrays import Image
from ..io.atomic import atomic_file
from .reader import open_video

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream

logger = logging.getLogger(__name__)

TICKS = Fraction(1, 90_000)
# Codec, suffix and options; the first that PyAV was built with is used. H.264 plays everywhere. It
# must not reorder frames: decoding times of one segment would reach into the segment before.
CODECS = (
    ('libx264', '.mp4', {'crf': '20', 'preset': 'veryfast', 'bf': '0'}),
    ('libvpx-vp9', '.webm', {'crf': '30', 'b:v': '0', 'deadline': 'realtime', 'cpu-used': '8'}),
)


def choose_codec() -> tuple[str, str, dict[str, str]]:
    """Name, file suffix and options of the encoder."""
    import av

    available = av.codecs_available
    return next((c for c in CODECS if c[0] in available), CODECS[-1])


def write_segment(path: Path, frames: Iterable[tuple[float, Image]], rate: float) -> None:
    """Encode frames (seconds, (H, W, 3) RGB) of one size; timestamps are kept.

    Args:
        path: file to write; its suffix chooses the container.
        frames: timestamps ascend.
        rate: nominal frames a second, for players and for the encoder's rate control.
    """
    import av

    codec, _, options = choose_codec()
    with atomic_file(path) as file, av.open(file, 'w', format=_container(path)) as output:
        stream: Any = None
        for seconds, image in frames:
            even = _pad_to_even(image)
            if stream is None:
                stream = output.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
                stream.height, stream.width = even.shape[:2]
                stream.pix_fmt, stream.options = 'yuv420p', dict(options)
                stream.codec_context.time_base = TICKS
            # Left to the encoder, the conversion differs in a few pixels from run to run.
            frame = av.VideoFrame.from_ndarray(even, format='rgb24').reformat(format='yuv420p')
            frame.pts, frame.time_base = round(seconds / TICKS), TICKS
            output.mux(stream.encode(frame))
        if stream is not None:
            output.mux(stream.encode())


def join_segments(
    path: Path,
    segments: Sequence[Path],
    sound: str | Path | None = None,
    start: float = 0.0,
    end: float | None = None,
) -> None:
    """Join segments in order, and copy the first sound stream of the video ``sound``.

    Args:
        path: file to write; its suffix chooses the container.
        segments: files of `write_segment`.
        sound: video with the sound; None or a video without sound: silent.
        start: second of that video, counted from its first frame, which is second 0 of the result.
        end: second at which the sound ends; None: at its own end.
    """
    import av

    try:
        _join(path, segments, sound, start, end)
    except (av.FFmpegError, ValueError) as error:
        if sound is None:
            raise
        logger.warning('%s cannot hold the sound of %s (%s); it is silent', path, sound, error)
        _join(path, segments, None, start, end)


def _join(
    path: Path, segments: Sequence[Path], sound: str | Path | None, start: float, end: float | None
) -> None:
    import av

    with ExitStack() as stack:
        file = stack.enter_context(atomic_file(path))
        output = stack.enter_context(av.open(file, 'w', format=_container(path)))
        head = stack.enter_context(open_video(segments[0]))
        video = output.add_stream_from_template(head.streams.video[0])
        sources = [_packets(segments, video)]
        container = stack.enter_context(open_video(sound)) if sound is not None else None
        if container is not None and container.streams.audio:
            track = container.streams.audio[0]
            copy = output.add_stream_from_template(track)
            source = container.streams.video[0]
            first = float((source.start_time or 0) * (source.time_base or 0))
            packets = _cut(container.demux(track), first + start, start, end)
            sources.append(_copy(packets, copy))
        for packet in heapq.merge(*sources, key=lambda p: (p.dts or 0) * p.time_base):
            output.mux(packet)


def _packets(segments: Sequence[Path], target: Stream) -> Iterator[Packet[Any]]:
    for segment in segments:
        with open_video(segment) as container:
            yield from _copy(container.demux(container.streams.video[0]), target)


def _cut(
    packets: Iterable[Packet[Any]], origin: float, start: float, end: float | None
) -> Iterator[Packet[Any]]:
    """Packets from ``origin`` on, which becomes second 0; all of them if ``start`` is 0."""
    for packet in packets:
        if packet.dts is None or packet.pts is None:
            continue
        seconds = float(packet.pts * packet.time_base) - origin
        if (start and seconds < 0) or (end is not None and seconds >= end - start):
            continue
        shift = round(origin / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        yield packet


def _copy(packets: Iterable[Packet[Any]], target: Stream) -> Iterator[Packet[Any]]:
    for packet in packets:
        if packet.dts is not None:  # the last one of a file is empty
            packet.stream = target
            yield packet


def _container(path: Path) -> str:
    return {'.mp4': 'mp4', '.webm': 'webm'}.get(path.suffix, 'matroska')


def _pad_to_even(image: Image) -> Image:
    """Repeat the last row or column: yuv420p needs even sides."""
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return np.ascontiguousarray(image)
    padded = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.uint8)
