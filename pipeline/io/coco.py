"""`People` as COCO results: the one format that boxes, masks and poses are scored in.

Legend: N people, K keypoints; boxes in the file are x, y, width, height.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from ..boxes import xyxy_to_xywh
from ..keypoints import COCO_NAMES, NUM_COCO
from ..scores import pose_scores
from ..structures import Floats, MaskSource, People

Task = Literal['bbox', 'segm', 'keypoints']
TASKS: tuple[Task, ...] = ('bbox', 'segm', 'keypoints')
# The key of a results row that a task is about.
PAYLOADS: dict[Task, str] = {'bbox': 'bbox', 'segm': 'segmentation', 'keypoints': 'keypoints'}
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


def for_task(results: Iterable[dict[str, Any]], task: Task) -> list[dict[str, Any]]:
    """Results with the keys of one task only, as new dicts.

    ``COCO.loadRes`` decides by the keys of the first result what all of them are, and takes the
    size of a person (AP of small, medium, large) from the box whenever there is one. With the
    keys of one task, size is what COCO means: box area, mask area, or extent of the keypoints.
    ``loadRes`` also writes into the dicts it is given; these are copies.
    """
    keys = ('image_id', 'category_id', 'score', PAYLOADS[task])
    return [{key: result[key] for key in keys} for result in results]


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
