"""Load and validate COCO annotation files before anything runs or is scored.

This module checks files and images; `annotation_rules` checks people.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..io.coco import PERSON, TASKS, Task
from ..keypoint_sets import KEYPOINT_SETS, Convention, convention_of_names
from .annotation_rules import PERSON_RULES, Annotation, Person, Severity, repair_annotation

ImageId = int | str

_SHOWN = 3  # names in a message


class AnnotationError(ValueError):
    """An invalid annotation file; one line per kind of mistake."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """The validated people of a COCO file."""

    content: dict[str, Any]  # COCO file of people only; see `check_annotations`
    tasks: tuple[Task, ...]  # tasks that the file can score
    convention: Convention  # of the keypoints
    warnings: tuple[str, ...]  # one line per kind


def load_annotations(
    path: str | Path,
    *,
    tasks: Sequence[Task] | None = None,
    convention: Convention | None = None,
    images: str | Path | None = None,
) -> Annotations:
    """Read and check a COCO annotation file; see `check_annotations`.

    Args:
        path: the file.
        tasks: as in `check_annotations`.
        convention: as in `check_annotations`.
        images: folder that must contain all images of the file. None: not checked.

    Raises:
        AnnotationError: the file cannot be read or is invalid; names the file.
    """
    try:
        loaded = check_annotations(_read(Path(path)), tasks=tasks, convention=convention)
        if images is not None and (missing := find_missing_images(loaded.content, images)):
            raise AnnotationError(
                f'{len(missing)} of {len(loaded.content["images"])} images are missing in '
                f'{images}: {_listed(missing)}'
            )
    except AnnotationError as error:
        raise AnnotationError(f'{path}: {error}') from error
    return loaded


def check_annotations(
    content: Any, *, tasks: Sequence[Task] | None = None, convention: Convention | None = None
) -> Annotations:
    """Validate the content of a COCO file, and complete its people.

    The result contains only people (the category ``person``; category 1 if the file names none),
    all with category 1. Missing values are added:

    * ``iscrowd``: 0;
    * ``area``: the area of the mask, else 0.53 of the box, as in CrowdPose;
    * ``num_keypoints``: the number of labelled keypoints (a person with 0 is ignored);
    * masks and keypoints of crowd regions, where a task needs them.

    Polygons of fewer than three points are removed. Everything else, including ids and order,
    equals the file.

    Args:
        content: parsed JSON; not modified.
        tasks: tasks to score; a person without the annotation is an error. None: the tasks for
            which all people are annotated; a missing task is a warning.
        convention: keypoint order if the category does not name the keypoints. None: derived from
            their number.

    Raises:
        AnnotationError: the content is not a COCO file, or its people or images are invalid. The
            message has the first case and the count of each kind of mistake.
    """
    images, annotations = _section(content, 'images'), _section(content, 'annotations')
    categories = _section(content, 'categories')
    category = _person_category(categories)
    found = _Findings()
    sizes = _check_images(images, found)
    rows = _people(annotations, categories, category['id'], sizes, found)
    order = _convention(category, rows, convention)
    if order is None:
        found.add('keypoints', 'keypoint order', _other_keypoints(category))
    elif convention not in (None, order):
        text = f'the keypoints are those of {order}, not of {convention}'
        found.add('fatal', 'keypoint order', text)
    people = [Person(row, *sizes[row['image_id']], order) for row in rows]
    for person in people:
        _check_person(person, found)
    if order == 'crowdpose14':
        _check_crowd_index(images, found)
    found.refuse(tasks or ())
    scored = tuple(tasks or [task for task in TASKS if not found[task]])
    left_out = [] if tasks else [f'{t} is left out: {line}' for t in TASKS for line in found[t]]
    return Annotations(
        content={
            **content,
            'images': images,
            'annotations': [repair_annotation(person, scored) for person in people],
            'categories': [{**category, 'id': PERSON, 'name': 'person'}],
        },
        tasks=scored,
        convention=order or 'coco17',
        warnings=(*found['warning'], *left_out),
    )


def find_missing_images(content: dict[str, Any], folder: str | Path) -> list[str]:
    """List the images of a COCO file that ``folder`` does not contain, in the order of the file."""
    names = [image['file_name'] for image in content['images']]
    return [name for name in names if not (Path(folder) / name).is_file()]


class _Findings:
    """Mistakes by severity and kind: the first case and the count of each."""

    def __init__(self) -> None:
        self._first: dict[tuple[Severity, str], str] = {}
        self._counts: Counter[tuple[Severity, str]] = Counter()

    def add(self, severity: Severity, kind: str, text: str) -> None:
        self._first.setdefault((severity, kind), text)
        self._counts[severity, kind] += 1

    def __getitem__(self, severity: Severity) -> list[str]:
        """One line per kind."""
        return [
            text + (f' ({self._counts[key]} in all: {key[1]})' if self._counts[key] > 1 else '')
            for key, text in self._first.items()
            if key[0] == severity
        ]

    def refuse(self, tasks: Sequence[Task]) -> None:
        """Raise if there is a mistake that is fatal for the requested tasks."""
        lacking = [f'{line}; task {task!r} needs it' for task in tasks for line in self[task]]
        if lines := self['fatal'] + lacking:
            raise AnnotationError('\n'.join(lines))


def _check_images(
    images: Sequence[dict[str, Any]], found: _Findings
) -> dict[ImageId, tuple[int, int]]:
    """Check the images and return their (H, W) by id."""
    sizes: dict[ImageId, tuple[int, int]] = {}
    for number, image in enumerate(images):
        image_id, name = image.get('id'), image.get('file_name')
        where = f'image {image_id!r}' if 'id' in image else f'image number {number}'
        height, width = image.get('height'), image.get('width')
        if not isinstance(image_id, int | str):
            found.add('fatal', 'image id', f'{where}: the id must be a number or text')
            continue
        if image_id in sizes:
            found.add('fatal', 'image id twice', f'{where}: there are two images of this id')
        if not isinstance(name, str) or not name:
            found.add('fatal', 'no file_name', f'{where}: there is no file_name')
        sizes[image_id] = (0, 0)
        if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
            sizes[image_id] = (height, width)
        else:
            text = f'{where}: height and width must be px, got {height!r} and {width!r}'
            found.add('fatal', 'image size', text)
    return sizes


def _people(
    annotations: Sequence[Annotation],
    categories: Sequence[dict[str, Any]],
    person: Any,
    sizes: Mapping[ImageId, tuple[int, int]],
    found: _Findings,
) -> list[Annotation]:
    """Select the people of known images."""
    known = [category.get('id') for category in categories]
    seen: set[str] = set()
    people = []
    for number, row in enumerate(annotations):
        where, category = _where(row, number), row.get('category_id', person)
        image_id, row_id = row.get('image_id'), repr(row.get('id', f'number {number}'))
        if category not in known:
            found.add('fatal', 'category', f'{where}: category_id {category!r} is none of {known}')
        elif not isinstance(image_id, int | str) or image_id not in sizes:
            text = f'{where}: image_id {image_id!r} is not among "images"'
            found.add('fatal', 'unknown image', text)
        elif row_id in seen:
            found.add('fatal', 'annotation id twice', f'{where}: there are two of this id')
        elif category == person:
            people.append(row)
        seen.add(row_id)
    return people


def _check_person(person: Person, found: _Findings) -> None:
    where = _where(person.annotation)
    for rule in PERSON_RULES:
        text = rule.find(person)
        if text is not None:
            found.add(rule.severity, rule.name, f'{where}: {text}')


def _check_crowd_index(images: Sequence[dict[str, Any]], found: _Findings) -> None:
    for image in images:
        if 'crowdIndex' not in image:
            text = f'image {image["id"]!r}: no crowdIndex; it counts for none of easy, medium, hard'
            found.add('warning', 'no crowdIndex', text)


def _convention(
    category: Mapping[str, Any], people: Sequence[Annotation], default: Convention | None
) -> Convention | None:
    """Find the order of the keypoints; None if it is not supported."""
    if category.get('keypoints'):
        return convention_of_names(_names(category))
    points = next((p['keypoints'] for p in people if p.get('keypoints')), None)
    lengths = {3 * keypoints.num: name for name, keypoints in KEYPOINT_SETS.items()}
    return default or lengths.get(len(points) if isinstance(points, list) else 0, 'coco17')


def _other_keypoints(category: Mapping[str, Any]) -> str:
    names = _names(category)
    return (
        f'the {len(names)} keypoints {names[:3]}, ... are not those of {" or ".join(KEYPOINT_SETS)}'
    )


def _names(category: Mapping[str, Any]) -> list[str]:
    names = category['keypoints']
    return [str(name) for name in names] if isinstance(names, list) else [str(names)]


def _person_category(categories: Sequence[dict[str, Any]]) -> dict[str, Any]:
    people = [c for c in categories if c.get('name') == 'person' and isinstance(c.get('id'), int)]
    if not people:
        names = sorted(str(c.get('name')) for c in categories)
        raise AnnotationError(f'no category is called "person", only {names}')
    return people[0]


def _section(content: Any, key: str) -> list[dict[str, Any]]:
    rows = content.get(key) if isinstance(content, dict) else None
    if key == 'categories' and not rows:
        rows = [{'id': PERSON, 'name': 'person'}]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise AnnotationError(f'not a COCO annotation file: it has no list of objects "{key}"')
    return rows


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f'cannot be read ({error.strerror})') from error
    except ValueError as error:
        raise AnnotationError(f'not a JSON file: {error}') from error


def _where(row: Annotation, number: int | None = None) -> str:
    name = row.get('id', f'number {number}')
    return f'annotation {name} (image {row.get("image_id")!r})'


def _listed(names: Sequence[str]) -> str:
    return ', '.join(names[:_SHOWN]) + (', ...' if len(names) > _SHOWN else '')
