"""Validate COCO results before scoring."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..datasets.annotation_rules import are_finite
from ..io.coco import PERSON, RESULT_KEYS, Task
from ..keypoints import NUM_COCO

Row = dict[str, Any]


def check_rows(results: Any, known_ids: Collection[int | str], categories: Collection[int]) -> None:
    """Check that results are rows of known images and categories.

    Raises:
        ValueError: the results are not a list of dicts, or a row has no ``image_id``, an image not
            in ``known_ids`` or a category not in ``categories``.
    """
    if not isinstance(results, list):
        raise ValueError(f'results must be a list of dicts, got {type(results).__name__}')
    for index, row in enumerate(results):
        if not isinstance(row, dict):
            raise ValueError(f'result {index} must be a dict, got {type(row).__name__}')
        if 'image_id' not in row:
            raise ValueError(f'result {index} has no image_id')
        if row.get('category_id', PERSON) not in categories:
            raise ValueError(
                f'{_where(results, index)}: category_id {row["category_id"]!r} is none of '
                f'{sorted(categories)}'
            )
    unknown = list(dict.fromkeys(r['image_id'] for r in results if r['image_id'] not in known_ids))
    if unknown:
        listed = ', '.join(map(repr, unknown[:5])) + (', ...' if len(unknown) > 5 else '')
        raise ValueError(
            f'{len(unknown)} image ids in the results are not in the annotations: {listed}; '
            'score against the annotation file of the run (run_bmp.py: use --coco-ids)'
        )


def select_task_rows(
    results: Sequence[Row], task: Task, sizes: Mapping[Any, list[int]], keypoints: int = NUM_COCO
) -> list[Row]:
    """Select the results of one task: rows with a non-null value.

    Args:
        results: rows of known images, see `check_rows`.
        task: 'bbox', 'segm' or 'keypoints'.
        sizes: [H, W] px by image id.
        keypoints: number in the annotations; results may have this number, or COCO's 17.

    Raises:
        ValueError: a key is missing, a number is not finite, or a length or mask size is wrong.
    """
    payload = RESULT_KEYS[task]
    rows = []
    for index, row in enumerate(results):
        missing = [key for key in ('category_id', 'score', payload) if key not in row]
        if missing:
            raise ValueError(
                f'{_where(results, index)} has no {", ".join(missing)}, which task {task!r} needs'
            )
        if row[payload] is None:
            continue
        if task == 'segm':
            _check_mask(row[payload], sizes[row['image_id']], _where(results, index))
        else:
            lengths = (4,) if task == 'bbox' else (3 * NUM_COCO, 3 * keypoints)
            _check_length(row[payload], lengths, f'{_where(results, index)}: {payload}')
        rows.append(row)
    _check_finite(results, rows, task)
    return rows


def _check_mask(mask: Any, size: list[int], where: str) -> None:
    if not isinstance(mask, dict) or not isinstance(mask.get('counts'), (str, bytes)):
        raise ValueError(f'{where}: segmentation must be compressed RLE, {{size, counts}}')
    if mask.get('size') != size:
        raise ValueError(f'{where}: mask of size {mask.get("size")} for an image of {size} (H, W)')


def _check_length(values: Any, lengths: tuple[int, ...], what: str) -> None:
    if not isinstance(values, list) or len(values) not in lengths:
        got = len(values) if isinstance(values, list) else repr(values)
        allowed = ' or '.join(str(n) for n in dict.fromkeys(lengths))
        raise ValueError(f'{what} must hold {allowed}, got {got}')


def _check_finite(results: Sequence[Row], rows: Sequence[Row], task: Task) -> None:
    payload = RESULT_KEYS[task]
    values = [row['score'] for row in rows]
    if task != 'segm':
        values += [value for row in rows for value in row[payload]]
    if are_finite(values):
        return
    for row in rows:
        if not are_finite([row['score']] if task == 'segm' else [row['score'], *row[payload]]):
            index = next(i for i, r in enumerate(results) if r is row)
            raise ValueError(
                f'{_where(results, index)}: score or {payload} holds values that are not finite '
                'numbers'
            )


def _where(results: Sequence[Row], index: int) -> str:
    return f'result {index} (image {results[index]["image_id"]!r})'
