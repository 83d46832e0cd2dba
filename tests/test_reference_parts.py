"""Pose NMS, keypoint selection and mask arithmetic against recorded numbers of the reference."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import box_iou, max_neighbour_iou, xywh_to_xyxy
from pipeline.masks import LogitMasks, Masks, exclusive_masks, exclusive_masks_as_in_bmp
from pipeline.nms import PoseNMSConfig, keep_distinct_poses, oks_matrix
from pipeline.segmenters.prompts import PromptConfig, make_prompts, select_keypoints
from pipeline.structures import Poses
from tests import fixtures


def poses_of(
    boxes: np.ndarray, keypoints: np.ndarray, visibility: np.ndarray | None = None
) -> Poses:
    n, k = keypoints.shape[:2]
    scores = keypoints[..., 2].astype(np.float32)
    visibility = np.ones((n, k), np.float32) if visibility is None else visibility
    masks = Masks.empty(4000, 4000, n)
    ones = np.ones(n, np.float32)
    return Poses(
        boxes, ones, masks, keypoints[..., :2].astype(np.float32), scores, scores, visibility
    )


CONFIGS = {
    'keep_reference': PoseNMSConfig(box_area='as_in_bmp', method='as_in_bmp'),
    'keep_reference_loop_right_area': PoseNMSConfig(method='as_in_bmp'),
    'keep_correct_by_num_valid': PoseNMSConfig(quality='num_confident'),
    'keep_correct_by_mean_score': PoseNMSConfig(quality='keypoint_score'),
}


@pytest.mark.parametrize('expected', CONFIGS)
def test_pose_nms_keeps_what_was_recorded(expected: str) -> None:
    arrays, facts = fixtures.load('pose_nms')
    for case in facts['cases']:
        row = case['id']
        poses = poses_of(arrays[f'{row}_boxes_xyxy'], arrays[f'{row}_keypoints'])
        for split in {0, len(poses) // 2}:
            old, new = np.split(np.arange(len(poses)), [split])
            kept = keep_distinct_poses(poses.select(old), poses.select(new), CONFIGS[expected])
            got = np.concatenate([kept[0], kept[1] + split])
            assert got.tolist() == arrays[f'{row}_{expected}'].tolist(), (case['name'], split)


def test_oks_matrices_equal_the_recorded_ones() -> None:
    arrays, facts = fixtures.load('pose_nms')
    worst = 0.0
    for case in facts['cases']:
        row = case['id']
        boxes, points = arrays[f'{row}_boxes_xyxy'], arrays[f'{row}_keypoints']
        confident = points[..., 2] > 0.5
        sides = boxes[:, 2:] - boxes[:, :2]
        twice = xywh_to_xyxy(xywh_to_xyxy(boxes))  # B1
        as_is = oks_matrix(points[..., :2], confident, boxes[:, 2] * boxes[:, 3], twice)
        right = oks_matrix(points[..., :2], confident, sides[:, 0] * sides[:, 1], boxes)
        right[~confident.any(1)] = np.nan
        np.testing.assert_allclose(
            as_is, arrays[f'{row}_oks_reference'], atol=1e-6, err_msg=case['name']
        )
        np.testing.assert_allclose(
            right, arrays[f'{row}_oks_correct'], atol=1e-6, err_msg=case['name']
        )
        worst = max(worst, np.nanmax(np.abs(as_is - arrays[f'{row}_oks_reference']), initial=0))
    assert worst < 1e-6


METHODS = {
    'k_most_visible': 'k_most_visible',
    'distance_confidence': 'distance+confidence',
    'distance': 'distance',
    'closest': 'closest',
}


@pytest.mark.parametrize('prefix', METHODS)
def test_keypoint_selection_equals_the_recorded_one(prefix: str) -> None:
    arrays, facts = fixtures.load('keypoint_selection')
    method = METHODS[prefix]
    for case in facts['cases']:
        i = case['index']
        count = int(arrays[f'{prefix}_count'][i])
        expected = arrays[f'{prefix}_indices'][i][:count]
        if arrays['num_visible'][i] <= 0:  # the reference asks for one confident keypoint first
            assert count == 0
            continue
        got = select_keypoints(
            arrays['coords'][i], arrays['scores'][i], arrays['visibilities'][i],
            arrays['bbox_xyxy'][i] if arrays['has_bbox'][i] else None,
            method=method, visibility_threshold=facts['visibility_thr'],
        )  # fmt: skip
        # The reference orders equal keys by an unstable sort: only sets and keys are comparable.
        if case['tied_visibility'] or case['tied_score'] or case['coincident']:
            # On coincident points it even repeats one (never wanted); ours uses each point once.
            assert len(got) == len(set(got.tolist())) == len(expected), case['name']
            if method == 'k_most_visible':
                drive = arrays['visibilities'][i]
                assert drive[got].tolist() == pytest.approx(drive[expected].tolist()), case['name']
            elif not case['coincident']:
                assert set(got.tolist()) == set(expected.tolist()), case['name']
        else:
            assert got.tolist() == expected.tolist(), case['name']


def test_prompts_truncate_and_report_the_keypoints() -> None:
    arrays, facts = fixtures.load('keypoint_selection')
    plain = [
        c['index']
        for c in facts['cases']
        if not (c['tied_visibility'] or c['tied_score'] or c['coincident'])
    ]
    rows = [i for i in plain if arrays['has_bbox'][i]]
    points = np.concatenate([arrays['coords'], arrays['scores'][..., None]], axis=2)[rows]
    poses = poses_of(arrays['bbox_xyxy'][rows], points, arrays['visibilities'][rows])
    for prefix, method in METHODS.items():
        for k in (3, 6):
            config = PromptConfig(num_keypoints=k, method=method, min_confident=0.5)
            prompts = make_prompts(poses, poses.select(np.arange(0)), config)
            expected = arrays[f'{prefix}_prompt{k}_count'][rows]
            assert prompts.num_points.tolist() == expected.tolist()
            for i, row in enumerate(rows):
                n = expected[i]
                want = arrays[f'{prefix}_prompt{k}_points'][row][:n]
                np.testing.assert_array_equal(prompts.points[i, :n], want)
                assert (prompts.keypoints[i] >= 0).sum() == n


def test_negative_keypoints_equal_the_recorded_ones() -> None:
    arrays, _ = fixtures.load('keypoint_selection')
    points = np.concatenate([arrays['coords'], arrays['scores'][..., None]], axis=2)
    # Without a box the reference measures from the mean of the negatives (B21): not repeated.
    for i in np.flatnonzero(arrays['has_bbox'][: len(arrays['negatives_points'])]).tolist():
        boxes = np.nan_to_num(arrays['bbox_xyxy'])
        poses = poses_of(boxes, points, arrays['visibilities'])
        others = poses.select(np.array([(i + 1) % 8, (i + 2) % 8]))
        config = PromptConfig(num_negative=2, min_confident=0.5)
        prompts = make_prompts(poses.select(np.array([i])), others, config)
        labels = arrays['negatives_labels'][i]
        assert prompts.labels[0].tolist() == labels.tolist()
        np.testing.assert_array_equal(prompts.points[0], arrays['negatives_points'][i])


def mask_rows(masks: np.ndarray) -> Masks:
    return Masks.from_dense(masks, masks.shape[1:])


def dense(masks: Masks) -> np.ndarray:
    return np.stack([masks.dense(i) for i in range(len(masks))])


def test_exclusive_masks_equal_the_recorded_ones() -> None:
    arrays, facts = fixtures.load('mask_ops')
    for name in facts['exclusive']:
        masks, scores = mask_rows(arrays[f'{name}_masks']), arrays[f'{name}_scores']
        as_is = dense(exclusive_masks_as_in_bmp(masks, scores))
        np.testing.assert_array_equal(as_is, arrays[f'{name}_reference'], err_msg=name)
        logits = [
            np.where(m, max(s, 1e-4), -1)
            for m, s in zip(arrays[f'{name}_masks'], scores, strict=True)
        ]
        rows = LogitMasks.from_crops(*masks.dense(0).shape, [(0, 0, logit) for logit in logits])
        np.testing.assert_array_equal(
            dense(exclusive_masks(rows)), arrays[f'{name}_correct'], err_msg=name
        )


def test_crowding_by_box_iou_equals_the_recorded_one() -> None:
    arrays, _ = fixtures.load('mask_ops')
    for key in [k for k in arrays if k.startswith('crowd') and k.endswith('_boxes_xyxy')]:
        row, boxes = key.removesuffix('_boxes_xyxy'), arrays[key]
        np.testing.assert_allclose(
            max_neighbour_iou(boxes), arrays[f'{row}_max_iou_correct'], atol=1e-6
        )
        misread = xywh_to_xyxy(boxes)  # B11
        np.testing.assert_allclose(
            max_neighbour_iou(misread), arrays[f'{row}_max_iou_reference'], atol=1e-6
        )
        assert box_iou(boxes, boxes).shape == (len(boxes), len(boxes))
