"""Configs written for the reference's MMPose fork, made fit for stock MMPose.

Stock MMPose with the modules of `PARTS` builds the codec and transforms of such a config
under their released names. `PMPoseHead` takes the place of the released head `MultiHead`: it is the
same network. Two settings of stock classes exist only in the fork.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config

# What the test side of a released config names, without the parts that only train.
PARTS = (
    'pipeline.poses.freezable_estimator',
    'pipeline.poses.load_person_mask',
    'pipeline.poses.mask_background',
    'pipeline.poses.oks_heatmap',
    'pipeline.poses.oks_losses',
    'pipeline.poses.pmpose_head',
    'pipeline.poses.pmpose_losses',
)
HEAD_SETTINGS = (
    'in_channels', 'out_channels', 'deconv_out_channels', 'normalize', 'sigmas', 'decoder',
    'init_cfg',
)  # fmt: skip
# Never trained, frozen in every released config; `PMPoseHead` has no such branch.
ERROR_BRANCH = 'head.error_layers.'
PIPELINES = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def stock_config(released: Config) -> Config:
    """A copy of a released config without what only the fork's classes accept.

    Removed are ``freeze_backbone`` of the estimator (it acts in training only; the stock way is
    ``backbone.frozen_stages``) and ``input_padding`` of ``TopdownAffine`` (at 1.25, the only value
    used, the crop is the one that ``GetBBoxCenterScale`` gives). ``MaskBackground`` lets people
    without a mask pass instead of giving up the image. ``MultiHead`` becomes `PMPoseHead`; its
    settings for training are left out. ``custom_imports`` gets `PARTS`, unless the config itself
    names modules of ours.

    Raises:
        ValueError: an ``input_padding`` other than 1.25, which would change the crop.
    """
    config = copy.deepcopy(released)
    config.model.pop('freeze_backbone', None)
    if config.model.get('head', {}).get('type') == 'MultiHead':
        config.model.head = _stock_head(config.model.head)
    for loader in PIPELINES:
        for step in config.get(loader, {}).get('dataset', {}).get('pipeline', []):
            _strip_padding(step)
            if step['type'] == 'MaskBackground':
                step['continue_on_failure'] = True
    imports = list((config.get('custom_imports') or {}).get('imports', []))
    if not any(name.startswith('pipeline.') for name in imports):
        imports += PARTS
    config.custom_imports = {'imports': imports, 'allow_failed_imports': False}
    return config


def _stock_head(released: dict[str, Any]) -> dict[str, Any]:
    """Settings of a `PMPoseHead` that predicts as a `MultiHead` does."""
    kept = {name: released[name] for name in HEAD_SETTINGS if name in released}
    score = 'conf' if released.get('freeze_oks') else 'oks'
    return {**kept, 'type': 'PMPoseHead', 'keypoint_score': score}


def _strip_padding(step: dict[str, Any]) -> None:
    if step['type'] != 'TopdownAffine':
        return
    padding = step.pop('input_padding', 1.25)
    if padding != 1.25:
        raise ValueError(
            f'TopdownAffine.input_padding = {padding}; stock MMPose cuts crops with 1.25: set '
            'GetBBoxCenterScale.padding instead'
        )
