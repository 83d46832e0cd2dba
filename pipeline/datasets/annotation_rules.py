"""Validation rules for annotated people.

A rule checks one person and returns a description of the mistake, or None. The severity of a rule
is ``fatal`` (the file is rejected), ``warning`` (counted; the official COCO files contain such
people), or the task that cannot be scored while the file contains such people.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ..io.coco import Task
from ..io.coco_checks import as_flag, find_box_error, find_mask_error, find_numbers_error, is_number
from ..keypoint_sets import KEYPOINT_SETS, Convention
from ..keypoints import AREA_OF_BOX
from ..rle import polygons, rle_of
from ..values import shorten

Annotation = dict[str, Any]
Severity = Literal['fatal', 'warning'] | Task


@dataclass(frozen=True)
class Person:
    """One annotation with the facts of its file that the rules need."""

    annotation: Annotation
    height: int  # px, of the image
    width: int
    convention: Convention | None  # of the keypoints; None: unknown, keypoints are not checked

    @property
    def crowd(self) -> bool:
        """Whether this is a crowd region."""
        return bool(as_flag(self.annotation.get('iscrowd', 0)))

    # Cached: several rules need these two, and they take most of the time.

    @cached_property
    def mask_error(self) -> str | None:
        """Error of the mask."""
        return find_mask_error(self.annotation.get('segmentation', []), self.height, self.width)

    @cached_property
    def keypoint_error(self) -> str | None:
        """Error of the keypoints."""
        return _find_keypoint_error(self)


@dataclass(frozen=True)
class Rule:
    """One kind of mistake."""

    name: str
    severity: Severity
    find: Callable[[Person], str | None]  # returns the mistake, or None


def _crowd(person: Person) -> str | None:
    value = person.annotation.get('iscrowd', 0)
    return None if as_flag(value) is not None else f'iscrowd must be 0 or 1, got {shorten(value)}'


def _box(person: Person) -> str | None:
    if 'bbox' not in person.annotation:
        has_mask = person.annotation.get('segmentation') and person.mask_error is None
        return None if has_mask else 'there is no bbox, and no mask that gives it'
    return find_box_error(person.annotation['bbox'])


def _flat_box(person: Person) -> str | None:
    box = person.annotation.get('bbox', [])
    flat = find_box_error(box) is None and min(box[2:]) == 0
    return f'the box has no area: {list(box)}' if flat else None


def _area(person: Person) -> str | None:
    area = person.annotation.get('area', 1)
    if not is_number(area) or area < 0:
        return f'area must be a number >= 0, got {shorten(area)}'
    return None


def _no_area(person: Person) -> str | None:
    if 'area' not in person.annotation:
        if person.convention == 'crowdpose14':  # CrowdPose has no areas
            return None
        return f'no area; using the area of the mask, else {AREA_OF_BOX} of the box'
    return 'the area is 0' if person.annotation['area'] == 0 else None


def _find_keypoint_error(person: Person) -> str | None:
    points = person.annotation.get('keypoints')
    if points is None or person.convention is None:
        return None
    reason = find_numbers_error('keypoints', points, 3 * KEYPOINT_SETS[person.convention].num)
    if reason is None and not set(points[2::3]) <= {0, 1, 2}:
        wrong = sorted(set(points[2::3]) - {0, 1, 2})
        reason = f'keypoint flags must be 0, 1 or 2, got {wrong}'
    return reason


def _no_keypoints(person: Person) -> str | None:
    absent = person.annotation.get('keypoints') is None and not person.crowd
    return 'no keypoints' if absent else None


def _count_of_keypoints(person: Person) -> str | None:
    count = person.annotation.get('num_keypoints')
    # CrowdPose does not count head and neck.
    if count is None or person.convention != 'coco17' or person.keypoint_error is not None:
        return None
    labelled = count_labelled(person.annotation)
    if not is_number(count):
        got = shorten(count)
        return f'num_keypoints is {got}; using the number of labelled keypoints: {labelled}'
    if (count == 0) == (labelled == 0):
        return None
    effect = 'ignored' if count == 0 else 'counted'
    return f'num_keypoints is {count} and {labelled} are labelled; this person is {effect}'


def _thin_polygon(person: Person) -> str | None:
    mask = person.annotation.get('segmentation')
    if not isinstance(mask, list) or person.mask_error or len(polygons(mask)) == len(mask):
        return None
    return 'polygons of fewer than 3 points are removed'


def _no_mask(person: Person) -> str | None:
    if person.crowd or person.mask_error is not None:
        return None
    if 'segmentation' not in person.annotation:
        return 'no segmentation'
    mask = person.annotation['segmentation']
    # Polygons are not rasterized here: some of COCO's are so thin that they cover no pixel.
    empty = not polygons(mask) if isinstance(mask, list) else compute_mask_area(person) == 0
    return 'the mask is empty' if empty else None


PERSON_RULES: tuple[Rule, ...] = (
    Rule('wrong iscrowd', 'fatal', _crowd),
    Rule('wrong box', 'fatal', _box),
    Rule('wrong keypoints', 'fatal', lambda person: person.keypoint_error),
    Rule('wrong mask', 'fatal', lambda person: person.mask_error),
    Rule('wrong area', 'fatal', _area),
    Rule('no mask', 'segm', _no_mask),
    Rule('no keypoints', 'keypoints', _no_keypoints),
    Rule('box without area', 'warning', _flat_box),
    Rule('no area', 'warning', _no_area),
    Rule('thin polygon', 'warning', _thin_polygon),
    Rule('wrong count of keypoints', 'warning', _count_of_keypoints),
)


def repair_annotation(person: Person, tasks: Collection[Task]) -> Annotation:
    """Copy an annotation and add everything that an evaluator of ``tasks`` reads.

    The copy has ``bbox``, ``iscrowd``, ``area``, ``category_id`` (1), and ``num_keypoints`` if it
    has keypoints; existing values are kept. A crowd region without a mask gets its box as mask,
    one without keypoints gets unlabelled ones. The annotation must pass all fatal rules.
    """
    row = {**person.annotation, 'category_id': 1, 'iscrowd': int(person.crowd)}
    if 'bbox' not in row:
        row['bbox'] = compute_mask_box(person)
    x, y, width, height = row['bbox']
    if isinstance(row.get('segmentation'), list):
        row['segmentation'] = polygons(row['segmentation'])
    elif 'segmentation' in row:
        row['segmentation'] = row['segmentation'] | {'size': [person.height, person.width]}
    if 'area' not in row:
        row['area'] = compute_mask_area(person) or AREA_OF_BOX * width * height
    if person.crowd and 'segm' in tasks and not row.get('segmentation'):
        right, bottom = x + width, y + height
        row['segmentation'] = [[x, y, right, y, right, bottom, x, bottom]]
    if person.crowd and 'keypoints' in tasks and row.get('keypoints') is None:
        row['keypoints'] = [0] * 3 * KEYPOINT_SETS[person.convention or 'coco17'].num
    if row.get('keypoints') is not None:
        count = row.get('num_keypoints')
        row['num_keypoints'] = count if is_number(count) else count_labelled(row)
    return row


def count_labelled(annotation: Annotation) -> int:
    """Count the keypoints with a flag above 0."""
    return sum(flag > 0 for flag in (annotation.get('keypoints') or [])[2::3])


def compute_mask_box(person: Person) -> list[float]:
    """Box x, y, width, height in px around the mask."""
    from pycocotools import mask as coco_mask

    rle = rle_of(person.annotation['segmentation'], person.height, person.width)
    box: list[float] = [0.0] * 4 if rle is None else coco_mask.toBbox(rle).tolist()
    return box


def compute_mask_area(person: Person) -> int:
    """Count the pixels of the mask; 0 without a mask."""
    from pycocotools import mask as coco_mask

    rle = rle_of(person.annotation.get('segmentation'), person.height, person.width)
    return 0 if rle is None else int(coco_mask.area(rle))
