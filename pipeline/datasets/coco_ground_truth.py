"""Ground truth of people in COCO format, read as `People`.

Legend: N people, K = 17 keypoints, H x W photo.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..boxes import xywh_to_xyxy
from ..keypoints import COCO_TO_CROWDPOSE, NUM_COCO, Convention
from ..masks import Bitmap, Masks
from ..rle import rle_of
from ..structures import MaskSource, People
from .annotation_rules import Annotation
from .annotations import load_annotations


@dataclass(frozen=True, eq=False)
class ImageGroundTruth:
    """One photo with its annotated people, as the pipeline would ideally return them."""

    image_id: int | str
    file_name: str  # as in the file, relative to the folder of the photos
    height: int  # px
    width: int  # px
    people: People  # scores are 1; see `load_ground_truth` for the keypoint columns
    num_crowds: int  # regions marked iscrowd (many people in one mask), left out of ``people``


def load_ground_truth(annotation_file: str | Path) -> list[ImageGroundTruth]:
    """Photos of a COCO annotation file, in its order, with the people of each.

    The file is checked as `load_annotations` does it. For each person ``boxes`` and
    ``detector_boxes`` are the annotated box, ``masks`` and ``detector_masks`` the annotated mask;
    ``keypoint_scores`` and ``presence`` are 1 where the keypoint is labelled (v > 0),
    ``visibility`` is 1 where it is seen (v = 2). Unlabelled keypoints lie in the middle of the
    box, so that no point of a person is far from him; so do all of a file whose keypoints are
    missing or in an unknown order, and the faces of CrowdPose, of whose 14 keypoints the 12 that
    COCO has are taken. A person without a mask has an empty one.

    Raises:
        AnnotationError: the file cannot be used; names file, annotation and reason.
    """
    loaded = load_annotations(annotation_file)
    of_image: dict[int | str, list[Annotation]] = defaultdict(list)
    for annotation in loaded.content['annotations']:
        of_image[annotation['image_id']].append(annotation)
    order = loaded.convention if 'keypoints' in loaded.tasks else None
    return [_photo(image, of_image[image['id']], order) for image in loaded.content['images']]


def _photo(
    image: dict[str, Any], annotations: Sequence[Annotation], order: Convention | None
) -> ImageGroundTruth:
    height, width = image['height'], image['width']
    single = [a for a in annotations if not a['iscrowd']]
    people = build_people(single, height, width, order)
    num_crowds = len(annotations) - len(single)
    return ImageGroundTruth(image['id'], image['file_name'], height, width, people, num_crowds)


def build_people(
    annotations: Sequence[Annotation], height: int, width: int, order: Convention | None
) -> People:
    """Annotated people of one photo, one row each, in their order; see `load_ground_truth`.

    Args:
        annotations: checked ones (`check_annotations`), no crowd regions.
        height: of the photo, px.
        width: of the photo, px.
        order: of the keypoints; None: they are not looked at.
    """
    rows = [
        (a['bbox'], _keypoints(a, order), _mask(a.get('segmentation', []), height, width))
        for a in annotations
    ]
    return _people(rows, height, width)


def _people(
    rows: Sequence[tuple[list[float], npt.NDArray[np.float64], Bitmap]], height: int, width: int
) -> People:
    boxes = xywh_to_xyxy([box for box, _, _ in rows])
    points = np.array([p for _, p, _ in rows], np.float32).reshape(-1, NUM_COCO, 3)
    masks = Masks.from_dense([mask for *_, mask in rows], (height, width))
    labelled = (points[..., 2] > 0).astype(np.float32)
    ones = np.ones(len(rows), np.float32)
    return People(
        boxes=boxes,
        box_scores=ones,
        detector_masks=masks,
        keypoints=points[..., :2],
        keypoint_scores=labelled,
        presence=labelled,
        visibility=(points[..., 2] == 2).astype(np.float32),
        masks=masks,
        mask_scores=ones,
        mask_sources=np.full(len(rows), MaskSource.SAM, np.int32),
        prompts=np.full((len(rows), NUM_COCO), -1, np.int32),
        detector_boxes=boxes,
        rounds=np.ones(len(rows), np.int32),
        scores=ones,
    )


def _keypoints(annotation: Annotation, order: Convention | None) -> npt.NDArray[np.float64]:
    """Rows of x, y, flag (17, 3)."""
    x, y, width, height = annotation['bbox']
    points = np.full((NUM_COCO, 3), [x + width / 2, y + height / 2, 0.0])
    if order is None:
        return points
    given = np.asarray(annotation['keypoints'], np.float64).reshape(-1, 3)
    places = COCO_TO_CROWDPOSE if order == 'crowdpose14' else {i: i for i in range(NUM_COCO)}
    for here, there in places.items():
        if given[there, 2] > 0:
            points[here] = given[there]
    return points


def _mask(segmentation: Any, height: int, width: int) -> Bitmap:
    rle = rle_of(segmentation, height, width)
    if rle is None:
        return np.zeros((height, width), bool)
    return Masks.from_rle([rle], (height, width)).dense(0)
