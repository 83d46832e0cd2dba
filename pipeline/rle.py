"""Segmentations of COCO files as compressed RLE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

RLE = dict[str, Any]


def rle_of(segmentation: Any, height: int, width: int) -> RLE | None:
    """Compressed RLE of a segmentation; None without one.

    Args:
        segmentation: polygons, RLE with a list, text or bytes as `counts`, or nothing.
        height: of the image, px.
        width: of the image, px.
    """
    if isinstance(segmentation, list):
        segmentation = polygons(segmentation)
    return to_rle(segmentation, height, width) if segmentation else None


def to_rle(segmentation: Any, height: int, width: int) -> RLE:
    """Compressed RLE of polygons or of any RLE, in an image of (height, width) px."""
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):
        rle: RLE = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation['counts'], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    else:
        rle = {'size': list(segmentation['size']), 'counts': segmentation['counts']}
    return rle


def polygons(segmentation: Sequence[Sequence[float]]) -> list[list[float]]:
    """The polygons of at least 3 points."""
    return [list(polygon) for polygon in segmentation if len(polygon) >= 6]
