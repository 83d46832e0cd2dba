"""Pose NMS, keypoint selection and mask arithmetic against the recorded numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.boxes import max_neighbour_iou, xywh_to_xyxy
from pipeline.instances import paint_out
from pipeline.masks import LogitMasks, Masks, assign_pixels
from pipeline.nms import PoseNMSConfig, keep_distinct_poses, oks_matrix
from pipeline.segmenters.prompts import PromptConfig, make_prompts, select_keypoints
from pipeline.structures import Poses

from . import as_in_bmp
from .as_in_bmp import PoseNMSAsInBMP
from .rows import EXACT, OKS, Array, Comparison

AS_IN_BMP = PoseNMSAsInBMP()
CORRECT = PoseNMSConfig(quality='num_confident')
NMS = {
    'keep_reference': AS_IN_BMP,
    'keep_reference_loop_right_area': PoseNMSAsInBMP(right_area=True),
    'keep_correct_by_num_valid': CORRECT,
    'keep_correct_by_mean_score': PoseNMSConfig(quality='keypoint_score'),
}
METHODS = {
    'k_most_visible': 'k_most_visible',
    'distance_confidence': 'distance+confidence',
    'distance': 'distance',
    'closest': 'closest',
}


def poses_of(boxes: Array, keypoints: Array, visibility: Array | None = None) -> Poses:
    n, k = keypoints.shape[:2]
    scores = keypoints[..., 2].astype(np.float32)
    visibility = np.ones((n, k), np.float32) if visibility is None else visibility
    masks = Masks.empty(4000, 4000, n)
    ones = np.ones(n, np.float32)
    return Poses(
        boxes, ones, masks, keypoints[..., :2].astype(np.float32), scores, scores, visibility
    )


def pose_nms() -> Comparison:
    c = Comparison('pose_nms')
    for case in c.facts['cases']:
        row = case['id']
        points, boxes = c.arrays[f'{row}_keypoints'], c.arrays[f'{row}_boxes_xyxy']
        for name, config in NMS.items():
            for split in {0, len(boxes) // 2}:  # all new; half of them old
                kept = kept_by(poses_of(boxes, points), split, config)
                c.add(name.replace('_', ' '), kept, c.arrays[f'{row}_{name}'], EXACT)
        confident = points[..., 2] > 0.5
        c.add('confident keypoints', confident.sum(1), c.arrays[f'{row}_num_valid'], EXACT)
        sides = boxes[:, 2:] - boxes[:, :2]
        twice = xywh_to_xyxy(xywh_to_xyxy(boxes))  # B1
        as_is = oks_matrix(points[..., :2], confident, boxes[:, 2] * boxes[:, 3], twice)
        right = oks_matrix(points[..., :2], confident, sides[:, 0] * sides[:, 1], boxes)
        right[~confident.any(1)] = np.nan
        c.add('OKS, area x2 y2 (B1)', as_is, c.arrays[f'{row}_oks_reference'], OKS)
        c.add('OKS, area w h', right, c.arrays[f'{row}_oks_correct'], OKS)
    return c


def kept_by(poses: Poses, split: int, config: PoseNMSConfig) -> Array:
    """Rows that survive, the first ``split`` of them being old."""
    old, new = np.split(np.arange(len(poses)), [split])
    kept = keep_distinct_poses(poses.select(old), poses.select(new), config)
    return np.concatenate([kept[0], kept[1] + split])


def keypoint_selection() -> Comparison:
    c = Comparison('keypoint_selection')
    for prefix in METHODS:
        for case in c.facts['cases']:
            compare_selection(c, case, prefix)
    compare_prompts(c)
    compare_negatives(c)
    compare_boxes(c)
    return c


def compare_selection(c: Comparison, case: dict[str, Any], prefix: str) -> None:
    method, i = METHODS[prefix], case['index']
    count = int(c.arrays[f'{prefix}_count'][i])
    expected = c.arrays[f'{prefix}_indices'][i][:count]
    if c.arrays['num_visible'][i] <= 0:  # the reference asks for one confident keypoint first
        c.count(f'{method} | none', count)
        return
    got = select_keypoints(
        c.arrays['coords'][i], c.arrays['scores'][i], c.arrays['visibilities'][i],
        c.arrays['bbox_xyxy'][i] if c.arrays['has_bbox'][i] else None,
        method=method, visibility_threshold=c.facts['visibility_thr'],
    )  # fmt: skip
    drive = c.arrays['visibilities' if method == 'k_most_visible' else 'scores'][i]
    # The reference orders equal keys by an unstable sort: only sets and keys are comparable.
    if not is_tied(case):
        c.add(f'{method} | which, in order', got, expected, EXACT)
        recorded = c.arrays[f'{prefix}_drive'][i][:count]
        c.add(f'{method} | their rank', drive[got], recorded, EXACT)
        return
    # On coincident points it even repeats one (never wanted); ours uses each point once.
    c.count(f'{method} | number, with ties', abs(len(set(got.tolist())) - count))
    if method == 'k_most_visible':
        c.add(f'{method} | rank, with ties', drive[got], drive[expected], EXACT)
    elif not case['coincident']:
        c.add(f'{method} | which, with ties', np.sort(got), np.sort(expected), EXACT)


def is_tied(case: dict[str, Any]) -> bool:
    return bool(case['tied_visibility'] or case['tied_score'] or case['coincident'])


def compare_prompts(c: Comparison) -> None:
    plain = [case['index'] for case in c.facts['cases'] if not is_tied(case)]
    rows = [i for i in plain if c.arrays['has_bbox'][i]]
    points = np.concatenate([c.arrays['coords'], c.arrays['scores'][..., None]], axis=2)[rows]
    poses = poses_of(c.arrays['bbox_xyxy'][rows], points, c.arrays['visibilities'][rows])
    for prefix, method in METHODS.items():
        for k in (3, 6):
            config = PromptConfig(num_keypoints=k, method=method, min_confident=0.5)
            prompts = make_prompts(poses, poses.select(np.arange(0)), config)
            expected = c.arrays[f'{prefix}_prompt{k}_count'][rows]
            c.add(f'{method}: clicks | {k}, number', prompts.num_points, expected, EXACT)
            named = (prompts.keypoints >= 0).sum(1)
            c.add(f'{method}: clicks | {k}, keypoints named', named, expected, EXACT)
            for i, row in enumerate(rows):
                n = expected[i]
                want = c.arrays[f'{prefix}_prompt{k}_points'][row][:n]
                c.add(f'{method}: clicks | {k}, places', prompts.points[i, :n], want, EXACT)


def compare_negatives(c: Comparison) -> None:
    points = np.concatenate([c.arrays['coords'], c.arrays['scores'][..., None]], axis=2)
    poses = poses_of(np.nan_to_num(c.arrays['bbox_xyxy']), points, c.arrays['visibilities'])
    recorded = c.arrays['negatives_points']
    # Without a box the reference measures from the mean of the negatives (B21): not repeated.
    for i in np.flatnonzero(c.arrays['has_bbox'][: len(recorded)]).tolist():
        others = poses.select(np.array([(i + 1) % 8, (i + 2) % 8]))
        config = PromptConfig(num_negative=2, min_confident=0.5)
        prompts = make_prompts(poses.select(np.array([i])), others, config)
        c.add('negative clicks: labels', prompts.labels[0], c.arrays['negatives_labels'][i], EXACT)
        c.add('negative clicks', prompts.points[0], recorded[i], EXACT)


def compare_boxes(c: Comparison) -> None:
    boxes = c.arrays['box_prompt_input']
    points = np.concatenate([c.arrays['coords'], c.arrays['scores'][..., None]], axis=2)
    poses = poses_of(boxes, points[: len(boxes)], c.arrays['visibilities'][: len(boxes)])
    prompts = make_prompts(poses, poses.select(np.arange(0)), PromptConfig(use_box=True))
    c.add('box prompts', prompts.boxes, c.arrays['box_prompt_plain'], EXACT)


def mask_ops() -> Comparison:
    c = Comparison('mask_ops')
    for name in c.facts['exclusive']:
        recorded, scores = c.arrays[f'{name}_masks'], c.arrays[f'{name}_scores']
        masks = Masks.from_dense(recorded, recorded.shape[1:])
        as_is = dense(as_in_bmp.assign_pixels(masks, scores))
        c.add('one mask per px (B15)', as_is, c.arrays[f'{name}_reference'], EXACT)
        logits = [np.where(m, max(s, 1e-4), -1) for m, s in zip(recorded, scores, strict=True)]
        rows = LogitMasks.from_crops(*recorded.shape[1:], [(0, 0, logit) for logit in logits])
        ours = dense(assign_pixels(rows))
        c.add('one mask per px, ours', ours, c.arrays[f'{name}_correct'], EXACT)
    for key in [k for k in c.arrays if k.startswith('crowd') and k.endswith('_boxes_xyxy')]:
        row, boxes = key.removesuffix('_boxes_xyxy'), c.arrays[key]
        for kind, corners in (('correct', boxes), ('reference', xywh_to_xyxy(boxes))):  # B11
            iou, what = max_neighbour_iou(corners), f'crowding: box IoU, {kind}'
            c.add(what, iou, c.arrays[f'{row}_max_iou_{kind}'], OKS)
            for limit in (0.5, False):
                crowd = c.arrays[f'{row}_is_crowd_thr{limit}_{kind}']
                c.add(f'crowding, {kind}', iou > limit, crowd, EXACT)
    compare_painting(c)
    compare_rows(c)
    return c


def dense(masks: Masks) -> Array:
    return np.stack([masks.dense(i) for i in range(len(masks))])


def compare_painting(c: Comparison) -> None:
    image = c.arrays['maskout_image_bgr']
    unchanged = paint_out(image, Masks.empty(*image.shape[:2]))
    c.add('painting out', unchanged, c.arrays['maskout_no_refined_result'], EXACT)
    for key in [k for k in c.arrays if k.startswith('maskout') and k.endswith('_masks')]:
        masks = Masks.from_dense(c.arrays[key].astype(bool), image.shape[:2])
        recorded = c.arrays[key.replace('_masks', '_result')]
        c.add('painting out', paint_out(image, masks), recorded, EXACT)


COLUMNS = {
    'bboxes': 'boxes', 'bbox_scores': 'box_scores', 'keypoint_scores': 'keypoint_scores',
    'keypoint_prob': 'presence', 'keypoint_vis': 'visibility',
}  # fmt: skip


def compare_rows(c: Comparison) -> None:
    """Choosing and joining people; our rows keep the detector's masks (B18)."""
    index = np.array(c.facts['filter_indices'])
    chosen = rows_of(c, 'fin', 'masks').select(index)
    same_columns(c, 'choosing people', chosen, 'fout')
    kept = np.stack([chosen.detector_masks.dense(i) for i in range(len(index))])
    c.add('choosing people', kept, c.arrays['fin_masks'][index], EXACT)
    joined = rows_of(c, 'cin1', 'refined_masks').concat(rows_of(c, 'cin2', 'refined_masks'))
    same_columns(c, 'joining people', joined, 'cout')
    masks = np.stack([joined.detector_masks.dense(i) for i in range(len(joined))])
    c.add('joining people', masks, c.arrays['cout_refined_masks'], EXACT)


def rows_of(c: Comparison, prefix: str, masks: str) -> Poses:
    columns = {k: c.arrays[f'{prefix}_{k}'] for k in (*COLUMNS, 'keypoints', masks)}
    n = len(columns['bboxes'])
    return Poses(
        ordered(columns['bboxes']), columns['bbox_scores'],
        Masks.from_dense(columns[masks].astype(bool), columns[masks].shape[1:]),
        columns['keypoints'][..., :2], columns['keypoint_scores'],
        columns['keypoint_prob'].reshape(n, -1), columns['keypoint_vis'].reshape(n, -1),
    )  # fmt: skip


def ordered(boxes: Array) -> Array:
    """Boxes (N, 4) whose second corner lies below and right: the recorded ones are random."""
    corners = np.sort(boxes.reshape(-1, 2, 2), axis=1)
    return corners.reshape(-1, 4)


def same_columns(c: Comparison, what: str, ours: Poses, prefix: str) -> None:
    for name, attribute in COLUMNS.items():
        recorded = c.arrays[f'{prefix}_{name}']
        column = getattr(ours, attribute)
        recorded = ordered(recorded) if name == 'bboxes' else recorded
        c.add(what, column.reshape(recorded.shape), recorded, EXACT)
    c.add(what, ours.keypoints, c.arrays[f'{prefix}_keypoints'][..., :2], EXACT)
