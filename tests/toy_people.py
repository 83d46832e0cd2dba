"""Small synthetic ground truth in COCO format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.coco_ground_truth import ImageGroundTruth, load_ground_truth
from pipeline.io.inputs import InputImage
from pipeline.masks import Masks
from pipeline.structures import MaskSource, People

ROOT = Path(__file__).parents[1]

# Keypoints of a standing person, relative to width and height of the box.
STANDING = np.array([
    (0.5, 0.08), (0.55, 0.06), (0.45, 0.06), (0.6, 0.08), (0.4, 0.08),
    (0.75, 0.22), (0.25, 0.22), (0.9, 0.36), (0.1, 0.36), (0.95, 0.5), (0.05, 0.5),
    (0.65, 0.52), (0.35, 0.52), (0.68, 0.74), (0.32, 0.74), (0.7, 0.95), (0.3, 0.95),
], np.float32)  # fmt: skip


def people_in(boxes: Any, shape: tuple[int, int], points: int = 17) -> People:
    """Standing people in boxes xyxy, with masks a pixel inside them; earlier rows are in front."""
    rows = np.asarray(boxes, np.float32).reshape(-1, 4)
    n, k = len(rows), np.resize(STANDING, (points, 2))
    sizes = rows[:, None, 2:] - rows[:, None, :2]
    full = Masks.from_boxes(rows + np.array([1, 1, -1, -1], np.float32), shape)
    free, crops = np.ones(shape, bool), []
    for i in range(n):
        crops.append(full.dense(i) & free)
        free &= ~crops[-1]
    masks = Masks.from_dense(crops, shape)
    ones, ramp = np.ones((n, points), np.float32), np.linspace(0.9, 0.5, n, dtype=np.float32)
    return People(
        boxes=rows,
        box_scores=ramp,
        detector_masks=masks,
        keypoints=np.asarray(rows[:, None, :2] + k * sizes, np.float32),
        keypoint_scores=ones * 0.8,
        presence=ones,
        visibility=ones,
        masks=masks,
        mask_scores=ramp,
        mask_sources=np.full(n, MaskSource.SAM, np.int32),
        prompts=np.full((n, points), -1, np.int32),
        detector_boxes=rows,
        rounds=np.ones(n, np.int32),
        scores=ramp,
    )


def person(number: int, image_id: int, box_xywh: list[float], **changes: Any) -> dict[str, Any]:
    """A COCO annotation: a rectangle with the keypoints of a standing person."""
    x, y, w, h = box_xywh
    spots = (STANDING * [w, h] + [x, y]).round(1).tolist()
    flags = [2, 1, 2, 2, 0] + [2] * 12
    points = [(*s, f) if f else (0, 0, 0) for s, f in zip(spots, flags, strict=True)]
    return {
        'id': number,
        'image_id': image_id,
        'category_id': 1,
        'bbox': box_xywh,
        'area': w * h * 0.8,
        'segmentation': [[x, y, x + w, y, x + w, y + h, x, y + h]],
        'keypoints': [v for point in points for v in point],
        'num_keypoints': 16,
        'iscrowd': 0,
    } | changes


def coco(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """Content of a COCO file of people."""
    categories = [{'id': 1, 'name': 'person'}]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def toy_annotations() -> dict[str, Any]:
    """Three images: a pair with a crowd region, small and large people, no people."""
    rle = {'size': [200, 300], 'counts': [30000, 10000, 20000]}
    nothing = {'keypoints': [0] * 51, 'num_keypoints': 0}
    images = [{'id': i, 'file_name': f'{i}.jpg', 'height': 200, 'width': 300} for i in (7, 3, 9)]
    annotations = [
        person(0, 7, [20, 30, 60, 150]),
        person(1, 7, [60, 35, 62, 150]),
        person(2, 7, [150, 0, 50, 200], segmentation=rle, iscrowd=1, area=10000, **nothing),
        person(3, 3, [10, 10, 20, 30]),
        person(4, 3, [100, 5, 180, 190]),
        person(5, 3, [40, 60, 40, 90], **nothing),
    ]
    return coco(images, annotations)


def input_images(*names: str) -> list[InputImage]:
    """Images of a folder `in`, by their names in it."""
    return [InputImage(Path('in', name), name, Path('in')) for name in names]


def json_file(folder: Path, content: Any) -> Path:
    """Write content as JSON, or text as it is, to `file.json` of a folder."""
    path = folder / 'file.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def write(path: Path, content: Any) -> Path:
    """``path`` with ``content`` as JSON."""
    path.write_text(json.dumps(content))
    return path


def as_results(ground_truth: list[ImageGroundTruth]) -> list[dict[str, Any]]:
    """Ground truth as COCO results of score 1."""
    return [r for image in ground_truth for r in image.people.to_coco(image.image_id)]


def toy_results(tmp_path: Path) -> list[dict[str, Any]]:
    """Ground truth of `toy_annotations` as results."""
    return as_results(load_ground_truth(write(tmp_path / 'toy.json', toy_annotations())))
