"""Figures of a pose model in the boxes of annotated people, in groups of people.

Legend: N people, K keypoints.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.boxes import box_iou
from pipeline.keypoint_sets import sigmas_of

from .coco_ap import measure_coco
from .crops import FLIP, Array, normalize, warp
from .pose_augment import H, W, crop_matrices, dim, transform_points, window_sides
from .pose_data import KINDS, People

BATCH = 64
EDGE = 3  # px between a box and the edge of the image
COVERED = 0.5  # of the smaller box, by another person's
FEW = 6  # keypoints
LARGE = 96.0**2  # px squared
MOST_BOXES = 500  # detections that `measure_boxes` looks at, about


def crop_people(people: People, rows: NDArray[np.int64], alpha: float) -> tuple[Any, Array]:
    """Crops (N, 3, H, W) as the product makes them, and their matrices (N, 2, 3).

    Args:
        people: in memory.
        rows: N rows.
        alpha: dim the background by this, with the true mask or else the detector's.
    """
    boxes = people.boxes[rows]
    matrices = crop_matrices((boxes[:, :2] + boxes[:, 2:]) / 2, window_sides(boxes))
    crops = np.zeros((len(rows), H, W, 3), np.uint8)
    for i, row in enumerate(rows):
        warp(people.images[people.image[row]], matrices[i], (W, H), out=crops[i])
        cv2.cvtColor(crops[i], cv2.COLOR_BGR2RGB, dst=crops[i])
        placed = people.true_masks[row] or people.found_masks[row]
        if alpha and placed is not None:
            mask = warp(placed.pixels, matrices[i], (W, H), origin=(placed.x, placed.y))
            dim(crops[i], mask > 127, alpha)
    return normalize(crops), matrices


@torch.no_grad()
def predict(
    model: nn.Module,
    people: People,
    rows: NDArray[np.int64],
    alpha: float = 0.0,
    *,
    with_poses: bool = True,
) -> dict[str, Array]:
    """Predict poses with a flip test.

    Args:
        model: pose model.
        people: in memory.
        rows: N rows.
        alpha: as in `crop_people`.
        with_poses: decode keypoints too.

    Returns:
        keypoints (N, K, 2) and boxes (N, 4) in px of the image, scores (N, K), expected OKS,
        box_scores (N,).
    """
    head: Any = model.head
    found: dict[str, list[Array]] = {n: [] for n in ('keypoints', 'scores', 'boxes', 'box_scores')}
    for start in range(0, len(rows), BATCH):
        images, matrices = crop_people(people, rows[start : start + BATCH], alpha)
        outputs = head.forward(model.backbone(images))  # type: ignore[operator]
        mirrored = head.forward(model.backbone(images.flip(3)))  # type: ignore[operator]
        outputs = outputs.average(mirrored.unflip(FLIP.tolist(), shift_heatmap=False))
        heatmaps = outputs.heatmaps.numpy() if with_poses else []
        points = np.array([head.decoder.decode(h)[0][0] for h in heatmaps], np.float32)
        back = invert(matrices)
        if with_poses:
            found['keypoints'].append(transform_points(points, back))
        corners = outputs.boxes.view(-1, 2, 2).numpy() * np.array([W - 1, H - 1], np.float32)
        found['boxes'].append(transform_points(corners, back).reshape(-1, 4))
        found['scores'].append(outputs.oks.numpy())
        found['box_scores'].append(outputs.box_scores.numpy())
    return {name: np.concatenate(parts) for name, parts in found.items() if parts}


def invert(matrices: Array) -> Array:
    """Inverse maps (B, 2, 3) of affine maps."""
    linear = np.linalg.inv(matrices[:, :, :2])
    offset = -np.einsum('bij,bj->bi', linear, matrices[:, :, 2])
    return np.asarray(np.concatenate([linear, offset[..., None]], 2), np.float32)


def measure_oks(people: People, rows: NDArray[np.int64], keypoints: Array) -> Array:
    """OKS (N,) of keypoints (N, K, 2)."""
    ground_truth = people.keypoints[rows]
    labelled = ground_truth[..., 2] > 0
    squared = ((keypoints - ground_truth[..., :2]) ** 2).sum(2)
    variance = (2 * np.array(sigmas_of(17), np.float32)) ** 2
    each = np.exp(-squared / (2 * variance * (people.areas[rows][:, None] + 1e-9)))
    return np.asarray((each * labelled).sum(1) / labelled.sum(1).clip(1), np.float32)


def group_people(people: People, rows: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Groups of people as masks (N,)."""
    boxes, images = people.boxes[rows], people.image[rows]
    sizes = np.array([people.images[p].shape[1::-1] for p in images])
    gap = np.concatenate([boxes[:, :2], sizes - boxes[:, 2:]], 1).min(1)
    covered = np.zeros(len(rows), np.bool_)
    for image in np.unique(images):
        here = np.flatnonzero(images == image)
        low = np.maximum(boxes[here, None, :2], boxes[None, here, :2])
        high = np.minimum(boxes[here, None, 2:], boxes[None, here, 2:])
        inner = (high - low).clip(0).prod(2)
        sides = (boxes[here, 2:] - boxes[here, :2]).prod(1)
        np.fill_diagonal(inner, 0)
        covered[here] = (inner / np.minimum(sides[:, None], sides)).max(1) >= COVERED
    count = (people.keypoints[rows][..., 2] > 0).sum(1)
    return {
        'edge': gap < EDGE, 'covered': covered, 'few_keypoints': count < FEW,
        'large': people.areas[rows] > LARGE,
    }  # fmt: skip


def measure_ap(
    people: People, rows: NDArray[np.int64], found: dict[str, Array]
) -> tuple[float, float]:
    """AP and AP50 (COCO) of one pose in each annotated box; the score is the mean expected OKS."""
    boxes, ground_truth = people.boxes[rows], people.keypoints[rows]
    annotations = [
        {
            'image_id': int(people.image_ids[row]), 'iscrowd': 0, 'area': float(people.areas[row]),
            'bbox': [*boxes[i, :2].tolist(), *(boxes[i, 2:] - boxes[i, :2]).tolist()],
            'keypoints': ground_truth[i].ravel().tolist(),
            'num_keypoints': int((ground_truth[i, :, 2] > 0).sum()),
        }
        for i, row in enumerate(rows)
    ]  # fmt: skip
    poses = np.concatenate([found['keypoints'], found['scores'][..., None]], 2)
    results = [
        {'image_id': int(i), 'keypoints': p.ravel().tolist(), 'score': float(p[:, 2].mean())}
        for i, p in zip(people.image_ids[rows], poses, strict=True)
    ]
    ap, ap50, *_ = measure_coco(annotations, results, 'keypoints')
    return ap, ap50


def measure_boxes(model: nn.Module, people: People) -> dict[str, float]:
    """Mean IoU of detected and of refined boxes, and how well the score separates background."""
    rows = np.flatnonzero(people.kind != KINDS.index('person'))
    rows = rows[:: max(1, len(rows) // MOST_BOXES)]
    if not len(rows):
        return {}
    found = predict(model, people, rows, with_poses=False)
    is_person = np.isfinite(people.person_boxes[rows]).all(1)
    ground_truth = people.person_boxes[rows[is_person]]
    before, after = (
        float(
            np.mean(
                [box_iou(a[None], b[None])[0, 0] for a, b in zip(boxes, ground_truth, strict=True)]
            )
        )
        for boxes in (people.boxes[rows[is_person]], found['boxes'][is_person])
    )
    scores, others = found['box_scores'][is_person], found['box_scores'][~is_person]
    auc = float((scores[:, None] > others).mean()) if len(others) else float('nan')
    return {'iou_detected': before, 'iou_refined': after, 'box_score_auc': auc}


def evaluate_pose(model: nn.Module, people: People, name: str) -> dict[str, float]:
    """Figures of a model on one set of people; their names start with `name`.

    Mean OKS of all and of groups, AP and AP50, the same with the background dimmed by a quarter and
    to nothing (people with masks only), and those of `measure_boxes`.
    """
    model.eval()
    rows = np.flatnonzero(people.kind == KINDS.index('person'))
    found = predict(model, people, rows)
    oks = measure_oks(people, rows, found['keypoints'])
    figures: dict[str, float] = {'people': len(rows), 'oks': float(oks.mean())}
    figures['ap'], figures['ap50'] = measure_ap(people, rows, found)
    for group, inside in group_people(people, rows).items():
        figures[f'oks_{group}'] = float(oks[inside].mean()) if inside.any() else float('nan')
    masked = np.array([people.true_masks[row] is not None for row in rows])
    if masked.any():
        figures['oks_masked'] = float(oks[masked].mean())
        for alpha in (0.25, 1.0):
            dimmed = predict(model, people, rows[masked], alpha)['keypoints']
            value = float(measure_oks(people, rows[masked], dimmed).mean())
            figures[f'oks_masked_{alpha}'] = value
    figures.update(measure_boxes(model, people))
    return {f'{name}_{key}': value for key, value in figures.items()}
