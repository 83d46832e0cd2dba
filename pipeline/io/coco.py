"""COCO results: the one format that boxes, masks and poses are scored in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from ..keypoints import PERSON as PERSON

Task = Literal['bbox', 'segm', 'keypoints']
TASKS: tuple[Task, ...] = ('bbox', 'segm', 'keypoints')
# The key of a results row that a task is about.
PAYLOADS: dict[Task, str] = {'bbox': 'bbox', 'segm': 'segmentation', 'keypoints': 'keypoints'}


def for_task(results: Iterable[dict[str, Any]], task: Task) -> list[dict[str, Any]]:
    """Results with the keys of one task only, as new dicts.

    ``COCO.loadRes`` decides by the keys of the first result what all of them are, and takes the
    size of a person (AP of small, medium, large) from the box whenever there is one. With the
    keys of one task, size is what COCO means: box area, mask area, or extent of the keypoints.
    ``loadRes`` also writes into the dicts it is given; these are copies.
    """
    keys = ('image_id', 'category_id', 'score', PAYLOADS[task])
    return [{key: result[key] for key in keys} for result in results]
