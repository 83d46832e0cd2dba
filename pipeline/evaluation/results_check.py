"""Validate COCO results before scoring."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..io.coco import PERSON, RESULT_KEYS, Task
from ..io.coco_checks import (
    ImageId,
    are_finite,
    as_id,
    describe_unknown_id,
    find_box_error,
    find_mask_error,
    find_numbers_error,
    find_person,
)
from ..keypoints import NUM_COCO
from ..values import shorten

Row = dict[str, Any]


def select_people(
    results: Any,
    annotations: Mapping[str, Any],
    known_ids: Collection[ImageId],
    *,
    ours: bool = False,
) -> list[Row]:
    """Check that results are rows of known images and categories; return those of people.

    A row without a category is a person. This project always writes people as category 1. Where
    the annotations list another category 1, a 1 is a person only in files of this project.

    Args:
        results: rows of COCO results.
        annotations: content of a COCO annotation file.
        known_ids: of the images that count.
        ours: whether the results have a side file of this project.

    Raises:
        ValueError: the results are not a list of dicts, or a row has no ``image_id``, an image not
            in ``known_ids`` or a category that the annotations do not list.
    """
    person = find_person(annotations)['id']
    listed = {as_id(category['id']) for category in annotations.get('categories') or ()}
    if not isinstance(results, list):
        raise ValueError(f'results must be a list of dicts, got {type(results).__name__}')
    categories = [_check_row(i, row, person, listed) for i, row in enumerate(results)]
    unknown = [row['image_id'] for row in results if row['image_id'] not in known_ids]
    if unknown:
        distinct = list(dict.fromkeys(unknown))
        listing = ', '.join(map(shorten, distinct[:5])) + (', ...' if len(distinct) > 5 else '')
        raise ValueError(
            f'image ids of the results are not in the annotations: {listing}; '
            f'{describe_unknown_id(unknown[0], known_ids)}; score against the annotation file of '
            'the run, keep coco_images.json beside the results, or use `bmp run --coco-ids`'
        )
    people = {person} | ({PERSON} - listed)
    if PERSON in categories and not people & set(categories):
        if not ours and not any('detector_bbox' in row for row in results):
            raise ValueError(
                f'all results have other categories than the person category of the annotations, '
                f'{person!r}; write people as category {person!r}'
            )
        people.add(PERSON)
    return [row for row, category in zip(results, categories, strict=True) if category in people]


def _check_row(index: int, row: Any, person: ImageId, listed: set[ImageId | None]) -> ImageId:
    """Check image id and category of a row; returns the category."""
    if not isinstance(row, dict):
        raise ValueError(f'result {index} must be a dict, got {type(row).__name__}')
    if 'image_id' not in row:
        raise ValueError(f'result {index} has no image_id')
    if as_id(row['image_id']) is None:
        got = shorten(row['image_id'])
        raise ValueError(f'result {index}: image_id must be a number or text, got {got}')
    category = as_id(row.get('category_id', person))
    if category is None or category not in {person, PERSON, *listed}:
        start = '; are they counted from 0?' if category == 0 else ''
        raise ValueError(
            f'{_where(index, row)}: category_id {shorten(row["category_id"])} is none of '
            f'{sorted({person, *listed}, key=str)}{start}'
        )
    return category


def select_task_rows(
    results: Sequence[Row], task: Task, sizes: Mapping[Any, list[int]], keypoints: int = NUM_COCO
) -> list[Row]:
    """Select the results of one task: rows with a non-null value.

    Args:
        results: rows of known images, see `select_people`.
        task: 'bbox', 'segm' or 'keypoints'.
        sizes: [H, W] px by image id.
        keypoints: number in the annotations; results may have this number, or COCO's 17.

    Raises:
        ValueError: a key is missing, a number is not finite, or a length or a mask is wrong.
    """
    payload = RESULT_KEYS[task]
    rows = []
    for index, row in enumerate(results):
        missing = [key for key in ('category_id', 'score', payload) if key not in row]
        if missing:
            raise ValueError(
                f'{_where(index, row)} has no {", ".join(missing)}, which task {task!r} needs'
            )
        if row[payload] is not None:
            _check_payload(index, row, task, sizes, keypoints)
            rows.append(row)
    return rows


def check_payloads(
    results: Sequence[Row], sizes: Mapping[Any, list[int]], keypoints: int = NUM_COCO
) -> None:
    """Check the box, mask and keypoints of every row that has them; see `select_task_rows`.

    Raises:
        ValueError: one is wrong.
    """
    for index, row in enumerate(results):
        for task, key in RESULT_KEYS.items():
            if row.get(key) is not None:
                _check_payload(index, row, task, sizes, keypoints)


def _check_payload(
    index: int, row: Row, task: Task, sizes: Mapping[Any, list[int]], keypoints: int
) -> None:
    if not are_finite([row.get('score')]):
        got = shorten(row.get('score'))
        raise ValueError(f'{_where(index, row)}: score must be a finite number, got {got}')
    if task == 'bbox':
        reason = find_box_error(row['bbox'])
    elif task == 'segm':
        reason = _find_mask_error(row['segmentation'], sizes[row['image_id']])
    else:
        reason = _find_keypoints_error(row, (3 * NUM_COCO, 3 * keypoints))
    if reason is not None:
        raise ValueError(f'{_where(index, row)}: {reason}')


def _find_mask_error(mask: Any, size: list[int]) -> str | None:
    if not isinstance(mask, dict) or not isinstance(mask.get('counts'), str | bytes):
        return 'segmentation must be compressed RLE, {size, counts}'
    return find_mask_error(mask, *size)


def _find_keypoints_error(row: Row, lengths: tuple[int, ...]) -> str | None:
    values, extra = row['keypoints'], row.get('extra_keypoints') or []
    if isinstance(values, list) and len(values) not in lengths:
        allowed = ' or '.join(str(n) for n in dict.fromkeys(lengths))
        return f'keypoints must hold {allowed}, got {len(values)}'
    length = len(values) if isinstance(values, list) else lengths[0]
    reason = find_numbers_error('keypoints', values, length)
    whole = 3 * (len(extra) // 3) if isinstance(extra, list) else 0
    return reason or find_numbers_error('extra_keypoints', extra, whole)


def _where(index: int, row: Row) -> str:
    return f'result {index} (image {row["image_id"]!r})'
