"""Conversion of configs for the reference's MMPose fork to stock MMPose.

The modules in `PARTS` register the codec and the transforms of such a config under their released
names. `PMPoseHead` replaces the released head `MultiHead`; the network is the same. Two settings of
stock classes exist only in the fork.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config

# Modules with the classes that a released config names for inference.
PARTS = (
    'pipeline.poses.freezable_estimator',
    'pipeline.poses.load_person_mask',
    'pipeline.poses.mask_background',
    'pipeline.poses.oks_heatmap',
    'pipeline.poses.pmpose_head',
)
HEAD_SETTINGS = (
    'in_channels', 'out_channels', 'deconv_out_channels', 'normalize', 'sigmas', 'decoder',
    'init_cfg',
)  # fmt: skip
# Untrained and frozen in every released config; `PMPoseHead` has no such branch.
ERROR_BRANCH = 'head.error_layers.'
PIPELINES = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def stock_config(released: Config) -> Config:
    """Copy a released config without the settings that only the fork accepts.

    - ``freeze_backbone`` of the estimator is removed; it acts in training only.
    - ``input_padding`` of ``TopdownAffine`` is removed. At 1.25, the crop equals that of
      ``GetBBoxCenterScale``.
    - ``MaskBackground`` leaves people without a mask unchanged instead of dropping the image.
    - ``MultiHead`` becomes `PMPoseHead`, without its training settings.
    - ``custom_imports`` gets `PARTS`, unless it already names modules of ``pipeline``.

    Raises:
        ValueError: ``input_padding`` differs from 1.25, which would change the crop.
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
    """Convert the settings of a `MultiHead` to those of a `PMPoseHead`."""
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
