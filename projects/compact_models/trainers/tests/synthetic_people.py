"""A small COCO folder of drawn people, for tests of the trainers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from projects.compact_models.trainers.crops import Pixels

# x, y of COCO's keypoints as fractions of the box.
FIGURE = np.array([
    (.5, .08), (.54, .06), (.46, .06), (.58, .08), (.42, .08), (.7, .22), (.3, .22), (.8, .4),
    (.2, .4), (.85, .55), (.15, .55), (.62, .55), (.38, .55), (.64, .76), (.36, .76), (.65, .97),
    (.35, .97),
])  # fmt: skip


def write_folder(folder: Path, num_images: int = 4, seed: int = 0) -> Path:
    """Write `annotations.json` and images with two people each; half of them have masks."""
    rng = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(num_images):
        pixels: Pixels = rng.integers(0, 255, (160, 200, 3), dtype=np.uint8)
        name = f'{number}.png'
        subset = 'val' if number == num_images - 1 else 'train'
        images.append(
            {
                'id': number, 'file_name': name, 'height': 160, 'width': 200,
                'subset': subset, 'fully_annotated': True,
            }
        )  # fmt: skip
        for side in (0, 1):
            box = [10 + 90 * side, 10, 80, 140]
            corners = [box[0], box[1], box[0] + 80, box[1], box[0] + 80, 150, box[0], 150]
            points = np.concatenate([FIGURE * box[2:] + box[:2], np.full((17, 1), 2)], 1)
            cv2.rectangle(pixels, box, (0, 200 * side, 255), -1)
            annotations.append(
                {
                    'id': len(annotations), 'image_id': number, 'category_id': 1, 'iscrowd': 0,
                    'bbox': box, 'area': 80 * 140, 'num_keypoints': 17, 'has_mask': side == 0,
                    'keypoints': points.ravel().tolist(), 'has_keypoints': True,
                    'segmentation': [corners] if side == 0 else [],
                }
            )  # fmt: skip
        cv2.imwrite(str(folder / name), pixels)
    content = {
        'images': images, 'annotations': annotations, 'categories': [{'id': 1, 'name': 'person'}]
    }  # fmt: skip
    path = folder / 'annotations.json'
    path.write_text(json.dumps(content))
    return path


def write_detections(path: Path, annotations: Path) -> Path:
    """Write a shifted detection of every person, and one of the background per image."""
    content = json.loads(annotations.read_text())
    rows = [
        {
            'image_id': a['image_id'], 'score': 0.9, 'bbox': [b + 6 for b in a['bbox']],
            'segmentation': _ellipse(a['bbox']),
        } for a in content['annotations']
    ]  # fmt: skip
    rows += [
        {'image_id': i['id'], 'score': 0.3, 'bbox': [0, 0, 30, 20],
         'segmentation': _ellipse([0, 0, 30, 20])}
        for i in content['images']
    ]  # fmt: skip
    path.write_text(json.dumps(rows))
    return path


def _ellipse(box: list[int]) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    mask = np.zeros((160, 200), np.uint8)
    x, y, w, h = box
    cv2.ellipse(mask, (x + w // 2, y + h // 2), (w // 2, h // 2), 0, 0, 360, 1, -1)
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {'size': [160, 200], 'counts': rle['counts'].decode()}
