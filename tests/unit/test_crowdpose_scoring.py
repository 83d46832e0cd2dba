"""CrowdPose: 14 keypoints, sizes from boxes, levels of crowding; compared with xtcocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xtcocotools.coco import COCO
from xtcocotools.cocoeval import COCOeval

from pipeline.evaluation.coco import score
from pipeline.keypoint_sets import KEYPOINT_SETS, to_convention
from tests.synthetic_results import make_results
from tests.toy_people import write

Row = dict[str, Any]
CROWDPOSE = KEYPOINT_SETS['crowdpose14']


def make_crowdpose() -> tuple[dict[str, Any], list[Row]]:
    """People of CrowdPose's format, and results with its 14 keypoints."""
    annotations, results = make_results(40, seed=3)
    for row in annotations['annotations'] + results:
        row['keypoints'] = row['keypoints'][: 3 * CROWDPOSE.num]
        row.pop('segmentation')
        row.pop('area')
    for annotation in annotations['annotations']:
        # CrowdPose counts visible keypoints only.
        annotation['num_keypoints'] = annotation['keypoints'][2::3].count(2.0)
    for number, image in enumerate(annotations['images']):
        image['crowdIndex'] = number / 40
    annotations['categories'][0]['keypoints'] = list(CROWDPOSE.names)
    return annotations, results


@pytest.fixture
def sample(samples: Path) -> tuple[dict[str, Any], list[Row]]:
    """A sample of CrowdPose, and results with its keypoints moved a little."""
    path = samples / 'test_samples/crowdpose/test_crowdpose.json'
    annotations = json.loads(path.read_text())
    rng = np.random.default_rng(0)
    results = []
    for person in annotations['annotations']:
        points = np.array(person['keypoints'], float).reshape(-1, 3)
        points += rng.normal(0, 0.03 * person['bbox'][2], points.shape)
        points[:, 2] = 1
        row = {key: person[key] for key in ('image_id', 'category_id', 'bbox')}
        row |= {'keypoints': points.ravel().tolist(), 'score': float(rng.random())}
        results.append(row)
    return annotations, results


def stats_of_xtcocotools(annotations: Row, results: list[Row], path: Path) -> list[float]:
    ground_truth = COCO(str(write(path, annotations)))
    rows = [{k: v for k, v in r.items() if k != 'bbox'} for r in results]
    found = ground_truth.loadRes(str(write(path.with_name('results.json'), rows)))
    run = COCOeval(ground_truth, found, 'keypoints_crowd', CROWDPOSE.sigmas, use_area=False)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return [*run.stats.tolist()]


def as_crowdpose(rows: list[Row], points: np.ndarray) -> list[Row]:
    """Results with the keypoints (N, K, 3) converted to CrowdPose's 14."""
    xy, scores = to_convention(points[..., :2], points[..., 2], 'crowdpose14')
    converted = np.concatenate([xy, scores[..., None]], 2).reshape(len(rows), -1).tolist()
    return [r | {'keypoints': keypoints} for r, keypoints in zip(rows, converted, strict=True)]


def test_metrics_equal_xtcocotools(sample: Any, tmp_path: Path) -> None:
    compare_with_xtcocotools(*sample, tmp_path)
    assert min(compare_with_xtcocotools(*make_crowdpose(), tmp_path)) > 0


def compare_with_xtcocotools(annotations: Row, results: list[Row], tmp_path: Path) -> list[float]:
    """Compare, and return AP of the levels of crowding, -1 where there is none."""
    expected = stats_of_xtcocotools(annotations, results, tmp_path / 'truth.json')
    metrics = score(results, annotations, ['keypoints'])
    task, crowd = metrics.tasks['keypoints'], metrics.crowd
    assert crowd is not None and task.ap is not None and 0 < task.ap < 1
    values = [task.ap, task.ap50, task.ap75, task.ar, task.ar50, task.ar75]
    assert values == pytest.approx(expected[:6], abs=1e-9)
    levels = [-1.0 if v is None else v for v in (crowd.easy, crowd.medium, crowd.hard)]
    assert levels == pytest.approx(expected[6:], abs=5.1e-5)  # rounded to 4 digits
    return levels


def test_crowd_levels_include_their_lower_bounds() -> None:
    annotations, results = make_crowdpose()
    for index, image in zip((0.1, 0.8, 0.0999, 0.7999), annotations['images'], strict=False):
        image['crowdIndex'] = index
    for image in annotations['images'][4:]:
        image['crowdIndex'] = 0.5
    results = [r for r in results if r['image_id'] in (1, 2)]
    crowd = score(results, annotations, ['keypoints'], crowd_bounds=(0.1, 0.8)).crowd
    assert crowd is not None
    # Only images 1 and 2 have results: one lies on the lower bound of medium, one on that of hard.
    assert crowd.easy == 0 and (crowd.medium or 0) > 0 and (crowd.hard or 0) > 0


def test_coco_keypoints_are_converted() -> None:
    annotations, _ = make_crowdpose()
    _, results = make_results(40, seed=3)
    points = np.array([r['keypoints'] for r in results], np.float32).reshape(-1, 17, 3)
    metrics = score(results, annotations, ['keypoints'])
    converted = as_crowdpose(results, points)
    assert metrics.tasks == score(converted, annotations, ['keypoints']).tasks


def test_extra_keypoints_are_used(sample: Any) -> None:
    """Models with 23 keypoints predict neck and top of the head."""
    annotations, plain = sample
    points = np.random.default_rng(1).uniform(0, 300, (len(plain), 23, 3)).astype(np.float32)
    results = [
        row | {'keypoints': p[:51].tolist(), 'extra_keypoints': p[51:].tolist()}
        for row, p in zip(plain, points.reshape(len(plain), -1), strict=True)
    ]
    xy, _ = to_convention(points[..., :2], points[..., 2], 'crowdpose14')
    short, _ = to_convention(points[:, :17, :2], points[:, :17, 2], 'crowdpose14')
    assert (xy[:, 12:] != short[:, 12:]).any() and (xy[:, :12] == short[:, :12]).all()
    rows = as_crowdpose(plain, points)
    assert score(results, annotations, ['keypoints']) == score(rows, annotations, ['keypoints'])


def test_levels_need_a_crowd_index() -> None:
    annotations, results = make_crowdpose()
    del annotations['images'][0]['crowdIndex']
    metrics = score(results, annotations, ['keypoints'])
    assert metrics.crowd is None and any('crowdIndex' in remark for remark in metrics.remarks)
