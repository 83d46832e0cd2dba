"""What can be analyzed: results of runs, files of people and files of tracks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..io.inputs import InputError
from ..io.records import load_people
from ..structures import ImageSource, People
from ..tracking.formats import TrackedPeople, read_mot
from ..tracking.tracks import FinishConfig, TrackRows
from ..video.results import SUMMARY, TrackedVideo
from ..video.store import FrameStore
from .attributes import GroundSource, PersonTable

if TYPE_CHECKING:
    from .analysis import Source

UNITS = {'m': 1.0, 'cm': 0.01, 'mm': 0.001}


@dataclass(frozen=True)
class CrowdSource:
    """One crowd to analyze.

    Attributes:
        name: of the folder of its files; '' if it is the only one.
        content: what `analyze` takes.
        video: path of the video, for pictures.
    """

    name: str
    content: Source
    video: str | None = None


def find_sources(path: Path, fps: float = 25.0) -> list[CrowdSource]:
    """Crowds in a folder of results or in a file.

    Args:
        path: folder of ``bmp run``, folder of one of its videos, file of `People.save`,
            MOTChallenge text, or PeTrack text.
        fps: rate of a file that does not state one.

    Raises:
        InputError: There are no results.
        ValueError: A file is damaged.
    """
    if path.is_dir():
        found = [_video_source(f) for f in sorted(path.glob('videos/*')) if (f / SUMMARY).is_file()]
        if (path / SUMMARY).is_file():
            found.append(_video_source(path))
        records = sorted(path.glob('predictions/**/*.json'))
        if records:
            found.insert(0, CrowdSource('images' if found else '', list(_read_images(records))))
        if not found:
            raise InputError(
                f'{path}: neither predictions/ nor videos/ of a run; give a folder of `bmp run`, '
                'or images or a video'
            )
        return [replace(found[0], name='')] if len(found) == 1 else found
    if path.suffix.lower() == '.json':
        return [CrowdSource('', load_people(path))]
    return [CrowdSource('', read_tracks(path, fps))]


def is_results(path: Path) -> bool:
    """Whether `find_sources` reads a path; other inputs go through the pipeline first."""
    if path.is_dir():
        return any((path / name).exists() for name in ('predictions', 'videos', SUMMARY))
    return path.suffix.lower() in ('.json', '.txt') and path.is_file()


def _video_source(folder: Path) -> CrowdSource:
    store = FrameStore(folder / 'frames')
    summary = json.loads((folder / SUMMARY).read_text(encoding='utf-8'))
    if store.read(0) is None:
        raise InputError(f'{folder}: the frames of this video are absent or damaged; run it again')
    video = TrackedVideo.read(store, folder.name, FinishConfig())
    people: Iterator[TrackedPeople] = video.people()
    return CrowdSource(folder.name, people, str(summary.get('source', '')) or None)


def _read_images(paths: list[Path]) -> Iterator[People]:
    for path in paths:
        people = load_people(path)
        record = json.loads(path.read_bytes())
        source = record.get('source') or record.get('path') or path.stem
        yield replace(people, source=ImageSource(str(source)))


def read_tracks(path: Path, fps: float = 25.0) -> TrackRows | PersonTable:
    """Rows of MOTChallenge text, or positions of PeTrack text.

    PeTrack text has rows ``id frame x y z``; its comments state the frame rate and, as in
    ``x/cm``, the unit: m, cm or mm. Positions in px need a camera, as boxes do.

    Raises:
        ValueError: The file is neither.
    """
    text = path.read_text('utf-8', 'replace')
    lines = [line for line in text.splitlines() if line.strip()]
    first = next((line for line in lines if not line.startswith('#')), '')
    if ',' in first:
        return read_mot(path, fps)
    comments = '\n'.join(line for line in lines if line.startswith('#'))
    rate = re.search(r'framerate:\s*(\d{1,4}(?:\.\d+)?)', comments)
    unit = re.search(r'x\s*/\s*(px|mm|cm|m)\b', comments)
    try:
        rows = [[float(v) for v in line.split()[:4]] for line in lines if not line.startswith('#')]
        table = np.array(rows, np.float64).reshape(-1, 4)
    except ValueError as error:
        raise InputError(
            f'{path}: neither MOTChallenge text (frame, id, left, top, width, height, ...) nor '
            'PeTrack text (id frame x y z)'
        ) from error
    if not (np.abs(table) < 2**31).all():
        raise InputError(f'{path}: a number is not finite or beyond 2^31')
    frames = table[:, 1].astype(np.int64)
    points = {'ground_px' if unit and unit[1] == 'px' else 'ground_m': table[:, 2:4].copy()}
    if 'ground_m' in points:
        points['ground_m'] *= UNITS[unit[1] if unit else 'm']
    return PersonTable.of_length(
        len(table), images=frames, seconds=frames / (float(rate[1] if rate else 0) or fps),
        track_ids=table[:, 0].astype(np.int64), person_ids=table[:, 0].astype(np.int64),
        ground_sources=np.full(len(table), GroundSource.GIVEN, np.int32), **points,
    )  # fmt: skip
