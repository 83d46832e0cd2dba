"""IoU of predicted masks with the annotations that prompted them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..io.coco_checks import as_id
from ..rle import to_rle
from ..values import shorten
from .metrics import MaskIoU, mean_or_none

Row = dict[str, Any]


def compute_mask_ious(
    results: Sequence[Row], people: Sequence[Row], images: Sequence[Row]
) -> dict[int | str, float]:
    """Compute the IoU of all ``people`` by annotation id; 0 for a person without a result.

    Args:
        results: rows with ``annotation_id`` and ``segmentation`` (compressed RLE, or null).
        people: annotations with ``id``, ``image_id`` and ``segmentation`` (polygons or RLE).
        images: rows with ``id``, ``height`` and ``width`` px.

    Raises:
        ValueError: an annotation id is used twice, or a result has an unknown one.
    """
    annotations = _by_id(people, 'id', 'annotation')
    predictions = _by_id(results, 'annotation_id', 'result for annotation')
    unknown = [key for key in predictions if key not in annotations]
    if unknown:
        raise ValueError(
            f'{len(unknown)} results name annotations that are not scored, e.g. {unknown[0]!r}; '
            'score against the annotation file of the run'
        )
    sizes = {image['id']: (image['height'], image['width']) for image in images}
    return {
        key: _iou(predictions.get(key), person, sizes[person['image_id']])
        for key, person in annotations.items()
    }


def compute_mean_mask_iou(
    results: Sequence[Row], people: Sequence[Row], images: Sequence[Row]
) -> MaskIoU:
    """Average `compute_mask_ious` over all people."""
    ious = list(compute_mask_ious(results, people, images).values())
    return MaskIoU(mean_or_none(ious), len(ious))


def _by_id(rows: Sequence[Row], key: str, what: str) -> dict[int | str, Row]:
    by_id: dict[int | str, Row] = {}
    for row in rows:
        if key not in row:
            raise ValueError(f'a {what} of image {row.get("image_id")!r} has no {key}')
        if as_id(row[key]) is None:
            got = shorten(row[key])
            raise ValueError(f'{key} of a {what} must be a number or text, got {got}')
        if row[key] in by_id:
            raise ValueError(f'duplicate {what} {row[key]!r}')
        by_id[row[key]] = row
    return by_id


def _iou(result: Row | None, person: Row, size: tuple[int, int]) -> float:
    from pycocotools import mask as coco_mask

    if result is None or result['segmentation'] is None:
        return 0.0
    mask = to_rle(person['segmentation'], *size)
    return float(coco_mask.iou([to_rle(result['segmentation'], *size)], [mask], [0])[0, 0])
