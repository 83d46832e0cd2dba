from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.cli import score as score_tool
from pipeline.datasets.coco_ground_truth import load_ground_truth
from pipeline.evaluation.coco import score, score_files
from pipeline.evaluation.metrics import TaskMetrics
from pipeline.io.coco import TASKS, Task, select_task
from pipeline.masks import Masks
from tests.commands import exit_code
from tests.synthetic_results import make_results
from tests.toy_people import as_results, toy_annotations, toy_results, write

Results = list[dict[str, Any]]


SOURCES = {
    'dev': 'dev/person_keypoints.json',
    'crowd_masks': 'dev/crowd_masks.json',
    'ochuman': 'test_samples/ochuman/test_ochuman.json',
}


def annotations_of(samples: Path, source: str) -> dict[str, Any]:
    """Annotations with ids from 1; pycocotools reads id 0 as none."""
    content: dict[str, Any] = json.loads((samples / SOURCES[source]).read_text())
    for number, annotation in enumerate(content['annotations'], start=1):
        annotation['id'] = number
    return content


def results_of(samples: Path, source: str) -> Results:
    return as_results(load_ground_truth(samples / SOURCES[source]))


def labelled(results: Results) -> Results:
    """Results of people with labelled keypoints."""
    return [r for r in results if max(r['keypoint_scores']) > 0]


def moved(result: dict[str, Any], by: float) -> dict[str, Any]:
    """Box, mask and keypoints shifted to the right by ``by`` px (the mask by whole ones)."""
    x, *rest = result['bbox']
    points = np.array(result['keypoints']).reshape(17, 3) + np.array([by, 0, 0])
    mask = np.roll(coco_mask.decode(result['segmentation']), round(by), axis=1)
    rle = Masks.from_dense([mask], mask.shape).to_rle()[0]
    changes = {'bbox': [x + by, *rest], 'keypoints': points.ravel().tolist(), 'segmentation': rle}
    return result | changes


def shifted(results: Results) -> Results:
    rng = np.random.default_rng(0)
    scales = rng.choice([0.0, 0.03, 0.1, 0.3], len(results))
    return [
        moved(r, float(s) * r['bbox'][2]) | {'score': float(rng.uniform())}
        for r, s in zip(results, scales, strict=True)
    ]


def duplicated(results: Results) -> Results:
    return [r | {'score': 0.5} for r in results] + shifted(results)


def tied(results: Results) -> Results:
    return [r | {'score': 0.5} for r in reversed(duplicated(results))]


Noise = Callable[[Results], Results]
NOISE: list[Noise] = [shifted, lambda results: results[::2], duplicated, tied]


SCORED = [('dev', t) for t in TASKS] + [('ochuman', t) for t in TASKS]
SCORED += [('crowd_masks', 'bbox'), ('crowd_masks', 'segm')]


@pytest.mark.parametrize(('source', 'task'), SCORED)
@pytest.mark.parametrize('noise', NOISE)
def test_noisy_results_score_as_in_pycocotools(
    tmp_path: Path, samples: Path, source: str, task: Task, noise: Noise
) -> None:
    compare_with_pycocotools(
        annotations_of(samples, source), noise(results_of(samples, source)), task, tmp_path
    )


@pytest.mark.parametrize('task', TASKS)
def test_synthetic_results_score_as_in_pycocotools(tmp_path: Path, task: Task) -> None:
    assert 0.1 < compare_with_pycocotools(*make_results(num_images=60), task, tmp_path) < 0.9


def compare_with_pycocotools(
    annotations: dict[str, Any], results: Results, task: Task, tmp_path: Path
) -> float:
    """Compare all metrics of a task; returns AP."""
    candidate = score(results, annotations, [task]).tasks[task]
    reference = metrics_of_pycocotools(write(tmp_path / 'truth.json', annotations), results, task)
    assert dataclasses.astuple(candidate) == pytest.approx(dataclasses.astuple(reference), abs=1e-9)
    assert candidate.ap is not None and candidate.ap < 1
    return candidate.ap


def metrics_of_pycocotools(path: Path, results: Results, task: Task) -> TaskMetrics:
    ground_truth = COCO(path)
    run = COCOeval(ground_truth, ground_truth.loadRes(select_task(results, task)), task)
    run.evaluate()
    run.accumulate()
    run.summarize()
    stats = run.stats.tolist()
    if task == 'keypoints':
        rows = [0, 1, 2, None, 3, 4, 5, 6, 7, None, 8, 9]
    else:
        recall = run.eval['recall'][:, 0, 0, -1]  # by overlap 0.50, 0.55, ...
        stats += [recall[0], recall[5]]
        rows = [0, 1, 2, 3, 4, 5, 8, 12, 13, 9, 10, 11]
    return TaskMetrics(*(None if r is None or stats[r] < 0 else float(stats[r]) for r in rows))


def test_inputs_are_not_modified(tmp_path: Path) -> None:
    results, annotations = toy_results(tmp_path), toy_annotations()
    before = json.dumps([results, annotations])
    score(results, annotations)
    assert json.dumps([results, annotations]) == before


def test_images_without_results_count(tmp_path: Path) -> None:
    results = [r for r in toy_results(tmp_path) if r['image_id'] == 7]
    metrics = score(results, toy_annotations(), ['bbox'])
    assert metrics.tasks['bbox'].ar == pytest.approx(2 / 5)
    assert metrics.image_ids == (3, 7, 9)
    assert metrics.ids_without_results == (3, 9)
    assert (metrics.num_people, metrics.num_results) == (5, 2)


def test_metrics_without_people_are_undefined(tmp_path: Path) -> None:
    annotations = toy_annotations() | {'annotations': []}
    metrics = score(toy_results(tmp_path), annotations)
    for task in TASKS:
        assert set(dataclasses.astuple(metrics.tasks[task])) == {None}
    assert json.loads(metrics.to_json())['metrics']['bbox']['ap'] is None


def test_text_image_ids_and_annotation_id_zero(tmp_path: Path) -> None:
    results, annotations = toy_results(tmp_path), toy_annotations()
    for row in results + annotations['annotations']:
        row['image_id'] = f'{row["image_id"]}.jpg'
    for image in annotations['images']:
        image['id'] = image['file_name']
    assert score(results, annotations, ['bbox']).tasks['bbox'].ap == pytest.approx(1)


@pytest.mark.parametrize(('image_id', 'named'), [(99, '99'), ('7', "'7'")])
def test_unknown_image_ids_are_named(tmp_path: Path, image_id: Any, named: str) -> None:
    results = toy_results(tmp_path)
    results[0]['image_id'] = image_id
    message = rf'not in the annotations: {named};.*keep coco_images\.json beside the results'
    with pytest.raises(ValueError, match=message):
        score(results, toy_annotations())


WRONG = [
    ('no score', {'score': ...}, 'has no score'),
    ('NaN score', {'score': float('nan')}, 'must be a finite number, got nan'),
    ('short box', {'bbox': [1, 2, 3]}, 'bbox must hold 4'),
    ('inf box', {'bbox': [1, 2, 3, float('inf')]}, 'not finite'),
    ('keypoints', {'keypoints': [1.0] * 50}, 'keypoints must hold 51'),
    ('text score', {'score': '0.5'}, "must be a finite number, got '0.5'"),
    ('category', {'category_id': 0}, r'category_id 0 is none of \[1\]'),
    ('polygons', {'segmentation': [[0, 0, 5, 0, 5, 5]]}, 'must be compressed RLE'),
    ('mask size', {'segmentation': {'size': [5, 5], 'counts': 'i0'}}, r'RLE of size \[5, 5\]'),
]


@pytest.mark.parametrize(('changes', 'reason'), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_wrong_results_are_named(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    results = toy_results(tmp_path)
    results[1] = {k: v for k, v in (results[1] | changes).items() if v is not ...}
    with pytest.raises(ValueError, match=rf'result 1 \(image 7\).*{reason}'):
        score(results, toy_annotations())


def test_null_value_is_not_a_result(tmp_path: Path) -> None:
    results = toy_results(tmp_path)
    expected = score([results[0], *results[2:]], toy_annotations(), ['keypoints']).tasks
    expected |= score(results, toy_annotations(), ['bbox']).tasks
    results[1] |= {'keypoints': None}
    assert score(results, toy_annotations(), ['bbox', 'keypoints']).tasks == expected


def test_available_tasks_are_scored(tmp_path: Path) -> None:
    results, annotations = toy_results(tmp_path), toy_annotations()
    boxes = [{k: r[k] for k in ('image_id', 'category_id', 'score', 'bbox')} for r in results]
    assert set(score(boxes, annotations, None).tasks) == {'bbox'}
    for annotation in annotations['annotations']:
        del annotation['keypoints'], annotation['num_keypoints']
    metrics = score(results, annotations, None)
    assert set(metrics.tasks) == {'bbox', 'segm'}
    assert 'no keypoints' in metrics.skipped['keypoints']
    poses = [{k: r[k] for k in ('image_id', 'category_id', 'score', 'keypoints')} for r in results]
    with pytest.raises(ValueError, match='nothing to score: the results have keypoints, the ann'):
        score(poses, annotations, None)


def test_unknown_tasks_are_named() -> None:
    with pytest.raises(ValueError, match=r'bbox, segm, keypoints; got .*boxes'):
        score([], toy_annotations(), ['boxes'])  # type: ignore[list-item]


def test_files_are_named_in_errors(tmp_path: Path) -> None:
    broken = tmp_path / 'broken.json'
    broken.write_text('[')
    ground_truth = write(tmp_path / 'truth.json', toy_annotations())
    with pytest.raises(ValueError, match=r'broken\.json: not a JSON file'):
        score_files(broken, ground_truth)
    with pytest.raises(ValueError, match=r'truth\.json against .*results must be a list'):
        score_files(ground_truth, ground_truth)


def test_command_prints_a_table_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = write(tmp_path / 'results.json', labelled(toy_results(tmp_path)))
    ground_truth = write(tmp_path / 'truth.json', toy_annotations())
    out = tmp_path / 'new' / 'scores.json'
    options = ['--tasks', 'segm', 'keypoints', '--json', out, '--json-ids']
    assert exit_code(score_tool.main, results, ground_truth, *options) == 0
    printed = capsys.readouterr().out
    assert 'keypoints' in printed and 'bbox' not in printed and '100.0' in printed
    report = json.loads(out.read_text())
    assert set(report['metrics']) == {'segm', 'keypoints'}
    assert report['metrics']['keypoints']['ap'] == pytest.approx(1)
    assert report['image_ids'] == [3, 7, 9]
    assert report['image_ids_without_results'] == [9]


def test_command_reports_invalid_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ground_truth = write(tmp_path / 'truth.json', toy_annotations())
    assert exit_code(score_tool.main, tmp_path / 'absent.json', ground_truth) == 2
    assert 'absent.json' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        score_tool.main([str(ground_truth), str(ground_truth), '--json-ids'])
    assert '--json OUT' in capsys.readouterr().err


# Results whose image ids are not those of the annotations


@pytest.mark.parametrize('prefix', ['', 'train/'])
def test_results_of_a_folder_are_joined_by_name(prefix: str, tmp_path: Path) -> None:
    """The run numbers its images from 1, the annotations have other ids in another order."""
    annotations, results = toy_annotations(), toy_results(tmp_path)
    for image in annotations['images']:
        image['file_name'] = f'{prefix}{image["file_name"]}'
    old = [image['id'] for image in annotations['images']]
    new = dict(zip(old, [old[-1], *old[:-1]], strict=True))
    listed = [
        {'id': new[image['id']], 'file_name': Path(image['file_name']).name}
        for image in annotations['images']
    ]
    rows = [row | {'image_id': new[row['image_id']]} for row in results]
    expected = score(results, annotations)
    truth = write(tmp_path / 'truth.json', annotations)
    file = write(tmp_path / 'coco_results.json', rows)
    images = write(tmp_path / 'coco_images.json', {'images': listed})
    metrics = score_files(file, truth)
    assert metrics.tasks == expected.tasks
    assert 'joined by the names' in metrics.remarks[0]
    write(images, {'images': listed[:-1]})
    write(file, rows := [r for r in rows if r['image_id'] != listed[-1]['id']])
    remark = f'1 of {len(old)} annotated images are not in the run and count as without results'
    assert remark in score_files(file, truth).remarks
    write(images, {'images': [r | {'file_name': f'no{r["id"]}.jpg'} for r in listed]})
    with pytest.raises(ValueError, match=r"is in the annotations, e\.g\. 'no\d\.jpg'; use the"):
        score_files(file, truth)
