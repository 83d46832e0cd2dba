"""Find the videos among the inputs of a command."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from ..io.images import STREAMS, WrongInputError
from ..io.inputs import VIDEO_SUFFIXES, Failure

SAMPLE = 1 << 20  # bytes at both ends of a file that identify it


@dataclass(frozen=True)
class VideoInput:
    """A video, a folder of frames, or a live source.

    Attributes:
        source: path, address, or index of a camera.
        name: of its folder in the results; unique in a run.
        live: a camera or a stream, which cannot be read twice.
    """

    source: str | int
    name: str
    live: bool = False

    def fingerprint(self) -> Any:
        """What changes when the content changes, without reading all of it."""
        path = Path(str(self.source))
        if path.is_dir():
            return sorted((p.name, p.stat().st_size) for p in path.iterdir())
        if not path.is_file():
            return str(self.source)
        size = path.stat().st_size
        digest = hashlib.sha256()
        with path.open('rb') as file:
            for start in (0, max(size - SAMPLE, 0)):
                file.seek(start)
                digest.update(file.read(SAMPLE))
        return [size, digest.hexdigest()]


def split_videos(
    sources: Sequence[str], folders: Sequence[str] = (), *, only_videos: bool = False
) -> tuple[list[VideoInput], list[str], list[Failure]]:
    """Divide inputs into videos and others.

    Args:
        sources: paths, patterns, addresses and indices of cameras.
        folders: of numbered frames, each a video.
        only_videos: every source is a video, whatever its suffix.

    Returns:
        The videos, the other sources, and a failure for each video that does not exist.
    """
    videos: list[str] = []
    others: list[str] = []
    failures = []
    for source in sources:
        (videos if only_videos or is_video(source) else others).append(source)
    paths: list[str] = []
    for source in [*videos, *folders]:
        path = os.path.expanduser(source)
        if is_live(source) or '://' in source or os.path.exists(path):
            paths.append(path)
        elif matches := sorted(glob.glob(path, recursive=True)):
            paths += matches
        else:
            error = WrongInputError(f'{source}: no such file or directory; check the path')
            failures.append(Failure.from_error(source, error))
    return _name(dict.fromkeys(paths)), others, failures


def is_live(source: str) -> bool:
    """Whether a source is the index or device of a camera, or the address of a stream."""
    camera = source.isdecimal() and not os.path.exists(source)
    return camera or source.lower().startswith(STREAMS)


def is_video(source: str) -> bool:
    """Whether a source is a video by its suffix, or live."""
    file = source.lower().endswith(VIDEO_SUFFIXES) and not os.path.isdir(source)
    return file or is_live(source)


def _name(paths: Iterable[str]) -> list[VideoInput]:
    """Name videos by the stem of their file; a live source by its time too: each is new."""
    result: list[VideoInput] = []
    taken: set[str] = set()
    for path in paths:
        live = is_live(path)
        number = path.removeprefix('/dev/video')
        if live:
            stem = f'camera_{number}' if number.isdecimal() else re.sub(r'\W+', '_', path)
            stem += time.strftime('_%Y%m%d_%H%M%S')
        else:
            stem = Path(os.path.abspath(path)).stem or 'video'
        names = chain([stem], (f'{stem}_{i}' for i in count(2)))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        result.append(VideoInput(int(number) if live and number.isdecimal() else path, name, live))
    return result
