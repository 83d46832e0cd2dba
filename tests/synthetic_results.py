"""Synthetic annotations and results of any size, to compare the scorer with others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.boxes import xyxy_to_xywh
from pipeline.io.coco import PERSON
from pipeline.keypoints import NUM_COCO
from pipeline.masks import Masks

Row = dict[str, Any]
HEIGHT, WIDTH = 480, 640
Boxes = npt.NDArray[np.float32]


def make_results(
    num_images: int, people_per_image: int = 4, seed: int = 0
) -> tuple[dict[str, Any], list[Row]]:
    """COCO annotations of elliptic people, and noisy results for them; equal for equal arguments.

    About a tenth of the people are missed, and one result in five is a false positive; boxes, masks
    and keypoints of the others are off by up to a third of the box.

    Returns:
        Content of an annotation file, and rows with ``bbox``, ``segmentation`` and ``keypoints``.
    """
    rng = np.random.default_rng(seed)
    names = [f'{i:06}.jpg' for i in range(num_images)]
    images = [
        {'id': i, 'file_name': name, 'height': HEIGHT, 'width': WIDTH}
        for i, name in enumerate(names, start=1)
    ]
    annotations: list[Row] = []
    results: list[Row] = []
    for image in images:
        boxes = _boxes(rng, int(rng.integers(1, 2 * people_per_image)))
        places = rng.random((len(boxes), NUM_COCO, 2))
        for row in _rows(boxes, places):
            flags = rng.choice([0, 1, 2], NUM_COCO, p=[0.3, 0.2, 0.5])
            row['keypoints'][2::3] = flags.tolist()
            row |= {'id': len(annotations) + 1, 'image_id': image['id'], 'iscrowd': 0}
            annotations.append(row | {'num_keypoints': int((flags > 0).sum())})
        kept = rng.random(len(boxes)) > 0.1
        size = (boxes[kept, 2:] - boxes[kept, :2])[:, [0, 1, 0, 1]]
        noise = rng.choice([0.01, 0.1, 0.3], (len(size), 1)) * rng.uniform(-1, 1, size.shape)
        others = _boxes(rng, int((rng.random(len(boxes)) < 0.25).sum()))
        predicted = _clipped(np.concatenate([boxes[kept] + size * noise, others]))
        places = np.concatenate([places[kept], rng.random((len(others), NUM_COCO, 2))])
        results += [
            row | {'image_id': image['id'], 'score': round(float(rng.random()), 4)}
            for row in _rows(predicted, places)
        ]
    categories = [{'id': PERSON, 'name': 'person'}]
    return {'images': images, 'annotations': annotations, 'categories': categories}, results


def _boxes(rng: np.random.Generator, number: int) -> Boxes:
    """Boxes (N, 4) xyxy px of all of COCO's sizes."""
    height = np.exp(rng.uniform(np.log(20), np.log(400), number))
    sizes = np.stack([height * rng.uniform(0.3, 0.8, number), height], 1)
    corners = rng.uniform(0, 1, (number, 2)) * ([WIDTH, HEIGHT] - sizes)
    return _clipped(np.concatenate([corners, corners + sizes], 1))


def _clipped(boxes: npt.NDArray[Any]) -> Boxes:
    boxes = np.clip(boxes, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
    boxes[:, :2] = np.minimum(boxes[:, :2], boxes[:, 2:] - 2).clip(0)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 2)
    return np.asarray(boxes, np.float32)


def _rows(boxes: Boxes, places: npt.NDArray[Any]) -> list[Row]:
    """People in boxes (N, 4), their keypoints (N, K, 2) relative to width and height."""
    masks = Masks.from_places(HEIGHT, WIDTH, [_ellipse(box) for box in boxes])
    points = places * (boxes[:, None, 2:] - boxes[:, None, :2]) + boxes[:, None, :2]
    points = np.concatenate([points, np.ones((*points.shape[:2], 1))], 2)
    boxes_xywh = xyxy_to_xywh(boxes)
    return [
        {
            'category_id': PERSON,
            'bbox': boxes_xywh[i].round(2).tolist(),
            'segmentation': rle,
            'area': int(masks.areas[i]),
            'keypoints': points[i].round(1).ravel().tolist(),
        }
        for i, rle in enumerate(masks.to_rle())
    ]


def _ellipse(box: Boxes) -> tuple[int, int, npt.NDArray[np.bool_]]:
    """The largest ellipse in a box, as a crop and its place."""
    x1, y1, x2, y2 = box.round().astype(int).tolist()
    v, u = np.ogrid[-1 : 1 : (y2 - y1) * 1j, -1 : 1 : (x2 - x1) * 1j]
    return x1, y1, u * u + v * v <= 1
