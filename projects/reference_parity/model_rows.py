"""Whole models on the recorded images: stock MMPose, our pose stage, our detector stage."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
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
from pipeline.weights.loading import load_state

from . import recordings
from .as_in_bmp import MaskBackgroundAsInBMP
from .pose_rows import peaks_of
from .rows import EXACT, FEATURES, MASKPOSE_PX, NETWORK, PMPOSE_PX, SCORES, Array, Comparison

BOX_PX, BOX_SCORES, MASK_FRACTION = 1e-2, 2e-4, 1e-4  # a random detector amplifies rounding


def pmpose_full() -> Comparison:
    return pose_model('pmpose_full', 'pmpose_full', PMPOSE_PX)


def maskpose21_full() -> Comparison:
    return pose_model('maskpose21_full', 'maskpose21_full', MASKPOSE_PX)


def maskpose23_full() -> Comparison:
    return pose_model('maskpose23_full', 'maskpose23_full', MASKPOSE_PX)


def maskpose21_full_npmeta() -> Comparison:
    """The same weights with numpy arrays in `meta`, as released files may hold them."""
    c = pose_model('maskpose21_full', 'maskpose21_full_npmeta', MASKPOSE_PX)
    _, meta = load_state(recordings.folder / 'maskpose21_full_npmeta.pth')
    recorded = c.facts['dataset_meta']
    for key in ('sigmas', 'dataset_keypoint_weights', 'keypoint_colors'):
        c.add('numpy arrays of the meta', meta['dataset_meta'][key], recorded[key], 1e-7)
    c.rows = [replace(row, fixture='maskpose21_full_npmeta') for row in c.rows]
    return c


def pose_model(fixture: str, weights: str, px: float) -> Comparison:
    c = Comparison(fixture)
    config = recorded_config(c.facts['config'])
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = recordings.checkpoint(weights, Path(scratch))
        with scope_of('mmpose'):
            model, stored = build_model(config, checkpoint, 'mmpose', (ERROR_BRANCH,))
            meta = stored['dataset_meta']
            c.add('flip indices', meta['flip_indices'], c.arrays['flip_indices'], EXACT)
            compare_stock_mmpose(c, model, config, meta, px)
        compare_our_stage(c, config, checkpoint, px)
    return c


def recorded_config(content: dict[str, Any]) -> Config:
    """The recorded config for stock MMPose, with masks redrawn as the reference does it."""
    config = stock_config(Config(content))
    for step in config.test_dataloader.dataset.pipeline:
        if step['type'] == 'MaskBackground':
            step['type'] = MaskBackgroundAsInBMP.__name__
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
    c.add('normalised input', inputs[0], 'input_norm_0', NETWORK)
    with torch.no_grad():
        for name, images in (('feat', inputs), ('flip_feat_of_flipped_input', inputs.flip(-1))):
            c.add('features', model.extract_feat(images)[0], name, FEATURES)
    for prefix in ('noflip', 'flip'):
        model.test_cfg = dict(model.test_cfg, flip_test=prefix == 'flip', output_heatmaps=True)
        with torch.no_grad():
            results = model.test_step(batch)
        maps = np.stack([r.pred_fields.heatmaps.numpy() for r in results])
        compare_people(c, [r.pred_instances for r in results], maps, prefix, px)


def compare_people(
    c: Comparison, found: list[InstanceData], maps: Array, prefix: str, px: float
) -> None:
    c.add(f'{prefix}: heat maps', maps, f'{prefix}_heatmaps', NETWORK)
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
    """`MMPoseEstimator`: RGB in, a window of the image per person, COCO keypoints out."""
    image = np.ascontiguousarray(c.arrays['image_bgr'][..., ::-1])
    boxes = c.arrays['boxes_xyxy']
    masks = Masks.from_dense(c.arrays['masks'].astype(bool), size_of(image))
    people = Detections(boxes, np.ones(len(boxes), np.float32), masks)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'config.py'
        config.dump(path)
        stages = {
            prefix: build_mmpose_estimator(
                str(path), checkpoint, batch_size=3, flip_test=prefix == 'flip', coco_only=True
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


def crops_of(stage: MMPoseEstimator, image: Array, people: Detections) -> Array:
    """Network inputs (N, H, W, 3), BGR, of our stage for an RGB image."""
    canvas = np.zeros_like(image)
    with scope_of('mmpose'):
        samples = [stage._sample(image, people, canvas, i) for i in range(len(people))]
    return np.stack([sample['inputs'].permute(1, 2, 0).numpy() for sample in samples])


def rtmdet_ins() -> Comparison:
    """Without the network, our stage gets the raw detections that were recorded."""
    c = Comparison('rtmdet_ins')
    if not recordings.has('rtmdet_ins_tiny.pth'):
        raw: Any = RecordedDetector(c)
        image = np.zeros(c.facts['image_shape'], np.uint8)
        compare_people_found(c, raw, image, c.arrays['raw_bboxes'])
        return c
    raw = recorded_detector(c)
    compare_people_found(c, raw, c.arrays['image_bgr'], compare_raw_detections(c, raw))
    return c


class RecordedDetector:
    """A detector that returns the recorded raw detections."""

    def __init__(self, c: Comparison) -> None:
        columns = {
            k: torch.from_numpy(c.arrays[f'raw_{k}']) for k in ('bboxes', 'scores', 'labels')
        }
        self.found = InstanceData(**columns, masks=torch.from_numpy(raw_masks(c)))
        self.model = self

    def transforms(self, results: dict[str, Any]) -> dict[str, Any]:
        return {'inputs': torch.zeros(3, 1, 1), 'data_samples': None}

    def test_step(self, batch: Any) -> list[Any]:
        return [SimpleNamespace(pred_instances=self.found)]


def raw_masks(c: Comparison) -> Array:
    packed, width = c.arrays['raw_masks_packed'], c.facts['image_shape'][1]
    return np.unpackbits(packed, axis=-1, count=width).astype(bool)


def recorded_detector(c: Comparison) -> MMDetDetector:
    # JSON knows no tuples, which MMDetection asks for in sizes.
    steps = [
        {k: v if k == 'meta_keys' else with_tuples(v) for k, v in step.items()}
        for step in c.facts['test_pipeline']
    ]
    loader = {'dataset': {'pipeline': steps, 'type': 'CocoDataset'}}
    content = {'model': c.facts['model'], 'test_dataloader': loader, 'default_scope': 'mmdet'}
    checkpoint = recordings.folder / 'rtmdet_ins_tiny.pth'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'config.py'
        Config(content).dump(path)
        return build_mmdet_detector(str(path), checkpoint, score_threshold=0.0, max_iou=None)


def compare_people_found(c: Comparison, raw: Any, image_bgr: Array, raw_boxes: Array) -> None:
    """Our detector stage at the recorded score thresholds."""
    height, width = size_of(image_bgr)
    corner = [width, height, width, height]  # our boxes end at the image's edge
    for key in [k for k in c.arrays if k.startswith('filtered') and k.endswith('_bboxes')]:
        limit = key.removeprefix('filtered').removesuffix('_bboxes')
        options: Any = {'score_threshold': float(limit), 'max_iou': 0.3}
        stage = MMDetDetector(raw.model, raw.transforms, **options)
        found = stage(np.ascontiguousarray(image_bgr[..., ::-1]))
        boxes = np.clip(c.arrays[key], 0, corner)
        c.add(f'score > {limit}: boxes, px', found.boxes, boxes, BOX_PX)
        chosen = np.clip(raw_boxes[c.arrays[f'filtered{limit}_source_index']], 0, corner)
        c.add(f'score > {limit}: which are kept', found.boxes, chosen, EXACT)
        scores = c.arrays[f'filtered{limit}_scores']
        c.add(f'score > {limit}: scores', found.box_scores, scores, BOX_SCORES)
        masks = np.array([found.detector_masks.dense(i) for i in range(len(found))])
        wrong = np.not_equal(masks, c.arrays[f'filtered{limit}_masks']).mean()
        c.add(f'score > {limit}: fraction of wrong mask px', wrong, np.zeros(()), MASK_FRACTION)


def with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: with_tuples(v) for k, v in value.items()}
    return tuple(value) if isinstance(value, list) else value


def compare_raw_detections(c: Comparison, stage: MMDetDetector) -> Array:
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
    ours = np.array([found.masks.dense(i) for i in range(len(found.masks))])
    wrong = (ours != raw_masks(c)).mean()
    c.add('raw: fraction of wrong mask px', wrong, np.zeros(()), MASK_FRACTION)
    return np.asarray(found.bboxes)
