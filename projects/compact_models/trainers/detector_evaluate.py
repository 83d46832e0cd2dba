"""Box AP and mask overlap of a detector on whole images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from pipeline.boxes import box_iou, box_nms
from projects.compact_models.detector.distilled import flatten_levels
from projects.compact_models.detector.packed import mask_logits

from .coco_ap import measure_coco
from .crops import Array, normalize
from .detector_data import FILL, MEAN, STD, Images
from .detector_losses import run_network
from .pose_data import PlacedMask

SIZE = 448  # px, the shipped input
MIN_SCORE, MAX_IOU, MOST = 0.05, 0.6, 100
NAMES = ('ap', 'ap50', 'ap75', 'ap_small', 'ap_medium', 'ap_large')


@torch.no_grad()
def detect(model: nn.Module, image: Any) -> tuple[Array, Array, Tensor, float]:
    """People in one BGR image.

    Returns:
        Boxes (N, 4) xyxy px, scores (N,), mask logits (N, h, w) at an eighth of the input, and the
        scale of the input.
    """
    height, width = image.shape[:2]
    scale = SIZE / max(height, width)
    frame = np.full((SIZE, SIZE, 3), FILL, np.uint8)
    size = (round(width * scale), round(height * scale))
    frame[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    outputs, logits, boxes, points = run_network(model, normalize(frame[None], MEAN, STD))
    scores = logits[0].sigmoid()
    rows = (scores > MIN_SCORE).nonzero()[:, 0]
    found = boxes[0, rows].clamp(0, SIZE).numpy()
    keep = box_nms(found, scores[rows].numpy(), MAX_IOU, pixel=0)[:MOST]
    kept = rows[torch.from_numpy(keep)]
    masks = torch.zeros(0, 1, 1)
    if len(kept):
        prototypes = outputs[3].float().expand(len(kept), -1, -1, -1)
        kernels = flatten_levels(outputs[2])[0, kept]
        masks = mask_logits(model.bbox_head, prototypes, kernels, points[kept])
    boxes_px = (found[keep] / scale).clip(0, [width, height, width, height])
    return boxes_px.astype(np.float32), scores[kept].numpy(), masks, scale


def evaluate_detector(model: nn.Module, images: Images, name: str) -> dict[str, float]:
    """Box AP on images with complete annotations, and mean mask IoU of the people that are found.

    Masks are compared at an eighth of the input size, in the best detection (IoU of 0.5 or more).
    """
    model.eval()
    results: list[dict[str, Any]] = []
    overlaps: list[float] = []
    for index, image in enumerate(images.pixels):
        boxes, scores, masks, scale = detect(model, image)
        for box, score in zip(boxes.tolist(), scores.tolist(), strict=True):
            row = {'image_id': index, 'score': score}
            results.append({**row, 'bbox': [*box[:2], box[2] - box[0], box[3] - box[1]]})
        overlaps += _mask_overlaps(images.boxes[index], images.masks[index], boxes, masks, scale)
    figures = _box_ap(images, results)
    figures['mask_iou'] = float(np.mean(overlaps)) if overlaps else float('nan')
    return {f'{name}_{key}': value for key, value in figures.items()}


def _mask_overlaps(
    people: Array, ground_truth: Any, boxes: Array, masks: Tensor, scale: float
) -> list[float]:
    """IoU of the masks of the people that are found."""
    found = []
    for box, placed in zip(people, ground_truth, strict=True):
        overlap = box_iou(box[None], boxes)[0]
        if placed is None or not len(boxes) or overlap.max() < 0.5:
            continue
        logits = masks[int(overlap.argmax())]
        expected = _shrink(placed, scale, logits.shape[-1])
        predicted = logits.numpy() > 0
        union = (predicted | expected).sum()
        found.append(float((predicted & expected).sum() / max(union, 1)))
    return found


def _shrink(placed: PlacedMask, scale: float, cells: int) -> Any:
    """A mask in cells of the input."""
    factor = scale * cells / SIZE
    matrix = np.array([[factor, 0, placed.x * factor], [0, factor, placed.y * factor]], np.float32)
    matrix[:, 2] += (factor - 1) / 2
    smooth = cv2.blur(placed.pixels, (max(1, int(1 / factor)),) * 2)
    return cv2.warpAffine(smooth, matrix, (cells, cells)) > 127


def _box_ap(images: Images, results: list[dict[str, Any]]) -> dict[str, float]:
    complete = np.flatnonzero(images.are_complete).tolist()
    annotations = [
        {
            'image_id': i, 'iscrowd': is_crowd, 'area': (x2 - x1) * (y2 - y1),
            'bbox': [x1, y1, x2 - x1, y2 - y1],
        }
        for i in complete
        for is_crowd, boxes in enumerate((images.boxes[i], images.crowds[i]))
        for x1, y1, x2, y2 in boxes.tolist()
    ]  # fmt: skip
    results = [row for row in results if row['image_id'] in set(complete)]
    if not results or not annotations:
        return {}
    figures = dict(zip(NAMES, measure_coco(annotations, results, 'bbox'), strict=False))
    return {'people': sum(not a['iscrowd'] for a in annotations), **figures}
