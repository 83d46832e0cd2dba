"""Person masks from a results file, for MMPose runs on detected boxes.

MMPose's datasets keep box and score of a `bbox_file` and drop the rest. This transform restores the
mask for `MaskBackground`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.registry import TRANSFORMS

from pipeline.boxes import xywh_to_xyxy
from pipeline.io.coco_checks import as_id, read_json
from pipeline.io.inputs import InputError

TOLERANCE = 0.05  # px; covers rounding in JSON and float32
EXAMPLE = '[{"image_id": 1, "bbox": [x, y, w, h], "score": 0.9, "segmentation": {RLE}}, ...]'


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class LoadPersonMask(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Finds the mask of a person by image id and box.

    Reads `img_id` and `bbox` ((1, 4) xyxy px), and `bbox_score` to choose between equal boxes; sets
    `segmentation` (COCO RLE or polygons), or None where the row has no segmentation.

    Args:
        mask_file: COCO results with `segmentation`, usually the `bbox_file` of the dataset, such as
            `coco_results.json` of `tools/run_bmp.py`.

    Raises:
        ValueError: The file has another format, or no row for a box.
    """

    def __init__(self, mask_file: str) -> None:
        super().__init__()
        self.mask_file = mask_file
        self.rows = _by_image(_read(Path(mask_file)), mask_file)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the mask of one person; see the class for the keys."""
        box = np.asarray(results['bbox'], np.float32)[0]
        boxes, scores, masks = self.rows.get(results['img_id'], _NO_PERSON)
        distance = np.abs(boxes - box).max(axis=1)
        same = np.flatnonzero(distance <= TOLERANCE)
        if not len(same):
            nearest = f'; the nearest is {distance.min():.1f} px off' if len(distance) else ''
            raise ValueError(
                f'{self.mask_file} has no row for image {results["img_id"]!r} with the box '
                f'{box.round(1).tolist()} (xyxy): {len(boxes)} rows for this image{nearest}. Give '
                'the file that contains the boxes (bbox_file of the dataset)'
            )
        score = float(np.ravel(results.get('bbox_score', 1.0))[0])
        results['segmentation'] = masks[same[np.abs(scores[same] - score).argmin()]]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(mask_file={self.mask_file!r})'


_Rows = tuple[Any, Any, list[Any]]  # boxes (N, 4) xyxy, scores (N,), N segmentations or None
_NO_PERSON: _Rows = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), [])


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = read_json(path)
    except InputError as error:
        raise InputError(f'mask_file {error}') from error
    complete = isinstance(rows, list) and all(
        isinstance(row, dict) and 'bbox' in row and as_id(row.get('image_id')) is not None
        for row in rows
    )
    if not complete:
        raise ValueError(f'mask_file {path} is no list of COCO results; expected {EXAMPLE}')
    if rows and not any(row.get('segmentation') for row in rows):
        raise ValueError(f'mask_file {path} has boxes but no `segmentation`; expected {EXAMPLE}')
    return rows


def _by_image(rows: list[dict[str, Any]], path: str) -> dict[Any, _Rows]:
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row['image_id'], []).append(row)
    try:
        return {image_id: _columns(group) for image_id, group in groups.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f'mask_file {path} has a bad box or score: {error}') from error


def _columns(rows: list[dict[str, Any]]) -> _Rows:
    boxes = xywh_to_xyxy([row['bbox'][:4] for row in rows])
    scores = np.array([row.get('score', 1.0) for row in rows], np.float32)
    return boxes, scores, [row.get('segmentation') for row in rows]
