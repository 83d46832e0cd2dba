"""Add predicted keypoints to people annotated without keypoints, such as those of CIHP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..boxes import xywh_to_xyxy
from ..io.images import ImageReadError, read_image
from ..io.inputs import locate_image
from ..io.progress import Reporter
from ..masks import Masks
from ..rle import rle_of
from ..structures import Detections, Image, Poses
from .annotation_rules import Annotation
from .convert import Problem

Estimate = Callable[[Image, Detections], Poses]
VISIBLE, HIDDEN, ABSENT = 2, 1, 0  # COCO's flags
_THRESHOLD = 0.5  # minimum presence or visibility of a positive flag


def has_keypoints(annotation: Annotation) -> bool:
    """Whether the person has labelled or predicted keypoints."""
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
    """Predict keypoints in the annotated boxes and masks, in place.

    Crowd regions and people with keypoints are not changed. The others get `keypoints` (51
    numbers; flag 2 if the predicted visibility is at least 0.5, else 1 if the presence is, else
    0), `num_keypoints` and `visibility` (17 numbers in [0, 1], the output of the model).

    Args:
        content: COCO file.
        images: image folder.
        estimate: a pose estimator.
        reporter: receives the progress.
        save: called every ``save_every`` images and at the end, to save `content`.
        save_every: images between two calls.

    Returns:
        Images that could not be read; their people stay without keypoints.
    """
    people: dict[Any, list[Annotation]] = {}
    for annotation in content['annotations']:
        if not annotation.get('iscrowd') and not has_keypoints(annotation):
            people.setdefault(annotation['image_id'], []).append(annotation)
    rows = [row for row in content['images'] if row['id'] in people]
    problems: list[Problem] = []
    reporter.start(len(rows))
    try:
        for number, row in enumerate(rows, start=1):
            name, group = row['file_name'], people[row['id']]
            try:
                image = read_image(locate_image(images, name))
                poses = estimate(image, build_detections(group, image))
            except ImageReadError as error:
                problems.append(Problem(name, error.reason))
                reporter.update(name, error.reason)
                continue
            for annotation, fields in zip(group, build_keypoint_fields(poses), strict=True):
                annotation.update(fields)
            reporter.update(name, f'{len(group)} people')
            if number % save_every == 0:
                save()
    finally:
        reporter.stop()
        save()
    return problems


def build_detections(people: list[Annotation], image: Image) -> Detections:
    """Build detections from annotated boxes and masks."""
    height, width = image.shape[:2]
    empty = Masks.empty(height, width, 1)
    masks = Masks.empty(height, width)
    for person in people:
        rle = rle_of(person.get('segmentation'), height, width)
        masks = masks.concat(empty if rle is None else Masks.from_rle([rle], (height, width)))
    boxes = xywh_to_xyxy([person['bbox'] for person in people])
    return Detections(boxes, np.ones(len(people), np.float32), masks)


def build_keypoint_fields(poses: Poses) -> Iterator[Annotation]:
    """Build `keypoints`, `num_keypoints` and `visibility` of each person."""
    view = poses.keypoint_set.view
    for points, presence, visibility in zip(
        view(poses.keypoints), view(poses.presence), view(poses.visibility), strict=True
    ):
        flags = np.where(presence >= _THRESHOLD, HIDDEN, ABSENT)
        flags = np.where(visibility >= _THRESHOLD, VISIBLE, flags)
        rows = np.concatenate([points * (flags > 0)[:, None], flags[:, None]], axis=1)
        yield {
            'keypoints': [round(float(value), 2) for value in rows.ravel()],
            'num_keypoints': int((flags > 0).sum()),
            'visibility': [round(float(value), 4) for value in visibility],
        }
