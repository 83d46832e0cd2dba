"""Results to show: the folder of a run, or a COCO results file."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..evaluation.comparison import Comparison, ImageQuality, compare, rate_images
from ..evaluation.overlaps import Row
from ..evaluation.scored import ScoredResults, load_scored_results
from ..io.coco import Task
from ..io.coco_people import people_from_coco
from ..io.images import ImageReadError, describe_exchanged_sides, read_image
from ..io.inputs import is_file, locate_image, name_forms
from ..io.records import people_from_record, read_record
from ..masks import Masks
from ..structures import Image, People

RESULTS = 'coco_results.json'


@dataclass
class Side:
    """What one run found in one image."""

    people: People
    dropped: int = 0
    seconds: float | None = None
    raw: Masks | None = None  # masks before overlaps were resolved, one per person
    painted: list[dict[str, Any]] | None = None  # RLE painted out before round 2, 3, ...
    quality: ImageQuality | None = None
    verdicts: list[str] = field(default_factory=list)


@dataclass
class Entry:
    """An image of the report."""

    name: str
    size: tuple[int, int]  # H, W
    sides: list[Side]
    image: Image | str  # (H, W, 3) RGB uint8, or the reason why it is missing
    truth: list[Row] | None = None  # annotated people


class RunFolder:
    """The folder of a run; its records are read one at a time.

    Raises:
        ValueError: The folder has no results.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        root = folder / 'predictions'
        self.records = sorted(p for p in root.rglob('*.json') if not p.name.startswith('.'))
        if not self.records and not (folder / 'videos').is_dir():
            raise ValueError(
                f'{folder} has no predictions/ and no videos/; name the --out-dir of `bmp run`'
            )
        self.info = self._read('run.json', {})
        self.failures = [f for f in self._read('failures.json', []) if isinstance(f, dict)]
        config = folder / 'config.py'
        self.config = config.read_text('utf-8', 'replace') if config.is_file() else ''

    def _read(self, name: str, default: Any) -> Any:
        try:
            content = json.loads((self.folder / name).read_bytes())
        except (OSError, ValueError):
            return default
        return content if isinstance(content, type(default)) else default

    def entries(self, folders: Sequence[Path]) -> Iterator[Entry]:
        """Read the images in the order of their names; damaged records become failures."""
        for path in self.records:
            loaded = self.load(path)
            if loaded is None:
                text = 'this prediction is damaged; run the same command again'
                self.failures.append({'input': str(path), 'error': 'ValueError', 'message': text})
                continue
            record, side = loaded
            name, size = str(record.get('input', path.stem)), side.people.image_shape
            own = Path(str(record.get('source', name)))
            yield Entry(name, size, [side], find_image(own, name, folders, size))

    def load(self, path: Path) -> tuple[dict[str, Any], Side] | None:
        """Read a record, and the rounds that the run recorded with ``--save report``."""
        record = read_record(path)
        try:
            people = people_from_record(record or {})
        except (KeyError, TypeError, ValueError):
            return None
        assert record is not None
        seconds = record.get('seconds')
        side = Side(people, len(record['dropped']), seconds if _is_number(seconds) else None)
        relative = path.relative_to(self.folder / 'predictions')
        try:
            rounds = json.loads((self.folder / 'rounds' / relative).read_bytes())
            raw = Masks.from_rle(rounds['masks'], people.image_shape)
            Masks.from_rle(rounds['painted'], people.image_shape)
        except (OSError, KeyError, TypeError, ValueError):
            return record, side
        if len(raw) >= len(people):
            side.raw, side.painted = raw.select(range(len(people))), rounds['painted']  # type: ignore[arg-type]
        return record, side

    def by_name(self) -> dict[str, Path]:
        """Record of each image, by the last form of its name."""
        names = {}
        for path in self.records:
            record = read_record(path) or {}
            names[name_forms(str(record.get('input', path.stem)))[-1]] = path
        return names


@dataclass(frozen=True, eq=False)
class Scored:
    """One or two results scored on the same annotations."""

    task: Task
    sides: tuple[ScoredResults, ...]
    comparison: Comparison | None  # of two
    qualities: tuple[dict[int | str, ImageQuality], ...]
    runs: tuple[RunFolder | None, ...]

    @classmethod
    def load(
        cls,
        results: Sequence[Path],
        annotations: Path,
        task: Task,
        min_score: float,
        person_category: str | None,
    ) -> Scored:
        """Read, check and score results; each is a COCO file or the folder of a run.

        Raises:
            ValueError: The files cannot be read or do not match.
        """
        files = [find_results(path) for path in results]
        sides = tuple(
            load_scored_results(
                file, annotations, [task], min_score=min_score, person_category=person_category
            )
            for file in files
        )
        comparison = compare(sides[0], sides[1], task) if len(sides) == 2 else None
        qualities = (
            (rate_images(sides[0], task),)
            if comparison is None
            else tuple({p.image_id: getattr(p, s) for p in comparison.images} for s in 'ab')
        )
        runs = tuple(RunFolder(path) if path.is_dir() else None for path in results)
        return cls(task, sides, comparison, qualities, runs)

    def entries(self, folders: Sequence[Path]) -> Iterator[Entry]:
        """Read the annotated images in the order of the annotations."""
        content = self.sides[0].annotations_of(self.task)
        truth = _group(content['annotations'])
        rows = [_group(side.results) for side in self.sides]
        records = [run.by_name() if run else {} for run in self.runs]
        for image in content['images']:
            size, name = (int(image['height']), int(image['width'])), str(image['file_name'])
            sides, source = [], None
            for n, run in enumerate(self.runs):
                path = records[n].get(name_forms(name)[-1])
                loaded = run.load(path) if run and path else None
                own = rows[n].get(image['id'], [])
                side = Side(people_from_coco(own, *size))
                if loaded and len(loaded[1].people) == len(own):
                    side, source = loaded[1], Path(str(loaded[0].get('source', name)))
                side.quality = self.qualities[n][image['id']]
                side.verdicts = _verdicts(own, side.quality)
                sides.append(side)
            pixels = find_image(source, name, folders, size)
            yield Entry(name, size, sides, pixels, truth.get(image['id'], []))


def find_results(path: Path) -> Path:
    """The COCO results of a folder of a run; a file is returned as it is."""
    if not path.is_dir():
        return path
    if not (path / RESULTS).is_file():
        raise ValueError(
            f'{path} has no {RESULTS}, which annotations are compared with; run the same command '
            'with --save coco (it computes nothing again)'
        )
    return path / RESULTS


def find_image(
    source: Path | None, name: str, folders: Sequence[Path], size: tuple[int, int]
) -> Image | str:
    """Read an image from its source, or by its name in folders; the reason if that fails."""
    paths = [] if source is None else [source]
    for folder in folders:
        path = locate_image(folder, name)
        if is_file(path):
            if not path.resolve().is_relative_to(folder.resolve()):
                return f'{name} is outside of the image folder, and is not opened'
            paths.insert(0, path)
    paths = [path for path in paths if is_file(path)]
    if not paths:
        where = ' or '.join(map(str, folders)) or str(source)
        return f'no image {name} in {where}; name its folder: --images DIR'
    try:
        image = read_image(paths[0])
    except ImageReadError as error:
        return f'the image cannot be read: {error}'
    if image.shape[:2] == size:
        return image
    return (
        f'the image is {image.shape[1]} x {image.shape[0]}, the results say {size[1]} x {size[0]}'
        + describe_exchanged_sides(image.shape[:2], size)
    )


def _verdicts(rows: Sequence[Row], quality: ImageQuality) -> list[str]:
    hits, false = ({id(row) for row in part} for part in (quality.hits, quality.false_rows))
    return ['hit' if id(r) in hits else 'false' if id(r) in false else '' for r in rows]


def _group(rows: Sequence[Row]) -> dict[int | str, list[Row]]:
    grouped: dict[int | str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row['image_id']].append(row)
    return grouped


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value
