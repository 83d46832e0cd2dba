"""Detector and pose models overfit one batch: data, targets, losses and decoding agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from pycocotools import mask as mask_utils

from pipeline.keypoints import COCO_SIGMAS
from pipeline.training.launch import LaunchOptions, build_runner
from tests.train_data import ROOT, write_crowd

META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
QUIET = {
    'log_level': 'ERROR',
    'val_dataloader': None,
    'val_evaluator': None,
    'val_cfg': None,
    'optim_wrapper.type': 'OptimWrapper',
    'default_hooks.checkpoint': {
        '_delete_': True, 'type': 'CheckpointHook', 'interval': 10000, 'save_last': False,
    },
    'log_processor.by_epoch': False,
    'train_dataloader.dataset.ann_file': 'train.json',
    'train_dataloader.sampler': {'_delete_': True, 'type': 'InfiniteSampler'},
    'custom_hooks': [],
}  # fmt: skip


def steps_of(count: int) -> dict[str, Any]:
    """Overrides for a training of so many steps."""
    schedule = {'type': 'CosineAnnealingLR', 'T_max': count, 'eta_min': 1e-5, 'by_epoch': False}
    return {
        'train_cfg': {'_delete_': True, 'type': 'IterBasedTrainLoop', 'max_iters': count},
        'optim_wrapper.optimizer.lr': 2e-3,
        'optim_wrapper.optimizer.weight_decay': 0.0,
        'param_scheduler': [schedule],
    }


def trained(config: str, folder: Path, overrides: dict[str, Any]) -> Any:
    runner = build_runner(
        ROOT / config, LaunchOptions(work_dir=folder / 'work', overrides=overrides)
    )
    runner.train()
    return runner


def predictions(runner: Any, scope: str) -> list[Any]:
    """Predict the training data with the trained model, in order."""
    data = runner.train_loop.dataloader.dataset.dataset
    found = []
    with DefaultScope.overwrite_default_scope(scope), torch.no_grad():
        model = runner.model.eval()
        for i in range(len(data)):
            sample = data[i]
            batch = {'inputs': [sample['inputs']], 'data_samples': [sample['data_samples']]}
            found += model.test_step(batch)
    return found


@pytest.mark.slow
def test_detector_learns_one_batch(tmp_path: Path) -> None:
    truth = json.loads(write_crowd(tmp_path / 'data', num_images=1).read_text())['annotations']
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True, 'poly2mask': True},
        # Masks have an eighth of the input: at 320 px they lack hands and feet (IoU 0.9).
        {'type': 'Resize', 'scale': (640, 640), 'keep_ratio': True},
        {'type': 'PackDetInputs', 'meta_keys': META},
    ]
    overrides = QUIET | steps_of(80) | {
        'load_from': 'rtmdet-ins_compact',
        'train_dataloader.dataset.data_root': f'{tmp_path}/data/',
        'train_dataloader.dataset.pipeline': pipeline,
        'train_dataloader.batch_size': 1,
        'model.test_cfg.score_thr': 0.5,
    }  # fmt: skip
    runner = trained('configs/detector/rtmdet-ins_compact_practice.py', tmp_path, overrides)
    (sample,) = predictions(runner, 'mmdet')
    found = sample.pred_instances
    assert len(found) == len(truth)
    x, y, w, h = np.array([person['bbox'] for person in truth]).T
    boxes = found.bboxes.numpy().astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    box_ious = mask_utils.iou(boxes, np.stack([x, y, w, h], axis=1), [0] * len(truth))
    masks = np.asfortranarray(found.masks.numpy().astype(np.uint8).transpose(1, 2, 0))
    rles = [person['segmentation'] for person in truth]
    mask_ious = mask_utils.iou(mask_utils.encode(masks), rles, [0] * len(truth))
    assert box_ious.max(axis=0).min() > 0.95
    assert mask_ious.max(axis=0).min() > 0.95


def test_pose_model_learns_one_batch(tmp_path: Path) -> None:
    codec = {'type': 'OKSArgMaxHeatmap', 'input_size': (144, 192), 'heatmap_size': (36, 48)}
    steps = [{'type': 'LoadImage'}, {'type': 'KeepVisibilityLevels'}]
    assert_pose_is_learned('configs/pose/pmpose_compact_practice.py', tmp_path, steps, codec)


def assert_pose_is_learned(
    config: str, tmp_path: Path, steps: list[dict[str, Any]], codec: dict[str, Any], **changes: Any
) -> None:
    """The embedded model, trained with a config on 4 people, poses them well."""
    write_crowd(tmp_path / 'data', num_images=2)
    steps = [
        *steps,
        {'type': 'GetBBoxCenterScale'},
        {'type': 'MaskBackground', 'alpha': 0.25},
        {'type': 'TopdownAffine', 'input_size': (144, 192), 'use_udp': True},
        {'type': 'GenerateTarget', 'encoder': codec},
        {'type': 'PackPoseInputs', 'pack_transformed': True},
    ]
    overrides = QUIET | steps_of(120) | {
        'load_from': 'vitpose_compact',
        'train_dataloader.dataset.data_root': f'{tmp_path}/data',
        'train_dataloader.dataset.pipeline': steps,
        'train_dataloader.batch_size': 4,
        'model.test_cfg.flip_test': False,
    }  # fmt: skip
    runner = trained(config, tmp_path, overrides | changes)
    oks, presence, visible, predicted = [], [], [], []
    for sample in predictions(runner, 'mmpose'):
        found, raw = sample.pred_instances, sample.metainfo['raw_ann_info']
        points = np.reshape(raw['keypoints'], (17, 3))
        labelled = points[:, 2] > 0
        squared = ((found.keypoints[0] - points[:, :2]) ** 2).sum(axis=1)
        each = np.exp(-squared / (2 * raw['area'] * (2 * COCO_SIGMAS) ** 2))
        oks.append(float(each[labelled].mean()))
        presence += found.keypoints_probs[0][labelled].tolist()
        visible += ((found.keypoints_visible[0] > 0.5) == (points[:, 2] == 2))[labelled].tolist()
        predicted += abs(found.keypoints_oks[0] - each)[labelled].tolist()
    assert min(oks) > 0.95
    assert np.mean(presence) > 0.9
    assert np.mean(visible) > 0.9
    assert np.mean(predicted) < 0.1
