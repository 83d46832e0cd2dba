"""Ground truth of people in COCO format, read as `People`.

Legend: N people, K = 17 keypoints, H x W photo.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..geometry import xywh_to_xyxy
from ..keypoints import NUM_COCO
from ..masks import Bitmap, Masks
from ..structures import MaskSource, People

Annotation = dict[str, Any]


@dataclass(frozen=True, eq=False)
class PhotoTruth:
    """One photo with its annotated people, as the pipeline would ideally return them."""

    image_id: int | str
    file_name: str  # as in the file, relative to the folder of the photos
    height: int  # px
    width: int  # px
    people: People  # scores are 1; see `load_truth` for the keypoint columns
    num_crowds: int  # regions marked iscrowd (many people in one mask), left out of ``people``


def load_truth(annotation_file: str | Path) -> list[PhotoTruth]:
    """Photos of a COCO annotation file, in its order, with the people of each.

    Only the category called ``person`` is read (category 1 when the file names none). For each
    person ``boxes`` and ``detector_boxes`` are the annotated box, ``masks`` and
    ``detector_masks`` the annotated mask; ``keypoint_scores`` and ``presence`` are 1 where the
    keypoint is labelled (v > 0), ``visibility`` is 1 where it is seen (v = 2). Unlabelled
    keypoints lie in the middle of the box, so that no point of a person is far from him. Files
    without keypoints (COCO instances) give only such ones; an empty ``segmentation`` list gives
    an empty mask.

    Raises:
        ValueError: the content is not that of a COCO file; names file, annotation and reason.
    """
    path = Path(annotation_file)
    with _located(str(path)):
        data = json.loads(path.read_text())
        images, annotations = _section(data, 'images'), _section(data, 'annotations')
        person = _person_category(data.get('categories'))
    of_photo: dict[int | str, list[Annotation]] = defaultdict(list)
    known = {image.get('id') for image in images}
    for i, annotation in enumerate(annotations):
        with _located(f'{path}, annotation {annotation.get("id", f"number {i}")}'):
            if annotation['image_id'] not in known:
                raise ValueError(f'image_id {annotation["image_id"]!r} is not among "images"')
            if annotation.get('category_id', person) == person:
                of_photo[annotation['image_id']].append(annotation)
    return [_photo(path, image, of_photo) for image in images]


def _photo(
    path: Path, image: dict[str, Any], of_photo: dict[int | str, list[Annotation]]
) -> PhotoTruth:
    with _located(f'{path}, image {image.get("id")}'):
        image_id, name = image['id'], image['file_name']
        height, width = int(image['height']), int(image['width'])
    annotations = of_photo.get(image_id, [])
    single = [a for a in annotations if not a.get('iscrowd', 0)]
    rows = []
    for annotation in single:
        with _located(f'{path}, annotation {annotation.get("id")}'):
            box, mask = _box(annotation), _mask(annotation['segmentation'], height, width)
            rows.append((box, _keypoints(annotation, box), mask))
    people = _people(rows, height, width)
    return PhotoTruth(image_id, name, height, width, people, len(annotations) - len(single))


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


def _box(annotation: Annotation) -> list[float]:
    box = _numbers(annotation['bbox'], 4, 'bbox')
    if min(box[2:]) < 0:
        raise ValueError(f'bbox is x, y, width, height; width and height must be >= 0, got {box}')
    return [float(v) for v in box]


def _keypoints(annotation: Annotation, box_xywh: list[float]) -> npt.NDArray[np.float64]:
    """Rows of x, y, flag (K, 3)."""
    nothing = [0] * (3 * NUM_COCO)
    points = _numbers(annotation.get('keypoints', nothing), len(nothing), 'keypoints')
    points = points.reshape(NUM_COCO, 3)
    flags = set(points[:, 2].tolist())
    if not flags <= {0, 1, 2}:
        raise ValueError(f'keypoint flags must be 0, 1 or 2, got {sorted(flags - {0, 1, 2})}')
    x, y, width, height = box_xywh
    points[points[:, 2] == 0, :2] = x + width / 2, y + height / 2
    return points


def _numbers(values: Any, length: int, key: str) -> npt.NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    if numbers.shape != (length,):
        raise ValueError(f'{key} must hold {length} numbers, got shape {numbers.shape}')
    if not np.isfinite(numbers).all():
        raise ValueError(f'{key} holds values that are not finite: {numbers.tolist()}')
    return numbers


def _mask(segmentation: Any, height: int, width: int) -> Bitmap:
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, dict):
        return Masks.from_rle([segmentation], (height, width)).dense(0)
    if not isinstance(segmentation, list):
        raise ValueError(f'segmentation must be polygons or RLE, got {type(segmentation).__name__}')
    for polygon in segmentation:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f'a polygon needs at least 3 x, y pairs, got {len(polygon)} numbers')
        _numbers(polygon, len(polygon), 'polygon')
    if not segmentation:
        return np.zeros((height, width), bool)
    merged = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    return np.asarray(coco_mask.decode(merged), bool)


def _section(data: Any, key: str) -> list[dict[str, Any]]:
    if not isinstance(data, dict) or not isinstance(data.get(key), list):
        raise ValueError(f'not a COCO annotation file: it has no list "{key}"')
    rows: list[dict[str, Any]] = data[key]
    return rows


def _person_category(categories: list[dict[str, Any]] | None) -> int:
    if not categories:
        return 1
    names = {c.get('name'): c['id'] for c in categories}
    if 'person' not in names:
        raise ValueError(f'no category is called "person", only {sorted(map(str, names))}')
    return int(names['person'])


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Put ``where`` in front of what is found wrong inside."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f'{where}: key {error} is missing') from error
    except (TypeError, ValueError) as error:
        raise ValueError(f'{where}: {error}') from error
