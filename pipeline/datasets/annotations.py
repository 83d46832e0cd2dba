"""Load and validate COCO annotation files before anything runs or is scored.

This module checks files and images; `annotation_rules` checks people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..io.coco import PERSON, TASKS, Task
from ..io.coco_checks import (
    AnnotationError,
    ImageId,
    as_id,
    check_images,
    describe_unknown_id,
    errors_in,
    find_person,
    is_number,
    read_coco,
    read_section,
)
from ..keypoint_sets import KEYPOINT_SETS, Convention, convention_of_names
from ..values import shorten
from .annotation_rules import PERSON_RULES, Annotation, Person, Severity, repair_annotation

# Values of a person that may be absent; null and [] mean the same.
_OPTIONAL = frozenset({
    'area', 'bbox', 'category_id', 'iscrowd', 'keypoints', 'num_keypoints', 'segmentation'
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Annotations:
    """The validated people of a COCO file."""

    content: dict[str, Any]  # COCO file of people only; see `check_annotations`
    tasks: tuple[Task, ...]  # tasks that the file can score
    convention: Convention  # of the keypoints
    remarks: tuple[str, ...]  # one line per kind
    left_out: Mapping[Task, str]  # tasks that the file cannot score, with the reason

    @property
    def warnings(self) -> tuple[str, ...]:
        """Remarks and left-out tasks, one line each."""
        left_out = (f'{task} is left out: {reason}' for task, reason in self.left_out.items())
        return (*self.remarks, *left_out)


def load_annotations(
    path: str | Path,
    *,
    tasks: Sequence[Task] | None = None,
    convention: Convention | None = None,
    person_category: str | None = None,
) -> Annotations:
    """Read and check a COCO annotation file; see `check_annotations`.

    ``person_category`` is the name or id of the category of people; None: found by its name.

    Raises:
        InputError: the file cannot be read; names the file.
        AnnotationError: the file is invalid; names the file.
    """
    content = read_coco(path, person_category)
    with errors_in(path):
        return check_annotations(content, tasks=tasks, convention=convention)


def check_annotations(
    content: Any, *, tasks: Sequence[Task] | None = None, convention: Convention | None = None
) -> Annotations:
    """Validate the content of a COCO file, and complete its people.

    The result contains only people (see `find_person`), all with category 1. Null and empty values
    are missing values. Ids and sizes such as 1.0 become 1. Missing values are added:

    * ``iscrowd``: 0;
    * ``bbox``: the box of the mask;
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
    found = _Findings()
    images = check_images(content, found.fatal, sizes=True)
    annotations = read_section(content, 'annotations')
    category = find_person(content)
    sizes = {image['id']: (image['height'], image['width']) for image in images}
    rows = _people(annotations, content.get('categories') or [], category['id'], sizes, found)
    order = _convention(category, [row for _, row in rows], convention)
    if order is None:
        found.add('keypoints', 'keypoint order', _other_keypoints(category))
    elif convention not in (None, order):
        text = f'the keypoints are those of {order}, not of {convention}'
        found.add('fatal', 'keypoint order', text)
    people = [Person(row, *sizes[row['image_id']], order) for _, row in rows]
    for (where, _), person in zip(rows, people, strict=True):
        if person.height:  # else the image has an error
            _check_person(person, where, found)
    if order == 'crowdpose14':
        _check_crowd_index(images, found)
    found.refuse(tasks or ())
    scored = tuple(tasks or [task for task in TASKS if not found[task]])
    return Annotations(
        content={
            **content,
            'images': images,
            'annotations': [repair_annotation(person, scored) for person in people],
            'categories': [{**category, 'id': PERSON, 'name': 'person'}],
        },
        tasks=scored,
        convention=order or 'coco17',
        remarks=tuple(found['warning']),
        left_out={} if tasks else {t: '; '.join(found[t]) for t in TASKS if found[t]},
    )


class _Findings:
    """Mistakes by severity and kind: the first case and the count of each."""

    def __init__(self) -> None:
        self._first: dict[tuple[Severity, str], str] = {}
        self._counts: Counter[tuple[Severity, str]] = Counter()

    def add(self, severity: Severity, kind: str, text: str) -> None:
        self._first.setdefault((severity, kind), text)
        self._counts[severity, kind] += 1

    def fatal(self, kind: str, text: str) -> None:
        self.add('fatal', kind, text)

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


def _people(
    annotations: Sequence[Annotation],
    categories: Sequence[dict[str, Any]],
    person: ImageId,
    sizes: Mapping[ImageId, tuple[int, int]],
    found: _Findings,
) -> list[tuple[str, Annotation]]:
    """Copy the people of known images, each with its place for messages."""
    known = [as_id(category.get('id')) for category in categories] or [person]
    seen: set[ImageId] = set()
    people = []
    for number, source in enumerate(annotations):
        row = {k: v for k, v in source.items() if k not in _OPTIONAL or (v is not None and v != [])}
        image_id, row_id = as_id(row.get('image_id')), as_id(row.get('id'))
        category = as_id(row.get('category_id', person if len(known) == 1 else None))
        name = f'number {number}' if row.get('id') is None else shorten(row['id'])
        where = f'annotation {name} (image {shorten(row.get("image_id"))})'
        if category not in known:
            got = shorten(row.get('category_id'))
            found.fatal('category', f'{where}: category_id {got} is none of {shorten(known)}')
        elif image_id not in sizes:
            text = describe_unknown_id(row.get('image_id'), sizes)
            found.fatal('unknown image', f'{where}: {text}')
        elif row_id in seen:
            found.fatal('annotation id twice', f'{where}: there are two of this id')
        elif row_id is None and row.get('id') is not None:
            found.fatal('annotation id', f'{where}: the id must be a number or text')
        elif category == person:
            ids = {'image_id': image_id} if row_id is None else {'image_id': image_id, 'id': row_id}
            people.append((where, row | ids))
        if row_id is not None:
            seen.add(row_id)
    return people


def _check_person(person: Person, where: str, found: _Findings) -> None:
    for rule in PERSON_RULES:
        text = rule.find(person)
        if text is not None:
            found.add(rule.severity, rule.name, f'{where}: {text}')


def _check_crowd_index(images: Sequence[dict[str, Any]], found: _Findings) -> None:
    for image in images:
        if not is_number(image.get('crowdIndex', 0)):
            text = f'crowdIndex must be a number, got {shorten(image["crowdIndex"])}'
            found.fatal('crowdIndex', f'image {image["id"]!r}: {text}')
        elif 'crowdIndex' not in image:
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
        f'the {len(names)} keypoints {shorten(names)} are not those of {" or ".join(KEYPOINT_SETS)}'
    )


def _names(category: Mapping[str, Any]) -> list[str]:
    names = category['keypoints']
    return [str(name) for name in names] if isinstance(names, list) else [str(names)]
