"""What the page computes: people of an image or a video, drawings, crops and files."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image

from ..api import LoadedPipeline, load_pipeline
from ..candidates import Candidates
from ..config import CONFIG_FOLDER, load_config
from ..io.atomic import write_bytes
from ..io.dataset_writers import write_dataset_files
from ..io.images import ImageReadError, read_image
from ..io.records import MergeEntry, save_people
from ..masks import Masks
from ..report.describe import crowding, find_occlusions
from ..report.sources import Entry, Side
from ..report.write import ReportOptions, ReportWriter
from ..structures import Image, People
from ..video.overlay import OVERLAY, write_overlay
from ..video.reader import FrameSelection, VideoReader
from ..video.results import TrackedVideo
from ..video.store import FrameStore
from ..visualization.style import DrawingStyle
from ..weights.manifest import locate_weights, read_manifest

MAX_PIXELS = 50_000_000  # of an image on the page
MAX_SECONDS = 60  # of a video on the page
TRAIL = 25  # frames


class RefusedError(ValueError):
    """The page does not compute this; the message says why."""


@dataclass(frozen=True, eq=False)
class Found:
    """People of an image, before thresholds."""

    path: Path
    candidates: Candidates
    min_score: float | None  # of the config
    seconds: float

    def keep(self, min_score: float, last_round: int) -> People:
        """People with a score, found up to a round."""
        found = self.candidates
        early = found.people.rounds <= last_round
        return replace(found, people=found.people.select(early)).keep(min_score)

    def side(self, min_score: float, last_round: int) -> Side:
        """The same for a report, with what was recorded of the rounds."""
        people, found = self.keep(min_score, last_round), self.candidates
        side = Side(people, len(found.people) - len(people), self.seconds)
        if found.raw_masks is not None:
            early = np.flatnonzero(found.people.rounds <= last_round)[: len(people)]
            unions = (masks.union() for masks in found.painted)
            side.raw = found.raw_masks.select(early)
            side.painted = Masks.from_dense(unions, people.image_shape).to_rle()
        return side


def list_pipelines() -> list[str]:
    """Names of the configs whose weights are on this computer."""
    known, names = read_manifest(), []
    for path in sorted(CONFIG_FOLDER.glob('bmp_*.py')):
        settings = load_config(path.stem).settings
        weights = [p.checkpoint for p in (settings.detector, settings.pose, settings.segmenter)]
        files = [
            locate_weights(known[name]) if name in known else Path(name)
            for name in weights
            if name is not None
        ]
        if len(files) == len(weights) and all(file.is_file() for file in files):
            names.append(path.stem)
    return names


@lru_cache(maxsize=1)  # the models of one pipeline are in memory
def get_pipeline(
    config: str, device: str | None, max_rounds: int, refine: bool, slices: str
) -> LoadedPipeline:
    """Load a pipeline, or return the one that is loaded."""
    grid = None if slices == 'off' else slices
    options = {'detector.slices.grid': grid, 'loop.refine': refine}
    return load_pipeline(config, device, cfg_options=options, max_rounds=max_rounds)


def find_people(pipeline: LoadedPipeline, path: Path, boxes: str) -> Found:
    """Find the people of an image.

    Args:
        pipeline: Models.
        path: File of the image.
        boxes: Lines of x1 y1 x2 y2 px that replace the detector in round one; empty: none.

    Raises:
        RefusedError: The image is too large or no image, or the boxes are no numbers.
        BoxesError: The boxes are wrong.
    """
    image, start = read_small_image(path), time.perf_counter()
    (found,) = pipeline.predict_candidates([image], [parse_boxes(boxes)])
    return Found(path, found, pipeline.min_score, time.perf_counter() - start)


def read_small_image(path: Path) -> Image:
    """Read an image of at most `MAX_PIXELS`; looks at its size first."""
    try:
        with PIL.Image.open(path) as header:
            pixels = header.width * header.height
    except Exception as error:
        raise RefusedError('this file is no image that can be read') from error
    if pixels > MAX_PIXELS:
        raise RefusedError(
            f'the image has {pixels / 1e6:.0f} megapixels; the page takes up to '
            f'{MAX_PIXELS / 1e6:.0f}, `bmp run` takes up to 200'
        )
    try:
        return read_image(path)
    except ImageReadError as error:
        raise RefusedError(f'this image cannot be read: {error}') from error


def parse_boxes(text: str) -> list[list[float]] | None:
    """Parse lines of four numbers; None for an empty text.

    Raises:
        RefusedError: A line has something else.
    """
    rows = [line.replace(',', ' ').split() for line in text.splitlines() if line.strip()]
    try:
        numbers = [[float(value) for value in row] for row in rows]
    except ValueError:
        numbers = [[]]
    if any(len(row) != 4 for row in numbers):
        raise RefusedError('boxes are lines of four numbers: x1 y1 x2 y2 in px of the image')
    return numbers or None


def describe_crowd(found: Found, people: People) -> str:
    """Figures of the crowd in one line."""
    text = f'{len(people)} people of {len(found.candidates.people)} candidates, '
    text += f'{found.seconds:.1f} s, crowding (largest IoU of two boxes) {crowding(people.boxes):g}'
    if found.candidates.raw_masks is not None and len(people):
        raw = found.candidates.raw_masks.select(np.arange(len(people)))
        text += f', {len(find_occlusions(people, raw))} pairs of whom one hides the other'
    return text


def find_person(people: People, x: float, y: float) -> int | None:
    """Row of the smallest person at a point: inside the mask, else inside the box."""
    inside = [
        i
        for i, crop in enumerate(people.masks.crops)
        if crop.size
        and people.masks.crop(i, (slice(int(y), int(y) + 1), slice(int(x), int(x) + 1))).any()
    ]
    if not inside:
        boxes = people.boxes
        hits = (boxes[:, :2] <= (x, y)).all(1) & (boxes[:, 2:] >= (x, y)).all(1)
        inside = np.flatnonzero(hits).tolist()
    return min(inside, key=lambda i: float(people.masks.areas[i])) if inside else None


def cut_person(image: Image, people: People, i: int) -> list[Image]:
    """Crop of a person, and the same with the mask alone."""
    height, width = people.image_shape
    x1, y1, x2, y2 = people.boxes[i].round().astype(int).tolist()
    window = (slice(max(y1, 0), min(max(y2, y1 + 1), height)),
              slice(max(x1, 0), min(max(x2, x1 + 1), width)))  # fmt: skip
    crop = image[window]
    alone = np.where(people.masks.crop(i, window)[..., None], crop, np.uint8(235))
    return [np.ascontiguousarray(crop), np.ascontiguousarray(alone)]


def write_files(
    found: Found, people: People, side: Side, style: DrawingStyle, out: Path
) -> list[str]:
    """Write the people as JSON, COCO, CSV and PNG, and a report; returns the paths."""
    image, name = read_image(found.path), found.path.name
    save_people(people, out / 'people.json')
    entry = MergeEntry(name, 1, people, side.dropped, found.seconds, found.path.stem)
    tables = write_dataset_files(out, ['coco', 'csv'], [entry])
    stream = io.BytesIO()
    PIL.Image.fromarray(people.draw(image, style)).save(stream, 'PNG')
    write_bytes(out / 'overlay.png', stream.getvalue())
    report = ReportWriter(ReportOptions(out / 'report.html', hide=style.hide))
    report.add(Entry(name, people.image_shape, [side], image))
    page = report.finish({'title': f'Report of {name}'})
    return [str(path) for path in (out / 'people.json', *tables, out / 'overlay.png', page)]


def follow_people(
    pipeline: LoadedPipeline, path: Path, out: Path, style: DrawingStyle, every: int
) -> Iterator[tuple[float, str, list[str]]]:
    """Follow the people of a short video; yields fraction, text and, at the end, the files.

    Raises:
        RefusedError: The file is no video, or it is too long.
        VideoReadError: It cannot be read.
    """
    capture = cv2.VideoCapture(str(path))
    fps, frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    opened = capture.isOpened()
    capture.release()
    if not opened:
        raise RefusedError('this file is no video that can be read')
    if fps > 0 and frames / fps > MAX_SECONDS:
        raise RefusedError(
            f'the video has {frames / fps:.0f} seconds; the page takes up to {MAX_SECONDS}, '
            '`bmp run` any length'
        )
    reader = VideoReader(str(path), FrameSelection(end=float(MAX_SECONDS)))
    store = FrameStore(out / 'frames')
    for number, _ in enumerate(pipeline.track(reader, detect_every=every, store=store), 1):
        yield min(0.9, 0.9 * number / max(frames, 1)), f'{number} frames', []
    video = TrackedVideo.read(store, path.stem, pipeline.tracking.finish)
    yield 0.92, 'drawing', []
    write_overlay(out, video, reader, style, TRAIL)
    video.write('mot', out / 'mot.txt')
    video.write('coco-video', out / 'coco_video.json')
    files = [*out.glob(f'{OVERLAY}.*'), out / 'mot.txt', out / 'coco_video.json']
    yield 1.0, f'{video.num_tracks} people in {video.size.num_frames} frames', [*map(str, files)]


def describe_person(people: People, i: int) -> dict[str, Any]:
    """Scores and box of a person, as in COCO rows, without mask and keypoints."""
    row = people[i].to_coco()[0]
    long = ('segmentation', 'image_id', 'category_id', 'person_id')
    shown = {key: value for key, value in row.items() if key not in long}
    return {key: value for key, value in shown.items() if not key.startswith('keypoint')}
