"""Run the shipped detector over training images: boxes, scores and masks as COCO results.

The pose model learns from them what it will see: rough boxes, rough masks, and detections that
show no person.

Example:
    python projects/compact_models/trainers/find_detections.py DATA/annotations.json found.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.structures import Detections
from projects.compact_models.trainers.command import prepare_process
from projects.compact_models.trainers.loop import has_bfloat16
from projects.compact_models.trainers.pose_data import find_image

ROOT = Path(__file__).resolve().parents[3]
MIN_SCORE, MAX_IOU, MAX_PEOPLE = 0.1, 0.5, 16
_detector: Any = None  # of this process


def start_process(checkpoint: Path) -> None:
    """Build the detector of a worker process."""
    global _detector
    from pipeline.detectors.mmdet_detector import build_mmdet_detector
    from pipeline.runtime.options import RuntimeOptions

    prepare_process()
    _detector = build_mmdet_detector(
        str(ROOT / 'configs/compact/rtmdet-ins_compact.py'),
        checkpoint,
        RuntimeOptions(device='cpu', precision='bf16' if has_bfloat16() else 'fp32'),
        score_threshold=MIN_SCORE, max_iou=MAX_IOU,
    )  # fmt: skip
    _detector.model.bbox_head.test_cfg.update(
        nms={'type': 'nms', 'iou_threshold': MAX_IOU}, max_per_img=MAX_PEOPLE
    )


def detect(item: tuple[int, Path]) -> list[dict[str, Any]]:
    """COCO results of one image."""
    image_id, path = item
    image = cv2.imread(str(path))
    if image is None:
        raise FileNotFoundError(f'{path} is no image file')
    found = _detector(np.ascontiguousarray(image[..., ::-1]))
    return as_results(image_id, found)


def as_results(image_id: int, found: Detections) -> list[dict[str, Any]]:
    """Detections of an image as COCO results."""
    rows = []
    for box, score, rle in zip(
        found.boxes.tolist(), found.box_scores.tolist(), found.detector_masks.to_rle(), strict=True
    ):
        x1, y1, x2, y2 = (round(v, 1) for v in box)
        rows.append(
            {
                'image_id': image_id, 'category_id': 1, 'score': round(score, 4),
                'bbox': [x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)], 'segmentation': rle,
            }
        )  # fmt: skip
    return rows


def main() -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('annotations', type=Path, help='COCO file beside its images')
    parser.add_argument('out', type=Path)
    parser.add_argument(
        '--checkpoint', type=Path, default=ROOT / 'checkpoints/rtmdet-ins_compact.pth'
    )
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    content = json.loads(args.annotations.read_text())
    posed = {a['image_id'] for a in content['annotations'] if a.get('num_keypoints')}
    images = [i for i in content['images'] if i['id'] in posed or i.get('fully_annotated', True)]
    folder = args.annotations.parent
    items = [(image['id'], find_image(folder, image['file_name'])) for image in images]
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(args.workers, None, start_process, (args.checkpoint,)) as pool:
        for number, found in enumerate(pool.map(detect, items, chunksize=16), 1):
            rows += found
            if number % 500 == 0:
                print(f'{number} of {len(items)} images', flush=True)
    partial = args.out.with_suffix('.partial')
    partial.write_text(json.dumps(rows))
    os.replace(partial, args.out)


if __name__ == '__main__':
    main()
