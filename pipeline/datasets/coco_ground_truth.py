"""Read COCO annotations of people as `People`.

Legend: N people, K = 17 keypoints, H x W image.
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
from ..keypoint_sets import COCO_TO_CROWDPOSE, Convention
from ..keypoints import NUM_COCO
from ..masks import Bitmap, Masks
from ..rle import rle_of
from ..structures import MaskSource, People
from .annotation_rules import Annotation
from .annotations import load_annotations


@dataclass(frozen=True, eq=False)
class ImageGroundTruth:
    """The annotated people of one image, in the form of an ideal prediction."""

    image_id: int | str
    file_name: str  # relative to the image folder
    height: int  # px
    width: int  # px
    people: People  # scores are 1; see `load_ground_truth` for the keypoint columns
    num_crowds: int  # crowd regions (iscrowd), not in ``people``


def load_ground_truth(annotation_file: str | Path) -> list[ImageGroundTruth]:
    """Load the images of a COCO annotation file, in its order, with the people of each.

    `load_annotations` validates the file. ``boxes`` and ``detector_boxes`` are the annotated
    boxes, ``masks`` and ``detector_masks`` the annotated masks (empty where a person has none).
    ``keypoint_scores`` and ``presence`` are 1 for labelled keypoints (v > 0), ``visibility`` is 1
    for visible ones (v = 2). Unlabelled keypoints lie at the box centre. The same holds for all
    keypoints of a file without keypoints or with an unknown order, and for the face keypoints of
    CrowdPose, which shares 12 of its 14 keypoints with COCO.

    Raises:
        AnnotationError: the file is invalid; names file, annotation and reason.
    """
    loaded = load_annotations(annotation_file)
    of_image: dict[int | str, list[Annotation]] = defaultdict(list)
    for annotation in loaded.content['annotations']:
        of_image[annotation['image_id']].append(annotation)
    order = loaded.convention if 'keypoints' in loaded.tasks else None
    return [_load_image(image, of_image[image['id']], order) for image in loaded.content['images']]


def _load_image(
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
    """Build one row per annotated person of an image; see `load_ground_truth`.

    Args:
        annotations: validated annotations (`check_annotations`) without crowd regions.
        height: of the image, px.
        width: of the image, px.
        order: of the keypoints; None: keypoints are not read.
    """
    boxes = xywh_to_xyxy([a['bbox'] for a in annotations])
    keypoints = [_keypoints(a, order) for a in annotations]
    points = np.array(keypoints, np.float32).reshape(-1, NUM_COCO, 3)
    bitmaps = [_mask(a.get('segmentation', []), height, width) for a in annotations]
    masks = Masks.from_dense(bitmaps, (height, width))
    labelled = (points[..., 2] > 0).astype(np.float32)
    ones = np.ones(len(annotations), np.float32)
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
        mask_sources=np.full(len(annotations), MaskSource.SAM, np.int32),
        prompts=np.full((len(annotations), NUM_COCO), -1, np.int32),
        detector_boxes=boxes,
        rounds=np.ones(len(annotations), np.int32),
        scores=ones,
    )


def _keypoints(annotation: Annotation, order: Convention | None) -> npt.NDArray[np.float64]:
    """Read the keypoints as rows of x, y, flag (17, 3)."""
    x, y, width, height = annotation['bbox']
    points = np.full((NUM_COCO, 3), [x + width / 2, y + height / 2, 0.0])
    if order is None:
        return points
    annotated = np.asarray(annotation['keypoints'], np.float64).reshape(-1, 3)
    indices = COCO_TO_CROWDPOSE if order == 'crowdpose14' else {i: i for i in range(NUM_COCO)}
    for target, source in indices.items():
        if annotated[source, 2] > 0:
            points[target] = annotated[source]
    return points


def _mask(segmentation: Any, height: int, width: int) -> Bitmap:
    rle = rle_of(segmentation, height, width)
    if rle is None:
        return np.zeros((height, width), bool)
    return Masks.from_rle([rle], (height, width)).dense(0)
