"""Synthetic crowds as COCO files, small configs on them, and runs of these, for training tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.io.dataset_writers import CATEGORY
from pipeline.synthetic.scene import SceneConfig, make_scene

ROOT = Path(__file__).resolve().parents[1]
SIZE = 160
# Settings of every tiny run.
TINY_RUN: dict[str, Any] = {
    'train_dataloader.dataset.ann_file': 'train.json',
    'train_dataloader.batch_size': 2,
    'val_dataloader': None,
    'val_evaluator': None,
    'val_cfg': None,
    'default_hooks.logger.interval': 1,
    'default_hooks.checkpoint.by_epoch': False,
    'default_hooks.checkpoint.max_keep_ckpts': -1,
    'default_hooks.checkpoint.save_best': None,
    'custom_hooks': [
        {'type': 'EMAHook', 'ema_type': 'ExpMomentumEMA', 'momentum': 0.1, 'update_buffers': True}
    ],
}


def write_crowd(folder: Path, *, num_images: int = 6, people: int = 2, name: str = 'train') -> Path:
    """``folder``/``name``.json and its images: SIZE x SIZE px, people with masks and keypoints."""
    folder.mkdir(parents=True, exist_ok=True)
    images: list[Any] = []
    annotations: list[Any] = []
    for number in range(1, num_images + 1):
        scene = make_scene(
            SceneConfig(
                width=SIZE, height=SIZE, min_people=people, max_people=people, overlap=0.2,
                min_person_height=0.5, max_person_height=0.9, truncation=0.0, seed=number,
            )
        )  # fmt: skip
        file_name = f'{name}_{number}.png'
        Image.fromarray(scene.image).save(folder / file_name)
        image, rows = scene.to_coco(number, file_name)
        images.append(image)
        annotations += rows
    data = {'images': images, 'annotations': annotations, 'categories': [CATEGORY]}
    path = folder / f'{name}.json'
    path.write_text(json.dumps(data))
    return path


def as_other_convention(path: Path, mapping: Any, count: int) -> Path:
    """A copy of a crowd whose keypoints are those of another dataset of `count` points.

    Args:
        path: crowd with COCO's keypoints.
        mapping: (index there, index in a convention that starts with COCO's 17) pairs.
        count: points of the other dataset.
    """
    data = json.loads(path.read_text())
    for person in data['annotations']:
        points = np.zeros((count, 3))
        coco = np.reshape(person['keypoints'], (17, 3))
        for there, here in mapping:
            points[there] = coco[here] if here < 17 else coco[0]
        person['keypoints'] = points.ravel().tolist()
        person['num_keypoints'] = int((points[:, 2] > 0).sum())
    data['categories'] = [{'id': 1, 'name': 'person'}]
    target = path.with_name(f'{path.stem}_{count}.json')
    target.write_text(json.dumps(data))
    return target


def detector_settings(data: Path, **changes: Any) -> dict[str, Any]:
    """Overrides that make a tiny run on ``data`` of the detector's practice config."""
    settings = {
        'train_dataloader.dataset.data_root': f'{data}/',
        'train_dataloader.dataset.ann_file': 'train.json',
        'model.backbone.widen_factor': 0.125,
        'model.neck.in_channels': [32, 64, 128],
        'model.neck.out_channels': 16,
        'model.bbox_head.in_channels': 16,
        'model.bbox_head.feat_channels': 16,
        'train_dataloader.dataset.pipeline.3.crop_size': (128, 128),
        'train_dataloader.dataset.pipeline.7.size': (128, 128),
        'train_dataloader.dataset.pipeline.2.scale': (160, 160),
        'train_dataloader.dataset.pipeline.4.prob': 0.5,
        'train_cfg': {'_delete_': True, 'type': 'EpochBasedTrainLoop', 'max_epochs': 1},
    }  # fmt: skip
    return TINY_RUN | settings | changes


def pose_settings(data: Path, **changes: Any) -> dict[str, Any]:
    """Overrides that make a tiny run on ``data`` of the pose model's practice config, by steps."""
    settings = {
        'load_from': None,
        'train_dataloader.dataset.data_root': str(data),
        'train_dataloader.sampler.type': 'InfiniteSampler',
        'train_cfg': {'_delete_': True, 'type': 'IterBasedTrainLoop', 'max_iters': 8},
        'log_processor.by_epoch': False,
        'model.backbone.stem_channels': (8, 8, 16),
        'model.backbone.stem_blocks': (1, 1, 1),
        'model.backbone.embed_dims': 32,
        'model.backbone.depth': 1,
        'model.head.in_channels': 32,
        'model.head.branch_channels': 16,
        'optim_wrapper.paramwise_cfg.num_layers': 1,
    }  # fmt: skip
    return TINY_RUN | settings | changes
