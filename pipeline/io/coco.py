"""`People` as COCO results: the one format that boxes, masks and poses are scored in.

Legend: N people, K keypoints; boxes in the file are x, y, width, height.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from ..geometry import xywh_to_xyxy, xyxy_to_xywh
from ..keypoints import COCO_NAMES, NUM_COCO
from ..masks import Masks
from ..scores import pose_scores
from ..structures import Floats, MaskSource, People

Task = Literal['bbox', 'segm', 'keypoints']
TASKS: tuple[Task, ...] = ('bbox', 'segm', 'keypoints')
PERSON = 1  # category id of a person in COCO

_PX_DIGITS, _SCORE_DIGITS = 2, 5


def people_to_coco(people: People, image_id: int | str) -> list[dict[str, Any]]:
    """COCO results of one image, best score first as far as ``people`` is, one dict per person.

    Each dict serves all three tasks and holds only what ``json.dump`` takes:

    - ``image_id``, ``category_id`` (1), ``score`` (instance score);
    - ``bbox`` xywh px, ``segmentation`` (compressed RLE, ``counts`` as str), ``area`` (mask, px);
    - ``keypoints``: 17 times x, y, keypoint score, flat;
    - ``keypoint_scores``, ``keypoint_visibility``, ``keypoint_presence``: 17 each, in [0, 1];
    - ``box_score``, ``mask_score``, ``pose_score``: what the instance score is made of;
    - ``detector_bbox`` xywh px, ``round`` (from 1);
    - ``mask_source``: 'sam', or a fallback, 'detector' or 'box';
    - ``prompt_keypoints``: names of the keypoints that prompted the mask, in order.

    Pixels are rounded to 2 digits, scores to 5. Of K > 17 keypoints the first 17 are written, as
    COCO defines no others. ``COCO.loadRes`` accepts the list, but takes the areas of the boxes
    for all three tasks; pass `for_task` of it when people are scored by size.

    Args:
        people: N people with K >= 17 keypoints.
        image_id: id of the image in the annotation file.

    Raises:
        ValueError: K < 17.
    """
    if people.num_keypoints < NUM_COCO:
        raise ValueError(
            f'COCO results need {NUM_COCO} keypoints per person, got {people.num_keypoints}'
        )
    rles, areas = people.masks.to_rle(), people.masks.areas
    boxes_xywh = xyxy_to_xywh(people.boxes)
    detector_boxes_xywh = xyxy_to_xywh(people.detector_boxes)
    poses = pose_scores(people.keypoint_scores)
    return [
        {
            'image_id': image_id,
            'category_id': PERSON,
            'bbox': _pixels(boxes_xywh[i]),
            'score': _score(people.scores[i]),
            'segmentation': rles[i],
            'area': int(areas[i]),
            'keypoints': _flat_keypoints(people.keypoints[i], people.keypoint_scores[i]),
            'keypoint_scores': _scores(people.keypoint_scores[i]),
            'keypoint_visibility': _scores(people.visibility[i]),
            'keypoint_presence': _scores(people.presence[i]),
            'box_score': _score(people.box_scores[i]),
            'mask_score': _score(people.mask_scores[i]),
            'pose_score': _score(poses[i]),
            'detector_bbox': _pixels(detector_boxes_xywh[i]),
            'round': int(people.rounds[i]),
            'mask_source': MaskSource(int(people.mask_sources[i])).name.lower(),
            'prompt_keypoints': [_keypoint_name(k) for k in people.prompts[i] if k >= 0],
        }
        for i in range(len(people))
    ]


def people_from_coco(rows: Sequence[dict[str, Any]], height: int, width: int) -> People:
    """People of one image from rows of COCO results of any program, in their order.

    Only ``score`` is needed. A missing mask is empty; missing keypoints lie in the middle of the
    box with score 0; a missing box is that of the mask, else the one around the keypoints. The
    third number of a keypoint is its score; presence and visibility are 1 unless the row tells.

    Args:
        rows: results of one image.
        height: of the image, px.
        width: of the image, px.

    Raises:
        ValueError: a mask of another size, or rows with different numbers of keypoints.
    """
    masks = Masks.from_dense((_row_mask(r, height, width) for r in rows), (height, width))
    points = [_row_keypoints(r) for r in rows]
    boxes = np.array(
        [_row_box(r, m, p) for r, m, p in zip(rows, masks.boxes, points, strict=True)], np.float32
    ).reshape(-1, 4)
    keypoints = np.array(points, np.float32).reshape(len(rows), -1 if rows else NUM_COCO, 3)
    absent = ~keypoints.any(-1, keepdims=True)
    middle = boxes.reshape(-1, 2, 2).mean(1)[:, None]
    places = np.where(absent, middle, keypoints[..., :2])
    ones = np.ones(keypoints.shape[:2], np.float32)

    def column(key: str, default: Floats) -> Floats:
        values = [r.get(key, d) for r, d in zip(rows, default.tolist(), strict=True)]
        return np.array(values, np.float32).reshape(default.shape)

    scores = np.array([r['score'] for r in rows], np.float32)
    return People(
        boxes=boxes,
        box_scores=column('box_score', scores),
        detector_masks=Masks.empty(height, width, len(rows)),
        keypoints=np.asarray(places, np.float32),
        keypoint_scores=keypoints[..., 2],
        presence=column('keypoint_presence', ones),
        visibility=column('keypoint_visibility', ones),
        masks=masks,
        mask_scores=column('mask_score', scores),
        mask_sources=np.full(len(rows), MaskSource.SAM, np.int32),
        prompts=np.full(keypoints.shape[:2], -1, np.int32),
        detector_boxes=boxes,
        rounds=column('round', np.ones(len(rows), np.float32)).astype(np.int32),
        scores=scores,
    )


def for_task(results: Iterable[dict[str, Any]], task: Task) -> list[dict[str, Any]]:
    """Results with the keys of one task only, as new dicts.

    ``COCO.loadRes`` decides by the keys of the first result what all of them are, and takes the
    size of a person (AP of small, medium, large) from the box whenever there is one. With the
    keys of one task, size is what COCO means: box area, mask area, or extent of the keypoints.
    ``loadRes`` also writes into the dicts it is given; these are copies.
    """
    payload = {'bbox': 'bbox', 'segm': 'segmentation', 'keypoints': 'keypoints'}[task]
    keys = ('image_id', 'category_id', 'score', payload)
    return [{key: result[key] for key in keys} for result in results]


def _row_mask(row: dict[str, Any], height: int, width: int) -> Any:
    if 'segmentation' not in row:
        return np.zeros((height, width), bool)
    return Masks.from_rle([row['segmentation']], (height, width)).dense(0)


def _row_keypoints(row: dict[str, Any]) -> Any:
    """Rows of x, y, score (K, 3)."""
    return np.array(row.get('keypoints', [0] * 3 * NUM_COCO), np.float32).reshape(-1, 3)


def _row_box(row: dict[str, Any], mask_box: Any, points: Any) -> Any:
    """Box xyxy px."""
    if 'bbox' in row:
        return xywh_to_xyxy(row['bbox'])[0]
    if 'segmentation' in row:
        return mask_box
    return np.concatenate([points[:, :2].min(0), points[:, :2].max(0)])


def _flat_keypoints(points: Floats, scores: Floats) -> list[float]:
    rows = zip(points[:NUM_COCO].tolist(), scores[:NUM_COCO].tolist(), strict=True)
    return [
        v
        for (x, y), s in rows
        for v in (round(x, _PX_DIGITS), round(y, _PX_DIGITS), round(s, _SCORE_DIGITS))
    ]


def _pixels(values: Floats) -> list[float]:
    return [round(v, _PX_DIGITS) for v in values.tolist()]


def _scores(values: Floats) -> list[float]:
    return [round(v, _SCORE_DIGITS) for v in values[:NUM_COCO].tolist()]


def _score(value: np.float32) -> float:
    return round(float(value), _SCORE_DIGITS)


def _keypoint_name(index: int) -> str:
    # Models with more keypoints than COCO number theirs after the 17.
    return COCO_NAMES[index] if index < NUM_COCO else f'keypoint_{index}'
