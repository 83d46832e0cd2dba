"""Write the report: an HTML page with its data, in a folder or in one file.

A folder has ``index.html`` with one line per image, and per image a thumbnail, the image and a
script with its people. The page loads them when they are shown: a page that was opened from the
disk can load scripts and images, but no other files.
"""

from __future__ import annotations

import json
import unicodedata
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image

from .. import __version__
from ..io.atomic import write_bytes, write_text
from ..keypoints import COCO_17, KeypointSet
from ..masks import Masks, MaskSource
from ..structures import Image
from ..visualization.draw import draw_people
from ..visualization.style import DrawingStyle, Hide
from .describe import (
    add_truth_masks,
    crowding,
    describe_people,
    describe_truth,
    find_occlusions,
    outline,
)
from .sources import Entry, Side

PAGE = Path(__file__).parent / 'page'
THUMBNAIL = 256  # px of the longer side
COUNTS = np.array([0, 1, 2, 3, 5, 10, 20, 50, 100])  # lower ends of the bars of people per image
SIZES = np.array([0, 16, 32, 64, 96, 192, 384])  # px, as above, of the square root of the area


@dataclass(frozen=True)
class ReportOptions:
    """What the report shows, and where it is."""

    out: Path  # a folder, or one file if its name ends with .html
    max_side: int = 1600  # px of the longer side of an image
    hide: Hide = 'none'
    names: tuple[str, ...] = ('',)  # of the sides
    task: str | None = None  # of the ground truth

    @property
    def single(self) -> bool:
        """Whether everything is in one file."""
        return self.out.suffix.lower() in ('.html', '.htm')

    @property
    def index(self) -> Path:
        """Path of the page."""
        return self.out if self.single else self.out / 'index.html'


class ReportWriter:
    """Writes the data of one image after the other, then the page."""

    def __init__(self, options: ReportOptions) -> None:
        self._options = options
        self._images: list[dict[str, Any]] = []
        self._data: dict[int, dict[str, Any]] = {}  # of a single file
        self._scores: list[float] = []
        self._sizes: list[float] = []
        self._rounds: Counter[int] = Counter()
        self._keypoints = COCO_17
        if not options.single:
            for kind in ('data', 'images', 'thumbs'):  # of an earlier report
                for file in (options.out / kind).glob('[0-9]*.j*'):
                    file.unlink()

    def add(self, entry: Entry) -> None:
        """Add an image."""
        number, side = len(self._images), entry.sides[-1]
        people, pixels = side.people, None
        self._keypoints = people.keypoint_set
        self._scores += people.scores.tolist()
        self._sizes += np.sqrt(people.masks.areas).tolist()
        self._rounds.update(people.rounds.tolist())
        row: dict[str, Any] = {
            'name': readable(entry.name),
            'people': len(people),
            'dropped': side.dropped,
            'low': round(float(people.scores.min()), 3) if len(people) else None,
            'crowding': crowding(people.boxes),
            'fallback': int((people.mask_sources != MaskSource.SAM).sum()),
            'seconds': side.seconds,
            'rounds': int(people.rounds.max(initial=0)),
            **_qualities(entry.sides),
        }
        data: dict[str, Any] = {
            'size': [entry.size[1], entry.size[0]],
            'sides': [_describe_side(one) for one in entry.sides],
        }
        if entry.truth is not None:
            missed = [set(one.quality.missed) if one.quality else set() for one in entry.sides]
            task = self._options.task or 'bbox'
            data['truth'] = describe_truth(entry.truth, missed, task)
            if task == 'segm':
                add_truth_masks(data['truth'], entry.truth, entry.size)
        if isinstance(entry.image, str):
            row['problem'] = readable(entry.image)
        else:
            pixels = entry.image
            if self._options.hide != 'none':
                for one in entry.sides:
                    style = DrawingStyle((), 'none', hide=self._options.hide)
                    pixels = draw_people(pixels, one.people, style)
            drawn = draw_people(pixels, people, DrawingStyle(labels='none'))
            data['image'] = self._save('images', number, _encode(pixels, self._options.max_side))
            row['thumb'] = self._save('thumbs', number, _encode(drawn, THUMBNAIL, 74))
        if self._options.single:
            self._data[number] = data
        else:
            script = f'bmp.data[{number}] = {to_script(data)};\n'
            write_text(self._options.out / 'data' / f'{number:06d}.js', script)
        self._images.append(row)

    def finish(self, facts: dict[str, Any], failures: Sequence[dict[str, Any]] = ()) -> Path:
        """Write the page with the facts of the run; returns its path."""
        images = self._images + [
            {'name': readable(f.get('input', '')), 'people': 0,
             'failure': readable(f'{f.get("error", "")}: {f.get("message", "")}')}
            for f in failures
        ]  # fmt: skip
        people = [row['people'] for row in self._images]
        index = {
            'version': __version__,
            'sides': [readable(name) for name in self._options.names],
            'task': self._options.task,
            'images': images,
            'charts': [
                _histogram('People per image', people, COUNTS),
                _histogram('Score of a person', self._scores, np.linspace(0, 0.9, 10)),
                _histogram(
                    'Size of a person: square root of the mask area, px', self._sizes, SIZES
                ),
                {'title': 'People found in each round', 'bars': sorted(self._rounds.items())},
            ],
            **_describe_keypoints(self._keypoints),
            **facts,
        }
        write_text(self._options.index, render_page(index, self._data))
        return self._options.index

    def _save(self, kind: str, number: int, jpeg: bytes) -> str:
        if self._options.single:
            return 'data:image/jpeg;base64,' + b64encode(jpeg).decode()
        name = f'{kind}/{number:06d}.jpg'
        write_bytes(self._options.out / name, jpeg)
        return name


def render_page(index: dict[str, Any], data: dict[int, Any]) -> str:
    """Insert style, script and data into the page."""
    template = (PAGE / 'report.html').read_text()
    parts = {
        'TITLE': escape(str(index.get('title', 'Report'))),
        'STYLE': (PAGE / 'report.css').read_text(),
        'DATA': f'window.bmp = {{index: {to_script(index)}, data: {to_script(data)}}};',
        'SCRIPT': (PAGE / 'report.js').read_text(),
    }
    head, *rest = template.split('@@')
    # Names between two marks are replaced once, so that no data is taken for a mark.
    for n, part in enumerate(rest):
        head += parts[part] if n % 2 == 0 else part
    return head


def to_script(content: Any) -> str:
    """JSON that is safe inside a script element: ASCII, and no tag can begin in it."""
    text = json.dumps(content, separators=(',', ':'), allow_nan=False)
    return text.replace('<', '\\u003c')


def readable(text: Any) -> str:
    """Show control characters and marks of direction as symbols, in a limited length."""
    shown = ''.join(
        chr(0x2400 + ord(c)) if c < ' ' else '\N{REPLACEMENT CHARACTER}'
        if unicodedata.category(c) in ('Cc', 'Cf', 'Cs') else c
        for c in str(text)[:2000]
    )  # fmt: skip
    return shown


def _describe_side(side: Side) -> dict[str, Any]:
    people, raw = side.people, side.raw
    described: dict[str, Any] = {'people': describe_people(people, raw, side.verdicts)}
    if raw is not None and side.painted is not None:
        masks = Masks.from_rle(side.painted, people.image_shape)
        described['painted'] = [
            outline(*both) for both in zip(masks.crops, masks.offsets, strict=True)
        ]
        described['occlusions'] = find_occlusions(people, raw)
    return described


def _qualities(sides: Sequence[Side]) -> dict[str, Any]:
    qualities = [side.quality for side in sides if side.quality is not None]
    if not qualities:
        return {}
    last = qualities[-1]
    row = {'quality': round(last.quality, 4), 'missed': len(last.missed), 'false': last.false}
    if len(qualities) == 2:
        row['gain'] = round(last.quality - qualities[0].quality, 4)
    return row


def _describe_keypoints(keypoint_set: KeypointSet) -> dict[str, Any]:
    return {'keypoints': list(keypoint_set.names), 'skeleton': [*map(list, keypoint_set.skeleton)]}


def _histogram(title: str, values: Iterable[float], starts: Any) -> dict[str, Any]:
    """Bars by the lower ends of their ranges; the last one is open."""
    places = np.searchsorted(starts, np.asarray(list(values), float) + 1e-9, side='right') - 1
    counts = np.bincount(places.clip(0), minlength=len(starts)).tolist()
    names = [f'{v:g}' for v in starts]
    whole = all(float(v).is_integer() for v in starts)
    ends = [*(starts[1:] - 1 if whole else starts[1:]), None]
    labels = [
        f'{name}+' if end is None and whole else name
        if end is None or f'{end:g}' == name or not whole else f'{name}–{end:g}'
        for name, end in zip(names, ends, strict=True)
    ]  # fmt: skip
    return {'title': title, 'bars': list(zip(labels, counts, strict=True))}


def _encode(image: Image, max_side: int, quality: int = 84) -> bytes:
    factor = max_side / max(image.shape[:2])
    if factor < 1:
        size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    stream = BytesIO()
    PIL.Image.fromarray(image).save(stream, 'JPEG', quality=quality, optimize=True)
    return stream.getvalue()
