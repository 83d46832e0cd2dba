"""People of a COCO file, decoded once and kept in memory for `pose_augment`.

Legend: N rows (a row is a box to crop, with the person it shows), K = 17 keypoints.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.boxes import box_areas, box_iou, box_nms, xywh_to_xyxy

from .crops import Array, Pixels

Kind = Literal['person', 'detected_pose', 'detected_person', 'background']
KINDS: tuple[Kind, ...] = ('person', 'detected_pose', 'detected_person', 'background')

PERSON_IOU = 0.35  # a detection with this IoU shows that person
BACKGROUND_IOU = 0.2  # a detection below this IoU with all people shows no person
CROWD_FRACTION = 0.4  # of a detection inside a crowd region: its content is unknown
MAX_IOU = 0.5  # box NMS of detections, as `detector.max_iou` of `bmp_compact`
MIN_KEYPOINTS = 3
AREA_OF_BOX = 0.53  # COCO's area of a person without a mask
MIN_CUTOUT = 48  # px; smaller people are not pasted
NO_ROW = np.zeros((17, 3), np.float32)


class PlacedMask(NamedTuple):
    """A mask cropped to its box: `pixels` (h, w), 0 or 255, at column `x` and row `y`."""

    x: int
    y: int
    pixels: Pixels


@dataclass(frozen=True, eq=False)
class People:
    """Rows with their images.

    Attributes:
        images: BGR uint8 (H, W, 3).
        image: int64 (N,), index of the row's image.
        kind: int64 (N,), index in `KINDS`.
        boxes: float32 (N, 4), xyxy px, the box to crop.
        person_boxes: float32 (N, 4), box of the person; NaN where there is none.
        keypoints: float32 (N, K, 3), x, y, v of COCO; zeros where they are unknown.
        areas: float32 (N,), area of the person, px squared.
        true_masks: annotated masks (N); None where there is none.
        found_masks: masks of a detector (N), likewise.
        image_ids: int64 (N,), of the COCO file.
        cutouts: people to paste, BGRA uint8 (h, w, 4).
    """

    images: Sequence[Pixels]
    image: NDArray[np.int64]
    kind: NDArray[np.int64]
    boxes: Array
    person_boxes: Array
    keypoints: Array
    areas: Array
    true_masks: Sequence[PlacedMask | None]
    found_masks: Sequence[PlacedMask | None]
    image_ids: NDArray[np.int64]
    cutouts: Sequence[Pixels]

    def __len__(self) -> int:
        return len(self.boxes)


def place_mask(segmentation: Any, height: int, width: int) -> PlacedMask | None:
    """Decode a COCO segmentation of an image of this size; None for an empty one."""
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation['counts'], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    x, y, w, h = (int(v) for v in coco_mask.toBbox(segmentation))
    if w < 2 or h < 2 or tuple(segmentation['size']) != (height, width):
        return None
    pixels = coco_mask.decode(segmentation)[y : y + h, x : x + w] * np.uint8(255)
    return PlacedMask(x, y, np.ascontiguousarray(pixels))


def read_images(paths: Iterable[Path], threads: int = 2) -> list[Pixels]:
    """Decode images as BGR uint8.

    Raises:
        FileNotFoundError: an image is absent or damaged.
    """

    def read(path: Path) -> Pixels:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise FileNotFoundError(f'{path} is no image file')
        return np.asarray(image, np.uint8)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(read, paths))


def find_image(folder: Path, name: str) -> Path:
    """Path of an image that lies in `folder` or in `folder/images`."""
    path = folder / name
    return path if path.exists() else folder / 'images' / name


def load_people(
    annotations: Path,
    *,
    subset: str | None = None,
    detections: Path | None = None,
    min_keypoints: int = MIN_KEYPOINTS,
    kinds: Sequence[Kind] = KINDS,
    max_images: int | None = None,
    with_masks: bool = False,
) -> People:
    """Read people with keypoints, and what a detector finds in the images.

    Args:
        annotations: COCO file; its images lie beside it or in `images/` beside it.
        subset: read only images whose `subset` is this.
        detections: COCO results with `segmentation`, of `find_detections.py`.
        min_keypoints: people with fewer labelled keypoints are left out.
        kinds: rows of other kinds are left out.
        max_images: read only so many images.
        with_masks: read people with masks too, whatever their keypoints.
    """
    content = json.loads(annotations.read_text())
    images = [i for i in content['images'] if subset is None or i.get('subset') == subset]
    annotated = _by_image(content['annotations'])
    found = _by_image(json.loads(detections.read_text()) if detections else [])
    rows: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    cutouts: list[tuple[int, PlacedMask]] = []
    for image in images[:max_images]:
        size = (image['height'], image['width'])
        here = annotated[image['id']]
        detected = _detected_rows(found[image['id']], here, image, min_keypoints)
        made = [*_annotated_rows(here, detected, size, min_keypoints, with_masks), *detected]
        made = [row for row in made if KINDS[row['kind']] in kinds]
        pasted = _cutout_masks(here, size)
        if made or pasted:
            rows += [{**row, 'image': len(kept), 'image_id': image['id']} for row in made]
            cutouts += [(len(kept), mask) for mask in pasted]
            kept.append(image)
    pixels = read_images(find_image(annotations.parent, p['file_name']) for p in kept)
    return _stack(rows, pixels, [_cut_out(pixels[i], mask) for i, mask in cutouts])


def _by_image(rows: Sequence[Mapping[str, Any]]) -> dict[int, list[Any]]:
    grouped: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        grouped[row['image_id']].append(row)
    return grouped


def _stack(rows: list[dict[str, Any]], images: list[Pixels], cutouts: list[Pixels]) -> People:
    def column(name: str, dtype: Any, shape: tuple[int, ...] = ()) -> Any:
        return np.array([row[name] for row in rows], dtype).reshape(len(rows), *shape)

    nowhere = np.full(4, np.nan, np.float32)
    people = [row['person'] for row in rows]
    return People(
        images=images,
        image=column('image', np.int64),
        kind=column('kind', np.int64),
        boxes=column('box', np.float32, (4,)),
        person_boxes=np.array([box_of(p) if p else nowhere for p in people]).reshape(-1, 4),
        keypoints=column('keypoints', np.float32, (17, 3)),
        areas=np.array([area_of(p) if p else 1.0 for p in people], np.float32),
        true_masks=[row['true_mask'] for row in rows],
        found_masks=[row['found_mask'] for row in rows],
        image_ids=column('image_id', np.int64),
        cutouts=cutouts,
    )


def _annotated_rows(
    annotations: Sequence[Any],
    detected: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    min_keypoints: int,
    with_masks: bool = False,
) -> list[dict[str, Any]]:
    """A row for each annotated person with keypoints, with the mask of its best detection."""
    found_masks = {id(row['person']): row['found_mask'] for row in reversed(detected)}
    rows = []
    for annotation in annotations:
        points = keypoints_of(annotation)
        is_posed = (points[:, 2] > 0).sum() >= max(1, min_keypoints)
        if annotation.get('iscrowd') or not (is_posed or (with_masks and has_mask(annotation))):
            continue
        if min(annotation['bbox'][2:]) < 4:
            continue
        rows.append(
            {
                'kind': KINDS.index('person'), 'box': box_of(annotation), 'person': annotation,
                'keypoints': points, 'true_mask': mask_of(annotation, size),
                'found_mask': found_masks.get(id(annotation)),
            }
        )  # fmt: skip
    return rows


def box_of(annotation: Mapping[str, Any]) -> Array:
    """Box (4,) xyxy px of an annotation."""
    return np.asarray(xywh_to_xyxy(annotation['bbox'])[0], np.float32)


def keypoints_of(annotation: Mapping[str, Any]) -> Array:
    """Keypoints (K, 3) of an annotation; zeros if it has none."""
    if not annotation.get('num_keypoints'):
        return NO_ROW
    return np.array(annotation['keypoints'], np.float32).reshape(17, 3)


def area_of(annotation: Mapping[str, Any]) -> float:
    """Area of a person as COCO counts it, px squared."""
    if has_mask(annotation) and annotation.get('area'):
        return float(annotation['area'])
    return float(annotation['bbox'][2] * annotation['bbox'][3] * AREA_OF_BOX)


def has_mask(annotation: Mapping[str, Any]) -> bool:
    """Whether a person is annotated with a mask."""
    return bool(annotation.get('segmentation')) and annotation.get('has_mask', True)


def mask_of(annotation: Mapping[str, Any], size: tuple[int, int]) -> PlacedMask | None:
    """Annotated mask, if there is one."""
    return place_mask(annotation['segmentation'], *size) if has_mask(annotation) else None


def _detected_rows(
    found: Sequence[Any], annotations: Sequence[Any], image: Mapping[str, Any], min_keypoints: int
) -> list[dict[str, Any]]:
    """A row for each detection of an annotated person, or of none where all are annotated."""
    size = (image['height'], image['width'])
    boxes = xywh_to_xyxy([row['bbox'] for row in found]) if found else np.zeros((0, 4), np.float32)
    scores = np.array([row['score'] for row in found], np.float32)
    people = [a for a in annotations if not a.get('iscrowd')]
    crowds = xywh_to_xyxy([a['bbox'] for a in annotations if a.get('iscrowd')]).reshape(-1, 4)
    true_boxes = xywh_to_xyxy([a['bbox'] for a in people]).reshape(-1, 4)
    rows = []
    for i in box_nms(boxes, scores, MAX_IOU).tolist() if len(boxes) else []:
        overlaps = box_iou(boxes[i : i + 1], true_boxes)[0]
        best = int(overlaps.argmax()) if len(people) else -1
        is_person = best >= 0 and overlaps[best] >= PERSON_IOU
        is_background = best < 0 or overlaps[best] < BACKGROUND_IOU
        if not is_person and not (is_background and image.get('fully_annotated', True)):
            continue
        if not is_person and _covered(boxes[i], crowds) > CROWD_FRACTION:
            continue
        row = {
            'kind': KINDS.index('background'), 'box': boxes[i], 'person': None,
            'keypoints': NO_ROW, 'true_mask': None,
            'found_mask': place_mask(found[i]['segmentation'], *size),
        }  # fmt: skip
        if is_person:
            points = keypoints_of(people[best])
            has_pose = (points[:, 2] > 0).sum() >= min_keypoints
            row.update(
                kind=KINDS.index('detected_pose' if has_pose else 'detected_person'),
                person=people[best], keypoints=points if has_pose else NO_ROW,
                true_mask=mask_of(people[best], size),
            )  # fmt: skip
        rows.append(row)
    return rows


def _covered(box: Array, regions: Array) -> float:
    """Largest fraction of a box that one of the regions (R, 4) covers."""
    if not len(regions):
        return 0.0
    low, high = np.maximum(box[:2], regions[:, :2]), np.minimum(box[2:], regions[:, 2:])
    return float((high - low).clip(0).prod(1).max() / box_areas(box[None])[0])


def _cutout_masks(annotations: Sequence[Any], size: tuple[int, int]) -> list[PlacedMask]:
    masks = [mask_of(a, size) for a in annotations if not a.get('iscrowd')]
    return [m for m in masks if m is not None and min(m.pixels.shape) >= MIN_CUTOUT]


def _cut_out(image: Pixels, mask: PlacedMask) -> Pixels:
    height, width = mask.pixels.shape
    region = image[mask.y : mask.y + height, mask.x : mask.x + width]
    return np.concatenate([region, mask.pixels[..., None]], axis=2)
