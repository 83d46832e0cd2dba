"""Metrics of MMPose and MMDetection evaluators, compared with the original metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator

import pipeline.evaluation.mmpose_metric  # noqa: F401 - registers it
from pipeline.boxes import xywh_to_xyxy
from pipeline.evaluation.coco import score
from pipeline.evaluation.mmdet_metric import BmpInstanceMetric
from pipeline.keypoint_sets import KEYPOINT_SETS
from pipeline.keypoints import COCO_SIGMAS, NUM_COCO
from pipeline.masks import Masks
from pipeline.openmmlab import scope_of
from tests.synthetic_results import HEIGHT, WIDTH, make_results
from tests.toy_people import write

Row = dict[str, Any]
IMAGES = 25


def make_files(folder: Path) -> tuple[Path, list[Row], Row]:
    annotations, results = make_results(IMAGES, seed=5)
    return write(folder / 'truth.json', annotations), results, annotations


def pose_samples(results: list[Row], points: int) -> list[Row]:
    """Samples of a top-down MMPose model with ``points`` keypoints, one per person."""
    rng = np.random.default_rng(0)
    samples = []
    for number, row in enumerate(results):
        keypoints = np.array(row['keypoints'], np.float32).reshape(1, NUM_COCO, 3)[..., :2]
        further = rng.uniform(0, WIDTH, (1, points - NUM_COCO, 2)).astype(np.float32)
        box = xywh_to_xyxy([row['bbox']])
        found = {
            'keypoints': np.concatenate([keypoints, further], 1),
            'keypoint_scores': rng.random((1, points), np.float32),
            'bboxes': box,
            'bbox_scores': np.array([row['score']], np.float32),
        }
        samples.append({
            'id': number, 'img_id': row['image_id'], 'category_id': 1, 'pred_instances': found,
            'gt_instances': {'bbox_scales': (box[:, 2:] - box[:, :2]) * 1.25},
        })  # fmt: skip
    return samples


def evaluate(library: Any, metric: Row, meta: Row, samples: list[Row]) -> dict[str, float]:
    with scope_of(library):
        evaluator = Evaluator(metric)
        evaluator.dataset_meta = meta
        evaluator.process(samples)
        figures: dict[str, float] = evaluator.evaluate(size=len(samples))
    return figures


COCO_META = {'num_keypoints': NUM_COCO, 'sigmas': COCO_SIGMAS, 'dataset_name': 'coco'}


@pytest.mark.parametrize('points', [17, 21, 23])
def test_mmpose(points: int, tmp_path: Path) -> None:
    file, results, _ = make_files(tmp_path)
    samples = pose_samples(results, points)
    candidate = evaluate(
        'mmpose',
        {'type': 'BmpCocoMetric', 'ann_file': str(file)},
        COCO_META | {'num_keypoints': points, 'sigmas': np.full(points, 0.05)},
        samples,
    )
    for sample in samples:  # the original metric supports 17 keypoints only
        found = sample['pred_instances']
        found['keypoints'] = found['keypoints'][:, :NUM_COCO]
        found['keypoint_scores'] = found['keypoint_scores'][:, :NUM_COCO]
    reference = evaluate(
        'mmpose', {'type': 'CocoMetric', 'ann_file': str(file)}, COCO_META, samples
    )
    assert 0.05 < candidate['coco/AP'] < 0.95
    assert candidate == pytest.approx(reference, abs=1e-9)


def test_mmpose_on_crowdpose(tmp_path: Path) -> None:
    """A COCO model on CrowdPose; MMPose cannot compare 17 keypoints with 14."""
    _, results, annotations = make_files(tmp_path)
    crowdpose = KEYPOINT_SETS['crowdpose14']
    for number, image in enumerate(annotations['images']):
        image['crowdIndex'] = number / IMAGES
    for person in annotations['annotations']:
        person['keypoints'] = person['keypoints'][15:51] + person['keypoints'][:6]
        del person['segmentation'], person['area']
    annotations['categories'][0]['keypoints'] = list(crowdpose.names)
    metric = {
        'type': 'BmpCocoMetric',
        'ann_file': str(write(tmp_path / 'crowdpose.json', annotations)),
        'iou_type': 'keypoints_crowd',
        'use_area': False,
        'score_mode': 'bbox',
        'nms_mode': 'none',
    }
    meta = {'num_keypoints': crowdpose.num, 'sigmas': crowdpose.sigmas}
    samples = pose_samples(results, 17)
    figures = evaluate('mmpose', metric, meta, samples)
    for row, sample in zip(results, samples, strict=True):
        row['keypoints'][2::3] = sample['pred_instances']['keypoint_scores'][0].tolist()
    expected = score(results, annotations, ['keypoints'])
    assert expected.crowd is not None and (expected.crowd.hard or 0) > 0
    assert figures['coco/AP'] == pytest.approx(expected.tasks['keypoints'].ap, abs=1e-6)
    assert figures['coco/AP(H)'] == pytest.approx(expected.crowd.hard, abs=1e-6)


def detection_samples(results: list[Row], classes: tuple[str, ...]) -> list[Row]:
    """Samples of an MMDetection model with people and dogs, one per image."""
    rng = np.random.default_rng(0)
    samples = []
    for image_id in range(1, IMAGES + 1):
        rows = [r for r in results if r['image_id'] == image_id]
        masks = Masks.from_rle([r['segmentation'] for r in rows], (HEIGHT, WIDTH))
        dense = np.stack([masks.dense(i) for i in range(len(rows))])
        person, dog = classes.index('person'), (classes.index('person') + 1) % len(classes)
        labels = np.where(rng.random(len(rows)) < 0.8, person, dog)
        found = {
            'bboxes': torch.tensor(xywh_to_xyxy([r['bbox'] for r in rows])),
            'scores': torch.tensor([r['score'] for r in rows]),
            'labels': torch.tensor(labels),
            'masks': torch.tensor(dense),
        }
        shape = (HEIGHT, WIDTH)
        samples.append({'img_id': image_id, 'ori_shape': shape, 'pred_instances': found})
    return samples


@pytest.mark.parametrize('classes', [('person',), ('dog', 'person', 'cat')], ids=len)
def test_mmdet(classes: tuple[str, ...], tmp_path: Path) -> None:
    file, results, _ = make_files(tmp_path)
    samples, meta = detection_samples(results, classes), {'classes': classes}
    tasks = ['bbox', 'segm']
    candidate = evaluate(
        'mmdet', {'type': 'BmpInstanceMetric', 'ann_file': str(file)}, meta, samples
    )
    if len(classes) > 1:  # the original metric averages over classes: select the people
        for sample in samples:
            found = sample['pred_instances']
            people = found['labels'] == classes.index('person')
            sample['pred_instances'] = {k: v[people] for k, v in found.items()}
            sample['pred_instances']['labels'] *= 0
        meta = {'classes': ('person',)}
    metric = {'type': 'CocoMetric', 'ann_file': str(file), 'metric': tasks}
    reference = evaluate('mmdet', metric, meta, samples)
    assert 0.05 < candidate['coco/segm_mAP'] < 0.95
    assert {name: candidate[name] for name in reference} == pytest.approx(
        reference, abs=5.1e-4
    )  # 3 digits


@pytest.mark.parametrize('metric', ['keypoints', [], ['bbox', 'x']])
def test_mmdet_rejects_other_tasks(metric: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='metric must be bbox, segm or both'):
        BmpInstanceMetric(str(write(tmp_path / 'a.json', {})), metric)


def test_results_without_people_score_zero(tmp_path: Path) -> None:
    file, _, _ = make_files(tmp_path)
    metric = BmpInstanceMetric(str(file), 'bbox')
    metric.dataset_meta = {'classes': ('person',)}
    none = {'bboxes': torch.zeros(0, 4), 'scores': torch.zeros(0), 'labels': torch.zeros(0)}
    metric.process({}, [{'img_id': 1, 'pred_instances': none}])
    assert metric.evaluate(size=1)['coco/bbox_mAP'] == 0
    assert json.loads(file.read_text())['annotations']
