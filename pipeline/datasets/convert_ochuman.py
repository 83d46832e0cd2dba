"""Convert OCHuman (``ochuman.json``) to a COCO file with 17 keypoints.

Format of the OCHuman API: each of ``images`` has ``file_name``, ``width``, ``height`` and
``annotations``. A person has ``bbox`` (x1, y1, x2, y2), ``keypoints`` (19 times x, y, flag) and
``segms`` (polygons ``outer`` and holes ``inner``); the last two are null for people who do not
overlap others. The optional ``keypoint_names`` and ``keypoint_visible`` override the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..boxes import box_iou, xywh_to_xyxy
from ..io.coco import PERSON
from ..io.coco_checks import MAX_PX, as_sizes, check_images, errors_in, find_mask_error, read_json
from ..io.inputs import read_lines
from ..io.progress import Reporter
from ..keypoints import COCO_NAMES
from ..masks import Bitmap, Masks
from ..values import shorten
from .annotation_rules import Annotation
from .convert import (
    Conversion,
    ConversionError,
    Others,
    Problem,
    assign_image_ids,
    build_coco_content,
    drop_broken_images,
    drop_or_ignore,
)

Boxes = Literal['xyxy', 'xywh']
Floats64 = npt.NDArray[np.float64]

OCHUMAN_NAMES = (
    'right_shoulder', 'right_elbow', 'right_wrist', 'left_shoulder', 'left_elbow', 'left_wrist',
    'right_hip', 'right_knee', 'right_ankle', 'left_hip', 'left_knee', 'left_ankle',
    'head', 'neck', 'right_ear', 'left_ear', 'nose', 'right_eye', 'left_eye',
)  # fmt: skip
OCHUMAN_FLAGS = {'missing': 0, 'vis': 1, 'self_occluded': 2, 'others_occluded': 3}
_COCO_FLAGS = {'missing': 0, 'vis': 2, 'self_occluded': 1, 'others_occluded': 1}

# Minimum median IoU of boxes and outlines; a lower one means that the box format is wrong.
_MIN_OVERLAP = 0.5
# Exceptions of a record with values of other types.
_DAMAGE = (AttributeError, KeyError, OverflowError, TypeError, ValueError)


def convert_ochuman(
    source: str | Path,
    images: Path | None,
    reporter: Reporter,
    *,
    only: Path | None = None,
    boxes: Boxes = 'xyxy',
    others: Others = 'drop',
) -> Conversion:
    """Convert the people of OCHuman with box, mask and the 17 keypoints of COCO.

    Images without such a person are removed. As in the official COCO files, ``area`` is the box
    area, and occluded keypoints (by the person or by others) get flag 1. Holes are removed from
    the masks.

    Args:
        source: ``ochuman.json``.
        images: image folder; see `convert_coco`.
        reporter: receives the progress.
        only: a COCO file, or a text file with one name per line: convert only these images. Use it
            to create val or test; ``ochuman.json`` does not contain the split.
        boxes: format of ``bbox``.
        others: people without keypoints or mask. 'drop' removes them, as the official COCO files
            do; 'ignore' marks their boxes as crowd regions, so detections of them do not count.

    Raises:
        ConversionError: the file has a different format, or its boxes are not ``boxes``.
    """
    content = _read(Path(source))
    _check_boxes(content['images'], boxes)
    records = sorted(content['images'], key=lambda record: str(record.get('file_name')))
    ids = assign_image_ids([str(record.get('file_name')) for record in records])
    wanted = set(ids) if only is None else _names_in(only)
    problems = [Problem(name, f'is in {only}, not in the source') for name in wanted - set(ids)]
    problems.sort(key=lambda problem: problem.name)
    try:
        reader = _Reader(content, boxes, others)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConversionError(f'{source}: wrong keypoint names or flags ({error})') from error
    kept: list[dict[str, Any]] = []
    people: list[Annotation] = []
    for record in records:
        name = str(record.get('file_name'))
        if name not in wanted:
            continue
        try:
            rows = reader.people(record, ids[name])
        except _DAMAGE as error:
            problems.append(Problem(name, f'cannot be converted ({_reason(error)})'))
            continue
        if any(not row['iscrowd'] for row in rows):
            kept.append({'id': ids[name], 'file_name': name, **_size(record)})
            people += rows
    result = build_coco_content('OCHuman', kept, people)
    return drop_broken_images(result, images, reporter, problems=problems)


class _Reader:
    """Reads the people of one file with its names of keypoints and flags."""

    def __init__(self, content: Mapping[str, Any], boxes: Boxes, others: Others) -> None:
        names = list(content.get('keypoint_names') or OCHUMAN_NAMES)
        missing = [name for name in COCO_NAMES if name not in names]
        if missing:
            raise ConversionError(f'keypoint_names lacks {", ".join(missing)}')
        self._indices = [names.index(name) for name in COCO_NAMES]
        self._num = len(names)
        flags = content.get('keypoint_visible') or OCHUMAN_FLAGS
        if set(flags) != set(_COCO_FLAGS):
            raise ConversionError(f'keypoint_visible must name {list(_COCO_FLAGS)}: {list(flags)}')
        self._flags = {flags[name]: _COCO_FLAGS[name] for name in flags}
        self._boxes, self._others = boxes, others

    def people(self, record: Mapping[str, Any], image_id: int) -> list[Annotation]:
        """Read the people of one image."""
        size, rows = _size(record), []
        for number, person in enumerate(record['annotations'], start=1):
            try:
                row = self._person(person, size['height'], size['width'])
            except _DAMAGE as error:
                raise ValueError(f'person {number}: {_reason(error)}') from error
            if row is not None:
                rows.append({'image_id': image_id, 'category_id': PERSON, **row})
        return rows

    def _person(self, person: Mapping[str, Any], height: int, width: int) -> Annotation | None:
        box = _numbers(person['bbox'], 4, 'bbox')
        if self._boxes == 'xyxy':
            box[2:] -= box[:2]
        if box[2:].min() <= 0:
            raise ValueError(f'the box has no area: {person["bbox"]} as {self._boxes}')
        row: Annotation = {'iscrowd': 0, 'bbox': box.tolist(), 'area': float(box[2] * box[3])}
        if person.get('keypoints') is None or person.get('segms') is None:
            row['segmentation'] = _filled_box(box, height, width)
            row |= {'num_keypoints': 0, 'keypoints': [0] * 3 * len(COCO_NAMES)}
            return drop_or_ignore(row, self._others)
        points = self._keypoints(person['keypoints'])
        row['segmentation'] = _rle(person['segms'], height, width)
        row['num_keypoints'] = sum(flag > 0 for flag in points[2::3])
        row['keypoints'] = points
        return row

    def _keypoints(self, values: Any) -> list[float]:
        keypoints = _numbers(values, 3 * self._num, 'keypoints').reshape(-1, 3)
        points: list[float] = []
        for x, y, flag in keypoints[self._indices].tolist():
            if flag not in self._flags:
                raise ValueError(f'keypoint flags must be {list(self._flags)}, got {flag:g}')
            points += [x, y, self._flags[flag]] if self._flags[flag] else [0, 0, 0]
        return points


def _rle(segms: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """Rasterize the outlines without their holes."""
    outer, inner = segms['outer'], segms.get('inner') or []
    if not outer:
        raise ValueError('segms has no outer polygon')
    mask = _raster(outer, height, width)
    if inner:
        mask &= ~_raster(inner, height, width)
    return Masks.from_dense([mask], (height, width)).to_rle()[0]


def _raster(polygons: Sequence[Any], height: int, width: int) -> Bitmap:
    from pycocotools import mask as coco_mask

    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f'a polygon needs at least 3 x, y pairs, got {len(polygon)} numbers')
    rows = [_numbers(polygon, len(polygon), 'a polygon').tolist() for polygon in polygons]
    if error := find_mask_error(rows, height, width):
        raise ValueError(error)
    merged = coco_mask.merge(coco_mask.frPyObjects(rows, height, width))
    return np.asarray(coco_mask.decode(merged), bool)


def _filled_box(box_xywh: Floats64, height: int, width: int) -> dict[str, Any]:
    corners = xywh_to_xyxy(box_xywh[None])
    return Masks.from_boxes(corners, (height, width)).to_rle()[0]


def _check_boxes(records: Sequence[Mapping[str, Any]], boxes: Boxes) -> None:
    """Check the box format: boxes must overlap the outlines of their people."""
    fits = (_fit(p, boxes) for record in records for p in record['annotations'])
    overlaps = [fit for fit in fits if fit is not None]
    if overlaps and float(np.median(overlaps)) < _MIN_OVERLAP:
        other = 'xywh' if boxes == 'xyxy' else 'xyxy'
        raise ConversionError(
            f'read as {boxes}, the boxes overlap the outlines of their people by only '
            f'{np.median(overlaps):.2f} (IoU, median); try --boxes {other}'
        )


def _fit(person: Any, boxes: Boxes) -> float | None:
    """IoU of the box and the bounding box of the outline; None if one of them is invalid."""
    try:
        points = np.concatenate([_numbers(p, len(p), 'p') for p in person['segms']['outer']])
        box = _numbers(person['bbox'], 4, 'bbox').reshape(2, 2)
    except _DAMAGE:
        return None
    if boxes == 'xywh':
        box[1] += box[0]
    if len(points) < 6 or len(points) % 2 or (box[1] <= box[0]).any():
        return 0.0
    xy = points.reshape(-1, 2)
    outline = np.concatenate([xy.min(0), xy.max(0)])
    return float(box_iou(*np.array([box.ravel(), outline], np.float32)[:, None])[0, 0])


def _size(record: Mapping[str, Any]) -> dict[str, int]:
    size = as_sizes(record)
    if size is None:
        got = {side: record[side] for side in ('height', 'width')}
        raise ValueError(f'height and width must be px, got {shorten(got)}')
    return size


def _names_in(path: Path) -> set[str]:
    if path.suffix == '.json':
        with errors_in(path) as report:
            return {image['file_name'] for image in check_images(read_json(path), report)}
    return set(read_lines(path))


def _numbers(values: Any, length: int, key: str) -> Floats64:
    numbers = np.asarray(values, np.float64)
    if numbers.shape != (length,) or not (np.abs(numbers) <= MAX_PX).all():  # also NaN
        raise ValueError(f'{key} must hold {length} finite numbers, got {shorten(values)}')
    return numbers


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path)
    records = content.get('images') if isinstance(content, dict) else None
    if not isinstance(records, list) or not all(
        isinstance(r, dict) and isinstance(r.get('annotations'), list) for r in records
    ):
        is_coco = isinstance(content, dict) and {'images', 'annotations'} <= set(content)
        hint = 'it is a COCO file: use "coco"' if is_coco else 'see docs/user_guide/datasets.md'
        raise ConversionError(f'{path}: not ochuman.json, images lack annotations; {hint}')
    return dict(content)


def _reason(error: Exception) -> str:
    return f'key {error} is missing' if isinstance(error, KeyError) else str(error)
