"""Segmentations of COCO files as compressed RLE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

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


def decode_segmentation(segmentation: Any, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Decode a COCO segmentation (RLE, or polygons in px) to a bool mask (height, width)."""
    from pycocotools import mask as mask_utils

    rle = rle_of(segmentation, height, width)
    if rle is None:
        return np.zeros((height, width), dtype=np.bool_)
    decoded: npt.NDArray[np.bool_] = mask_utils.decode(rle).astype(np.bool_)
    return decoded


def to_rle(segmentation: Any, height: int, width: int) -> RLE:
    """Compressed RLE of polygons or of any RLE, in an image of (height, width) px."""
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):
        rle: RLE = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation['counts'], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    else:
        rle = {'size': [height, width], 'counts': segmentation['counts']}
    return rle


def polygons(segmentation: Sequence[Sequence[float]]) -> list[list[float]]:
    """The polygons of at least 3 points."""
    return [list(polygon) for polygon in segmentation if len(polygon) >= 6]
