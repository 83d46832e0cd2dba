"""Models and transforms of this project inside stock MMPose and MMDetection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config
from mmengine.runner import Runner
from mmpose.apis import MMPoseInferencer, inference_topdown, init_model
from mmpose.registry import METRICS

from pipeline.boxes import xyxy_to_xywh
from pipeline.cli import make_synthetic_crowd
from pipeline.config import CONFIG_FOLDER
from pipeline.detectors.mmdet_detector import build_mmdet_detector
from pipeline.evaluation.coco import score
from pipeline.masks import Masks
from pipeline.poses.inference import inference_topdown_with_masks
from pipeline.poses.load_person_mask import LoadPersonMask
from pipeline.poses.mmpose_estimator import build_mmpose_estimator
from pipeline.rle import decode_segmentation
from pipeline.scores import pose_scores
from pipeline.structures import Detections
from pipeline.weights.manifest import FOLDER
from tests.toy_people import toy_annotations, write

pytestmark = pytest.mark.usefixtures('mmpose_scope')

POSE_CONFIG = str(CONFIG_FOLDER / 'compact' / 'vitpose_compact.py')
RELEASED_CONFIG = str(CONFIG_FOLDER / 'models' / 'pmpose_b.py')
POSE_WEIGHTS = FOLDER / 'vitpose_compact.pth'
DET_CONFIG = str(CONFIG_FOLDER / 'compact' / 'rtmdet-ins_compact.py')
DET_WEIGHTS = FOLDER / 'rtmdet-ins_compact.pth'
BOXES = np.array([[60, 40, 200, 330], [210.5, 60, 330, 300]], np.float32)


@pytest.fixture(scope='module')
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small drawn crowd as COCO data set."""
    folder = tmp_path_factory.mktemp('crowd')
    arguments = ['--num-images', '2', '--people', '2', '4', '--size', '400', '360']
    assert make_synthetic_crowd.main([str(folder), *arguments]) == 0
    return folder


@pytest.fixture(scope='module')
def image_path(crowd: Path) -> str:
    return str(crowd / '000001.jpg')


@pytest.fixture(scope='module')
def model() -> Any:
    return init_model(POSE_CONFIG, str(POSE_WEIGHTS), device='cpu')


def half_masks(shape: tuple[int, int] = (360, 400)) -> np.ndarray:
    """The left half of each of `BOXES`."""
    masks = np.zeros((len(BOXES), *shape), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, BOXES.astype(int), strict=True):
        mask[y1:y2, x1 : (x1 + x2) // 2] = True
    return masks


def points_of(samples: list[Any]) -> np.ndarray:
    return np.concatenate([s.pred_instances.keypoints for s in samples])


def test_without_masks_it_equals_the_stock_function(model: Any, image_path: str) -> None:
    stock = inference_topdown(model, image_path, BOXES)
    masked = inference_topdown_with_masks(model, image_path, BOXES, [None, None])
    assert points_of(stock).shape == (2, 17, 2)
    np.testing.assert_array_equal(points_of(masked), points_of(stock))
    assert [s.img_path for s in masked] == [s.img_path for s in stock] == [image_path] * 2


def test_masks_change_the_poses_of_people_with_a_mask_only(model: Any, image_path: str) -> None:
    plain = points_of(inference_topdown(model, image_path, BOXES))
    mixed = inference_topdown_with_masks(model, image_path, BOXES, [half_masks()[0], None])
    assert np.abs(points_of(mixed)[0] - plain[0]).max() > 0.1
    np.testing.assert_array_equal(points_of(mixed)[1], plain[1])


def test_input_formats_are_equivalent(model: Any, image_path: str) -> None:
    masks = half_masks()
    expected = points_of(inference_topdown_with_masks(model, image_path, BOXES, masks))
    boxes_xywh = xyxy_to_xywh(BOXES)
    rles = Masks.from_dense(masks, (360, 400)).to_rle()
    for arguments in (
        (cv2.imread(image_path), BOXES, masks),
        (image_path, boxes_xywh.tolist(), masks.astype(np.uint8), 'xywh'),
        (image_path, BOXES, rles),
    ):
        found = inference_topdown_with_masks(model, *arguments)
        np.testing.assert_allclose(points_of(found), expected, atol=1e-4)


def test_no_boxes_give_no_results(model: Any, image_path: str) -> None:
    assert inference_topdown_with_masks(model, image_path, [], []) == []
    assert inference_topdown_with_masks(model, image_path, np.zeros((0, 4)), []) == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        pytest.param((BOXES, []), '2 boxes, but 0 masks', id='too few masks'),
        pytest.param(([1, 2, 3], [None]), r'\(N, 4\)', id='no box'),
        pytest.param((BOXES.T, [None] * 4), r'\(N, 4\)', id='transposed'),
        pytest.param((BOXES, np.ones((2, 36, 40))), 'frame of the image', id='small mask'),
        pytest.param((BOXES, half_masks(), 'cxcywh'), 'xyxy, xywh', id='unknown format'),
    ],
)
def test_wrong_input_is_named(model: Any, image_path: str, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inference_topdown_with_masks(model, image_path, *arguments)


def test_masks_need_a_model_with_mask_background(
    model: Any, image_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = model.cfg.test_dataloader.dataset
    stock = [step for step in dataset.pipeline if step['type'] != 'MaskBackground']
    monkeypatch.setitem(dataset, 'pipeline', stock)
    with pytest.raises(ValueError, match='has no MaskBackground'):
        inference_topdown_with_masks(model, image_path, BOXES, half_masks())


def test_inferencer_finds_poses_and_draws_them(tmp_path: Path, model: Any, image_path: str) -> None:
    inferencer = MMPoseInferencer(
        pose2d=POSE_CONFIG, pose2d_weights=str(POSE_WEIGHTS),
        det_model=DET_CONFIG, det_weights=str(DET_WEIGHTS), det_cat_ids=[0], device='cpu',
    )  # fmt: skip
    (result,) = inferencer(image_path, bbox_thr=0.2, out_dir=str(tmp_path))
    (people,) = result['predictions']
    assert json.loads((tmp_path / 'predictions' / '000001.json').read_text())
    boxes = np.array([person['bbox'][0] for person in people], np.float32)
    again = points_of(inference_topdown(model, image_path, boxes))
    np.testing.assert_allclose([p['keypoints'] for p in people], again, atol=1e-3)
    drawn = cv2.imread(str(tmp_path / 'visualizations' / '000001.jpg')).astype(int)
    changed = np.abs(drawn - cv2.imread(image_path)).max(axis=2) > 100
    x1, y1, x2, y2 = boxes[0].astype(int).clip(0)
    inside = changed[y1:y2, x1:x2]
    assert inside.mean() > 0.002  # lines and dots are on the people found
    assert changed.sum() < 0.1 * changed.size


def annotations_of(data: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((data / 'annotations.json').read_text())
    return content


def runner(config: Config, work_dir: Path, data: Path, **options: Any) -> Runner:
    """A stock test run of a pose config on a COCO data set."""
    dataset = 'test_dataloader.dataset'
    options |= {'work_dir': str(work_dir), f'{dataset}.data_root': f'{data}/'}
    options[f'{dataset}.ann_file'] = str(data / 'annotations.json')
    config.merge_from_dict({f'{dataset}.data_prefix.img': '', **options})
    return Runner.from_cfg(config)


def stage_results(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """COCO results of the pose stage for the boxes and masks of MMPose's samples."""
    estimator = build_mmpose_estimator(POSE_CONFIG, POSE_WEIGHTS)
    results = []
    for sample in samples:
        image = cv2.imread(sample['img_path'])[..., ::-1]
        shape = image.shape[:2]
        mask = decode_segmentation(sample['segmentation'], *shape)
        person = Detections(sample['bbox'], sample['bbox_score'], Masks.from_dense([mask], shape))
        pose = estimator(np.ascontiguousarray(image), person)
        row = np.concatenate([pose.keypoints[0], pose.keypoint_scores[0][:, None]], axis=1)
        results.append(
            {
                'image_id': sample['img_id'], 'category_id': 1, 'keypoints': row.ravel().tolist(),
                'score': float(pose.box_scores[0] * pose_scores(pose.keypoint_scores)[0]),
            }
        )  # fmt: skip
    return results


def all_samples(run: Runner) -> list[dict[str, Any]]:
    dataset = run.test_dataloader.dataset
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def compare_with_stage(
    run: Runner, samples: list[dict[str, Any]], data: Path, written: Path
) -> None:
    """Compare keypoints and metrics of a stock run with the pose stage and the scorer."""
    run.load_checkpoint(str(POSE_WEIGHTS))
    found = run.test()
    results = stage_results(samples)
    points, stage_points = (
        np.array([row['keypoints'] for row in sorted(rows, key=by_image_and_score)])
        for rows in (json.loads(written.read_text()), results)
    )
    np.testing.assert_allclose(points, stage_points, atol=0.05)
    reference = score(results, annotations_of(data), ['keypoints']).tasks['keypoints']
    for name, value in (('AP', reference.ap), ('AP .5', reference.ap50), ('AR', reference.ar)):
        assert value is not None and value > 0
        assert found[f'coco/{name}'] == pytest.approx(value, abs=1e-6), name


def by_image_and_score(row: dict[str, Any]) -> tuple[int, float]:
    return row['image_id'], row['score']


@pytest.mark.parametrize('masks', ['annotated', 'detected'])
def test_stock_test_run(masks: str, crowd: Path, tmp_path: Path) -> None:
    config = Config.fromfile(POSE_CONFIG)
    config.test_evaluator.outfile_prefix = str(tmp_path / 'found')
    options = {}
    if masks == 'detected':
        file = str(write(tmp_path / 'detections.json', detect(crowd)))
        steps = config.test_dataloader.dataset.pipeline
        steps.insert(1, {'type': 'LoadPersonMask', 'mask_file': file})
        options = {'test_dataloader.dataset.bbox_file': file}
    run = runner(config, tmp_path, crowd, **options)
    samples = all_samples(run)
    assert samples and all(bool(s.get('segmentation')) == (masks == 'annotated') for s in samples)
    if masks == 'detected':
        samples = [LoadPersonMask(file)(sample) for sample in samples]
    compare_with_stage(run, samples, crowd, tmp_path / 'found.keypoints.json')


def detect(data: Path) -> list[dict[str, Any]]:
    """COCO results of the compact detector, with masks."""
    detector = build_mmdet_detector(DET_CONFIG, DET_WEIGHTS, score_threshold=0.2)
    rows = []
    for image in annotations_of(data)['images']:
        pixels = cv2.imread(str(data / image['file_name']))[..., ::-1]
        found = detector(np.ascontiguousarray(pixels))
        boxes_xywh = xyxy_to_xywh(found.boxes).tolist()
        columns = zip(
            boxes_xywh, found.box_scores.tolist(), found.detector_masks.to_rle(), strict=True
        )
        rows += [
            {'image_id': image['id'], 'category_id': 1, 'bbox': b, 'score': s, 'segmentation': m}
            for b, s, m in columns
        ]
    return rows


def sample_of(annotation: dict[str, Any], points: int) -> dict[str, Any]:
    """A perfect prediction of a person, in the form that MMPose's metrics take."""
    truth = np.array(annotation['keypoints'], np.float64).reshape(1, 17, 3)
    keypoints = np.zeros((1, points, 2))
    keypoints[:, :17] = truth[..., :2]
    return {
        'id': annotation['id'], 'img_id': annotation['image_id'], 'category_id': 1,
        'pred_instances': {'keypoints': keypoints, 'keypoint_scores': np.ones((1, points))},
        'gt_instances': {'bbox_scores': np.ones(1), 'bbox_scales': np.ones((1, 2)) * 100},
    }  # fmt: skip


@pytest.mark.parametrize(('config', 'points'), [(POSE_CONFIG, 17), (RELEASED_CONFIG, 23)])
def test_people_without_labelled_keypoints_are_not_counted_as_missed(
    tmp_path: Path, config: str, points: int
) -> None:
    annotations = toy_annotations()
    truth = write(tmp_path / 'toy.json', annotations)
    metric = METRICS.build({**Config.fromfile(config).test_evaluator, 'ann_file': str(truth)})
    metric.dataset_meta = {
        'dataset_name': 'toy', 'sigmas': np.full(points, 0.05, np.float32), 'num_keypoints': points
    }  # fmt: skip
    labelled = [a for a in annotations['annotations'] if a['num_keypoints']]
    metric.process([], [sample_of(annotation, points) for annotation in labelled])
    assert metric.evaluate(len(labelled))['coco/AP'] == pytest.approx(1.0)


def test_stock_detector_and_inferencer_equal_the_detector_stage(
    image_path: str, tmp_path: Path
) -> None:
    reference = build_mmdet_detector(DET_CONFIG, DET_WEIGHTS, score_threshold=0.2, max_iou=None)(
        np.ascontiguousarray(cv2.imread(image_path)[..., ::-1])
    )
    assert len(reference) > 0
    model = init_detector(DET_CONFIG, str(DET_WEIGHTS), device='cpu')
    inferencer = DetInferencer(DET_CONFIG, str(DET_WEIGHTS), device='cpu', show_progress=False)
    found = inferencer(image_path, return_datasamples=True, out_dir=str(tmp_path))['predictions'][0]
    for sample in (inference_detector(model, image_path), found):
        people = sample.pred_instances[sample.pred_instances.scores > 0.2].cpu().numpy()
        np.testing.assert_allclose(people.scores, reference.box_scores, atol=1e-4)
        inside = people.bboxes.clip(0, [400, 360, 400, 360])
        np.testing.assert_allclose(inside, reference.boxes, atol=1e-2)
        for i, mask in enumerate(people.masks):
            assert (mask != reference.detector_masks.dense(i)).mean() < 1e-4
    assert (tmp_path / 'vis' / '000001.jpg').exists()
