"""Keypoints of a pose model for people who are annotated without any, such as those of CIHP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..boxes import xywh_to_xyxy
from ..io.images import ImageReadError, read_image
from ..io.progress import Reporter
from ..keypoints import NUM_COCO
from ..masks import Masks
from ..rle import rle_of
from ..structures import Detections, Image, Poses
from .convert import Problem

Annotation = dict[str, Any]
Estimate = Callable[[Image, Detections], Poses]
VISIBLE, HIDDEN, ABSENT = 2, 1, 0  # COCO's flags
_SURE = 0.5  # presence or visibility from which a flag says so


def has_keypoints(annotation: Annotation) -> bool:
    """Whether somebody labelled keypoints of this person or a model has predicted them."""
    labelled = any(annotation.get('keypoints', ())[2::3])
    return labelled or annotation.get('visibility') is not None


def add_keypoints(
    content: dict[str, Any],
    images: Path,
    estimate: Estimate,
    reporter: Reporter,
    save: Callable[[], None],
    save_every: int = 500,
) -> list[Problem]:
    """Predicts keypoints in the annotated boxes and masks, in place.

    Who has keypoints keeps them; crowd regions get none. The others get `keypoints` (51 numbers;
    flag 2 where the predicted visibility is 0.5 or more, else 1 where the presence is, else 0),
    `num_keypoints` and `visibility` (17 numbers in [0, 1], as the model gives them).

    Args:
        content: COCO file.
        images: folder of its photos.
        estimate: a pose estimator.
        reporter: hears about each photo.
        save: called now and then with the work so far in `content`, and at the end.
        save_every: photos between two calls.

    Returns:
        Photos that could not be read; their people stay without keypoints.
    """
    people: dict[Any, list[Annotation]] = {}
    for annotation in content['annotations']:
        if not annotation.get('iscrowd') and not has_keypoints(annotation):
            people.setdefault(annotation['image_id'], []).append(annotation)
    photos = [photo for photo in content['images'] if photo['id'] in people]
    problems: list[Problem] = []
    reporter.start(len(photos))
    try:
        for number, photo in enumerate(photos, start=1):
            name, group = photo['file_name'], people[photo['id']]
            try:
                image = read_image(images / name)
                poses = estimate(image, detections_of(group, image))
            except ImageReadError as error:
                problems.append(Problem(name, error.reason))
                reporter.update(name, error.reason)
                continue
            for annotation, fields in zip(group, keypoint_fields(poses), strict=True):
                annotation.update(fields)
            reporter.update(name, f'{len(group)} people')
            if number % save_every == 0:
                save()
    finally:
        reporter.stop()
        save()
    return problems


def detections_of(people: list[Annotation], image: Image) -> Detections:
    """Annotated boxes and masks as a detector would give them."""
    height, width = image.shape[:2]
    empty = Masks.empty(height, width, 1)
    masks = Masks.empty(height, width)
    for person in people:
        rle = rle_of(person.get('segmentation'), height, width)
        masks = masks.concat(empty if rle is None else Masks.from_rle([rle], (height, width)))
    boxes = xywh_to_xyxy([person['bbox'] for person in people])
    return Detections(boxes, np.ones(len(people), np.float32), masks)


def keypoint_fields(poses: Poses) -> Iterator[Annotation]:
    """`keypoints`, `num_keypoints` and `visibility` of each person."""
    part = slice(NUM_COCO)
    for points, presence, visibility in zip(
        poses.keypoints[:, part],
        poses.presence[:, part],
        poses.visibility[:, part],
        strict=True,
    ):
        flags = np.where(visibility >= _SURE, VISIBLE, np.where(presence >= _SURE, HIDDEN, ABSENT))
        rows = np.concatenate([points * (flags > 0)[:, None], flags[:, None]], axis=1)
        yield {
            'keypoints': [round(float(value), 2) for value in rows.ravel()],
            'num_keypoints': int((flags > 0).sum()),
            'visibility': [round(float(value), 4) for value in visibility],
        }
