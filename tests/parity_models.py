"""Whole models on the recorded photos: stock MMPose, our pose stage, our detector stage."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.structures import InstanceData

from pipeline.detectors.mmdet_detector import MMDetDetector, build_mmdet_detector
from pipeline.masks import Masks
from pipeline.openmmlab import build_model, scope_of
from pipeline.poses.mmpose_estimator import MMPoseEstimator, build_mmpose_estimator
from pipeline.poses.released_config import ERROR_BRANCH, stock_config
from pipeline.structures import Detections, size_of
from pipeline.weights.checkpoints import load_state
from tests import fixtures
from tests.parity_pose import peaks_of
from tests.parity_rows import EXACT, FEATURES, MASKPOSE_PX, NETWORK, PMPOSE_PX, SCORES, Comparison

BOX_PX, BOX_SCORES, MASK_SHARE = 1e-2, 2e-4, 1e-4  # a random detector amplifies rounding


def pmpose_full() -> Comparison:
    return pose_model('pmpose_full', 'pmpose_full', PMPOSE_PX)


def maskpose21_full() -> Comparison:
    return pose_model('maskpose21_full', 'maskpose21_full', MASKPOSE_PX)


def maskpose23_full() -> Comparison:
    return pose_model('maskpose23_full', 'maskpose23_full', MASKPOSE_PX)


def maskpose21_full_npmeta() -> Comparison:
    """The same weights with numpy arrays in `meta`, as released files may hold them."""
    c = pose_model('maskpose21_full', 'maskpose21_full_npmeta', MASKPOSE_PX)
    _, meta = load_state(fixtures.FOLDER / 'maskpose21_full_npmeta.pth')
    recorded = c.facts['dataset_meta']
    for key in ('sigmas', 'dataset_keypoint_weights', 'keypoint_colors'):
        c.add('numpy arrays of the meta', meta['dataset_meta'][key], recorded[key], 1e-7)
    c.rows = [replace(row, fixture='maskpose21_full_npmeta') for row in c.rows]
    return c


def pose_model(fixture: str, weights: str, px: float) -> Comparison:
    c = Comparison(fixture)
    checkpoint = fixtures.FOLDER / f'{weights}.pth'
    config = recorded_config(c.facts['config'])
    with scope_of('mmpose'):
        model, meta = build_model(config, checkpoint, 'mmpose', (ERROR_BRANCH,))
        c.add('flip indices', meta['dataset_meta']['flip_indices'], c.arrays['flip_indices'], EXACT)
        compare_stock_mmpose(c, model, config, meta['dataset_meta'], px)
    compare_our_stage(c, config, checkpoint, px)
    return c


def recorded_config(content: dict[str, Any]) -> Config:
    """The recorded config for stock MMPose, with masks redrawn as the reference does it."""
    config = stock_config(Config(content))
    for step in config.test_dataloader.dataset.pipeline:
        if step['type'] == 'MaskBackground':
            step['outline'] = 'as_in_bmp'
    return config


def compare_stock_mmpose(
    c: Comparison, model: Any, config: Config, meta: dict[str, Any], px: float
) -> None:
    """The test pipeline and `test_step` of MMPose; one mask per person under the key ``mask``."""
    pipeline = Compose(config.test_dataloader.dataset.pipeline)
    one = np.ones(1, np.float32)
    samples = [
        pipeline({**meta, 'img': c.arrays['image_bgr'].copy(), 'bbox': box[None],
                  'bbox_score': one, 'mask': mask})
        for box, mask in zip(c.arrays['boxes_xyxy'], c.arrays['masks'], strict=True)
    ]  # fmt: skip
    crops = np.stack([s['inputs'].permute(1, 2, 0).numpy() for s in samples])
    c.add('crops', crops, c.arrays['crops'], EXACT)
    for name in ('input_center', 'input_scale'):
        c.add(name, [s['data_samples'].metainfo[name] for s in samples], c.arrays[name], PMPOSE_PX)
    batch = pseudo_collate(samples)
    inputs = model.data_preprocessor(batch, False)['inputs']
    c.add('normalised input', inputs[0], c.arrays['input_norm_0'], NETWORK)
    with torch.no_grad():
        for name, images in (('feat', inputs), ('flip_feat_of_flipped_input', inputs.flip(-1))):
            c.add('features', model.extract_feat(images)[0], c.arrays[name], FEATURES)
    for prefix in ('noflip', 'flip'):
        model.test_cfg = dict(model.test_cfg, flip_test=prefix == 'flip', output_heatmaps=True)
        with torch.no_grad():
            results = model.test_step(batch)
        maps = np.stack([r.pred_fields.heatmaps.numpy() for r in results])
        compare_people(c, [r.pred_instances for r in results], maps, prefix, px)


def compare_people(
    c: Comparison, found: list[InstanceData], maps: np.ndarray, prefix: str, px: float
) -> None:
    if f'{prefix}_heatmaps' in c.arrays:
        c.add(f'{prefix}: heat maps', maps, c.arrays[f'{prefix}_heatmaps'], NETWORK)
    c.add(f'{prefix}: arg max', peaks_of(maps), c.arrays[f'{prefix}_argmax'], EXACT)
    points = np.concatenate([row.keypoints for row in found])
    c.add(f'{prefix}: keypoints, image px', points, c.arrays[f'{prefix}_keypoints'], px)
    c.add('boxes', np.concatenate([r.bboxes for r in found]), c.arrays['pred_bboxes'], EXACT)
    for name in (
        'keypoint_scores',
        *(f'keypoints_{s}' for s in ('conf', 'probs', 'visible', 'oks')),
    ):
        if f'{prefix}_{name}' in c.arrays:
            scores = np.concatenate([row.get(name) for row in found])
            c.add(f'{prefix}: {name}', scores, c.arrays[f'{prefix}_{name}'], SCORES)


def compare_our_stage(c: Comparison, config: Config, checkpoint: Path, px: float) -> None:
    """`MMPoseEstimator`: RGB in, a window of the photo per person, COCO keypoints out."""
    image = np.ascontiguousarray(c.arrays['image_bgr'][..., ::-1])
    boxes = c.arrays['boxes_xyxy']
    masks = Masks.from_dense(c.arrays['masks'].astype(bool), size_of(image))
    people = Detections(boxes, np.ones(len(boxes), np.float32), masks)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'config.py'
        config.dump(path)
        stages = {
            prefix: build_mmpose_estimator(
                str(path), checkpoint, batch_size=3, flip_test=prefix == 'flip'
            )
            for prefix in ('noflip', 'flip')
        }
    crops = crops_of(stages['flip'], image, people)
    c.add('our stage: crops', crops, c.arrays['crops'], EXACT)
    for prefix, stage in stages.items():
        poses = stage(image, people)
        names = {'keypoint_scores': poses.keypoint_scores, 'keypoints_visible': poses.visibility}
        if f'{prefix}_keypoints_probs' in c.arrays:
            names['keypoints_probs'] = poses.presence
        points = c.arrays[f'{prefix}_keypoints'][:, :17]
        c.add(f'our stage, {prefix}: keypoints, image px', poses.keypoints, points, px)
        for name, ours in names.items():
            recorded = c.arrays[f'{prefix}_{name}'][:, :17]
            c.add(f'our stage, {prefix}: {name}', ours, recorded, SCORES)


def crops_of(stage: MMPoseEstimator, image: np.ndarray, people: Detections) -> np.ndarray:
    """Network inputs (N, H, W, 3), BGR, of our stage for an RGB image."""
    canvas = np.zeros_like(image)
    with scope_of('mmpose'):
        samples = [stage._sample(image, people, canvas, i) for i in range(len(people))]
    return np.stack([sample['inputs'].permute(1, 2, 0).numpy() for sample in samples])


def rtmdet_ins() -> Comparison:
    c = Comparison('rtmdet_ins')
    # JSON knows no tuples, which MMDetection asks for in sizes.
    steps = [
        {k: v if k == 'meta_keys' else with_tuples(v) for k, v in step.items()}
        for step in c.facts['test_pipeline']
    ]
    loader = {'dataset': {'pipeline': steps, 'type': 'CocoDataset'}}
    content = {'model': c.facts['model'], 'test_dataloader': loader, 'default_scope': 'mmdet'}
    checkpoint = fixtures.FOLDER / 'rtmdet_ins_tiny.pth'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'config.py'
        Config(content).dump(path)
        raw = build_mmdet_detector(str(path), checkpoint, score_threshold=0.0, max_iou=None)
    boxes = compare_raw_detections(c, raw)
    for key in [k for k in c.arrays if k.startswith('filtered') and k.endswith('_bboxes')]:
        compare_people_found(c, raw, boxes, key.removesuffix('_bboxes'))
    return c


def compare_people_found(
    c: Comparison, raw: MMDetDetector, raw_boxes: np.ndarray, key: str
) -> None:
    """Our detector stage at one of the recorded score thresholds."""
    threshold = key.removeprefix('filtered')
    stage = MMDetDetector(raw.model, raw.transforms, score_threshold=float(threshold), max_iou=0.3)
    found = stage(np.ascontiguousarray(c.arrays['image_bgr'][..., ::-1]))
    height, width = size_of(c.arrays['image_bgr'])
    corner = [width, height, width, height]  # our boxes end at the picture's edge
    boxes = np.clip(c.arrays[f'{key}_bboxes'], 0, corner)
    chosen = np.clip(raw_boxes[c.arrays[f'{key}_source_index']], 0, corner)
    c.add(f'score > {threshold}: which are kept', found.boxes, chosen, EXACT)
    c.add(f'score > {threshold}: boxes, px', found.boxes, boxes, BOX_PX)
    c.add(f'score > {threshold}: scores', found.box_scores, c.arrays[f'{key}_scores'], BOX_SCORES)
    masks = np.array([found.detector_masks.dense(i) for i in range(len(found))])
    wrong = np.not_equal(masks, c.arrays[f'{key}_masks']).mean()
    c.add(f'score > {threshold}: share of wrong mask px', wrong, np.zeros(()), MASK_SHARE)


def with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: with_tuples(v) for k, v in value.items()}
    return tuple(value) if isinstance(value, list) else value


def compare_raw_detections(c: Comparison, stage: MMDetDetector) -> np.ndarray:
    """MMDetection's own output before people are selected, and features on the way.

    Returns the boxes.
    """
    image_bgr = c.arrays['image_bgr']
    with scope_of('mmdet'), torch.no_grad():
        data = stage.transforms({'img': image_bgr.copy(), 'img_id': 0})
        batch = {'inputs': [data['inputs']], 'data_samples': [data['data_samples']]}
        found: Any = stage.model.test_step(batch)[0].pred_instances  # type: ignore[operator]
        inputs: Any = stage.model.data_preprocessor(batch, False)  # type: ignore[operator]
        necks = stage.model.extract_feat(inputs['inputs'])  # type: ignore[operator]
        classes, boxes, kernels, features = stage.model.bbox_head(necks)  # type: ignore[operator]
    maps = {
        'neck': (necks, 1e-4), 'head_cls': (classes, 5e-3), 'head_kernel': (kernels, 1e-4),
        'head_reg': (boxes, 5e-3),
    }  # fmt: skip
    for name, (levels, tolerance) in maps.items():
        c.add(f'{name}, stride 32', levels[-1][0], c.arrays[f'{name}_stride32'], tolerance)
    stats = [features.mean(), features.std(), features.abs().max()]
    c.add('mask features: mean, std, max', stats, c.arrays['mask_feat_stats'], 1e-4)
    c.add('raw boxes, px', found.bboxes, c.arrays['raw_bboxes'], BOX_PX)
    c.add('raw scores', found.scores, c.arrays['raw_scores'], BOX_SCORES)
    c.add('raw labels', found.labels, c.arrays['raw_labels'], EXACT)
    packed = c.arrays['raw_masks_packed']
    masks = np.unpackbits(packed, axis=-1, count=image_bgr.shape[1]).astype(bool)
    ours = np.array([found.masks.dense(i) for i in range(len(found.masks))])
    wrong = (ours != masks).mean()
    c.add('raw: share of wrong mask px', wrong, np.zeros(()), MASK_SHARE)
    return found.bboxes.numpy()
