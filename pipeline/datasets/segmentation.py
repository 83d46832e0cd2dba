"""Segmentations of COCO files as compressed RLE."""

from __future__ import annotations

from typing import Any

from .annotation_rules import polygons


def rle_of(segmentation: Any, height: int, width: int) -> dict[str, Any] | None:
    """Compressed RLE of a segmentation; None where there is none.

    Args:
        segmentation: polygons, RLE with a list, text or bytes as `counts`, or nothing.
        height: of the photo, px.
        width: of the photo, px.
    """
    from pycocotools import mask as coco_mask

    result: dict[str, Any]
    if not segmentation:
        return None
    if isinstance(segmentation, list):
        parts = polygons(segmentation)
        if not parts:
            return None
        result = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
        return result
    if isinstance(segmentation['counts'], list):
        result = coco_mask.frPyObjects(segmentation, height, width)
        return result
    return {'size': list(segmentation['size']), 'counts': segmentation['counts']}
