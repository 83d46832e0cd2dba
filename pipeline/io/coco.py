"""COCO results, the format in which boxes, masks and poses are scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from ..keypoints import PERSON as PERSON

PERSON_NAMES = ('person', 'pedestrian', 'human', 'people')  # of classes, the first one preferred
PERSON_OPTION = '--person-category'
Task = Literal['bbox', 'segm', 'keypoints']
TASKS: tuple[Task, ...] = ('bbox', 'segm', 'keypoints')
# Task -> the key of a results row that it scores.
RESULT_KEYS: dict[Task, str] = {'bbox': 'bbox', 'segm': 'segmentation', 'keypoints': 'keypoints'}


def select_task(results: Iterable[dict[str, Any]], task: Task) -> list[dict[str, Any]]:
    """Copy the results with the keys of one task only.

    ``COCO.loadRes`` guesses the task from the keys of the first result. If there is a box, it takes
    the size of a person (AP of small, medium, large) from the box. With the keys of one task,
    the size is the one COCO defines: box area, mask area or extent of the keypoints. ``loadRes``
    also modifies the dicts.
    """
    keys = ('image_id', 'category_id', 'score', RESULT_KEYS[task])
    return [{key: result[key] for key in keys} for result in results]


def find_person_names(names: Sequence[str]) -> list[int]:
    """Positions of the class "person", else of the other `PERSON_NAMES`; case does not count."""
    plain = [name.strip().casefold() for name in names]
    persons = [i for i, name in enumerate(plain) if name == PERSON_NAMES[0]]
    return persons or [i for i, name in enumerate(plain) if name in PERSON_NAMES]
