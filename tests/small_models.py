"""Configs of OpenMMLab's models and of ours, made small for tests; random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.openmmlab import read_model_config


def small_detector(name: str, folder: Path, side: int = 96) -> str:
    """A copy of a detector config for one class and images of ``side`` px; every score counts."""
    config = read_model_config(name, 'mmdet')
    for step in config.test_dataloader.dataset.pipeline:
        for key in {'scale', 'size'} & set(step):
            step[key] = (side, side)
    limits = {'score_thr': 0.0, 'max_per_img': 20, 'mask_thr_binary': 1e-6}
    for part in dicts(config.model.test_cfg):
        part.update({key: value for key, value in limits.items() if key in part})
    if 'num_queries' in config.model:  # of DINO: at most the cells of such an image
        config.model.num_queries = 100
    for part in dicts(config.model):
        for key in {'num_classes', 'num_things_classes', 'num_stuff_classes'} & set(part):
            part[key] = int('stuff' not in key)
        if isinstance(part.get('class_weight'), list):  # of Mask2Former's loss
            part['class_weight'] = [1.0, 0.1]
    return save(config, folder / 'detector.py')


def small_vit(name: str, folder: Path) -> str:
    """A copy of a ViTPose or PMPose config with a backbone of 2 layers and 48 channels."""
    config = read_model_config(name, 'mmpose')
    config.model.backbone.update(
        arch={'embed_dims': 48, 'num_layers': 2, 'num_heads': 4, 'feedforward_channels': 96},
        init_cfg=None,
    )
    config.model.backbone.pop('frozen_stages', None)
    config.model.head.update(in_channels=48)
    if config.model.head.get('deconv_out_channels'):
        config.model.head.deconv_out_channels = (32, 32)
    return save(config, folder / 'pose.py')


def save(config: Any, path: Path) -> str:
    config.dump(str(path))
    return str(path)


def dicts(value: Any) -> Iterator[Any]:
    """Every dict inside nested dicts."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from dicts(item)
