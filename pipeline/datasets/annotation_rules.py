"""Validation rules for annotated people.

A rule checks one person and returns a description of the mistake, or None. The severity of a rule
is ``fatal`` (the file is rejected), ``warning`` (counted; the official COCO files contain such
people), or the task that cannot be scored while the file contains such people.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ..io.coco import Task
from ..keypoint_sets import KEYPOINT_SETS, Convention
from ..keypoints import AREA_OF_BOX
from ..masks import decode_counts
from ..rle import polygons, rle_of

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
        return bool(self.annotation.get('iscrowd', 0))

    # Cached: several rules need these two, and they take most of the time.

    @cached_property
    def mask_error(self) -> str | None:
        """Error of the mask."""
        return _find_mask_error(self)

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


def _box(person: Person) -> str | None:
    if 'bbox' not in person.annotation:
        return 'there is no bbox'
    box = person.annotation['bbox']
    reason = _not_numbers('bbox', box, 4)
    if reason is None and min(box[2:]) < 0:
        reason = f'bbox is x, y, width, height; width and height must be >= 0, got {list(box)}'
    return reason


def _flat_box(person: Person) -> str | None:
    box = person.annotation.get('bbox', [])
    flat = _not_numbers('bbox', box, 4) is None and min(box[2:]) == 0
    return f'the box has no area: {list(box)}' if flat else None


def _area(person: Person) -> str | None:
    area = person.annotation.get('area', 1)
    if not _is_number(area) or area < 0:
        return f'area must be a number >= 0, got {area!r}'
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
    reason = _not_numbers('keypoints', points, 3 * KEYPOINT_SETS[person.convention].num)
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
    if not _is_number(count):
        return f'num_keypoints is {count!r}; using the number of labelled keypoints: {labelled}'
    if (count == 0) == (labelled == 0):
        return None
    effect = 'ignored' if count == 0 else 'counted'
    return f'num_keypoints is {count} and {labelled} are labelled; this person is {effect}'


def _find_mask_error(person: Person) -> str | None:
    mask = person.annotation.get('segmentation', [])
    if isinstance(mask, dict):
        return _wrong_rle(mask, person.height, person.width)
    if not isinstance(mask, list):
        return f'segmentation must be polygons or RLE, got {type(mask).__name__}'
    reasons = (_wrong_polygon(polygon) for polygon in mask)
    return next((reason for reason in reasons if reason is not None), None)


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

    The copy always has ``iscrowd``, ``area`` and ``category_id`` (1), and ``num_keypoints`` if it
    has keypoints; existing values are kept. A crowd region without a mask gets its box as mask,
    one without keypoints gets unlabelled ones. The annotation must pass all fatal rules.
    """
    row = {**person.annotation, 'category_id': 1, 'iscrowd': int(person.crowd)}
    x, y, width, height = row['bbox']
    if isinstance(row.get('segmentation'), list):
        row['segmentation'] = polygons(row['segmentation'])
    if 'area' not in row:
        row['area'] = compute_mask_area(person) or AREA_OF_BOX * width * height
    if person.crowd and 'segm' in tasks and not row.get('segmentation'):
        right, bottom = x + width, y + height
        row['segmentation'] = [[x, y, right, y, right, bottom, x, bottom]]
    if person.crowd and 'keypoints' in tasks and row.get('keypoints') is None:
        row['keypoints'] = [0] * 3 * KEYPOINT_SETS[person.convention or 'coco17'].num
    if row.get('keypoints') is not None:
        count = row.get('num_keypoints')
        row['num_keypoints'] = count if _is_number(count) else count_labelled(row)
    return row


def count_labelled(annotation: Annotation) -> int:
    """Count the keypoints with a flag above 0."""
    return sum(flag > 0 for flag in (annotation.get('keypoints') or [])[2::3])


def compute_mask_area(person: Person) -> int:
    """Count the pixels of the mask; 0 without a mask."""
    from pycocotools import mask as coco_mask

    rle = rle_of(person.annotation.get('segmentation'), person.height, person.width)
    return 0 if rle is None else int(coco_mask.area(rle))


def _wrong_polygon(polygon: Any) -> str | None:
    if not isinstance(polygon, list) or len(polygon) % 2:
        return 'a polygon must be a list of x, y pairs'
    return _not_numbers('a polygon', polygon, len(polygon))


def _wrong_rle(rle: dict[str, Any], height: int, width: int) -> str | None:
    if not {'size', 'counts'} <= set(rle):
        return f'a mask as RLE needs size and counts, got {sorted(rle)}'
    size, counts = rle['size'], rle['counts']
    if size not in ([height, width], (height, width)):
        return f'RLE of size {size} for an image of [{height}, {width}] (H, W)'
    numbers = isinstance(counts, list) and are_finite(counts)
    if not numbers and not isinstance(counts, str | bytes):
        return 'counts of an RLE must be numbers or text'
    runs = np.asarray(counts if isinstance(counts, list) else decode_counts(counts), np.int64)
    if runs.sum() != height * width or runs.min(initial=0) < 0:
        return f'the runs of the RLE cover {runs.sum()} of {height * width} px'
    return None


def _not_numbers(key: str, values: Any, length: int) -> str | None:
    if not isinstance(values, list):
        return f'{key} must be a list, got {type(values).__name__}'
    if len(values) != length:
        return f'{key} must hold {length} numbers, got {len(values)}'
    if not are_finite(values):
        return f'{key} holds values that are not finite numbers: {reprlib.repr(values)}'
    return None


def are_finite(values: Sequence[Any]) -> bool:
    """Whether all values are finite numbers."""
    try:
        return all(map(math.isfinite, values))  # fast: files have millions of numbers
    except TypeError:
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)  # JSON has no others
