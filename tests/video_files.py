"""Small video files for tests."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Image

RATE = 8000  # of the sound
# A video whose players turn it by 90 degrees: matrix of the header `tkhd` of MP4.
QUARTER_TURN = struct.pack('>9i', 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)


def numbered(index: int, height: int = 48, width: int = 64) -> Image:
    """A frame whose upper left quarter has the brightness 20 * (index + 1)."""
    image = np.full((height, width, 3), 128, np.uint8)
    image[: height // 2, : width // 2] = 20 * (index + 1)
    return image


def read_number(image: Image) -> int:
    """Index of a frame of `numbered`."""
    height, width = image.shape[:2]
    return round(float(image[: height // 3, : width // 3].mean()) / 20) - 1


def write_video(
    path: Path,
    frames: Iterable[Image],
    times: Sequence[float] | None = None,
    *,
    codec: str = 'libx264',
    pix_fmt: str = 'yuv420p',
    sound: float = 0,
    sound_codec: str = 'aac',
    fps: int = 10,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode frames at times in seconds, with some seconds of sound."""
    import av

    with av.open(str(path), 'w', options=options or {}) as output:
        stream: Any = None
        audio: Any = output.add_stream(sound_codec, rate=RATE) if sound else None
        for index, image in enumerate(frames):
            if stream is None:
                stream = output.add_stream(codec, rate=fps)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.codec_context.time_base = Fraction(1, 1000)
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            seconds = index / fps if times is None else times[index]
            frame.pts, frame.time_base = round(1000 * seconds), Fraction(1, 1000)
            output.mux(stream.encode(frame))
        if stream is not None:
            output.mux(stream.encode())
        for start in range(0, round(sound * RATE), 1024):
            wave = np.sin(np.arange(start, start + 1024) / 10, dtype=np.float32)[None]
            block = av.AudioFrame.from_ndarray(wave, format='fltp', layout='mono')
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            output.mux(audio.encode(block))
        if audio is not None:
            output.mux(audio.encode())
    return path


def turn(path: Path) -> Path:
    """Make players turn an MP4 file by 90 degrees."""
    data = bytearray(path.read_bytes())
    start = data.index(b'tkhd') + 44
    data[start : start + 36] = QUARTER_TURN
    path.write_bytes(data)
    return path
