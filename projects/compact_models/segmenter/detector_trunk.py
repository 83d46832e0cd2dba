"""A trained detector as the start of SAM 2's image encoder.

A Hiera learns slowly from random weights; the features of a trained detector know people already.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from pipeline.segmenters.cspnext_trunk import CSPNeXtTrunk
from pipeline.weights.loading import load_into, load_state
from pipeline.weights.manifest import CheckpointError

PARTS = ('backbone.', 'neck.')
FIRST_CONV = 'backbone.stem.0.conv.weight'


def load_detector_trunk(trunk: nn.Module, checkpoint: Path) -> None:
    """Gives a trunk the weights of an RTMDet of the same widths.

    The detector sees BGR, SAM 2 RGB; both normalise by the same means and deviations of ImageNet.

    Raises:
        CheckpointError: the file cannot be read, holds no RTMDet, or does not fit the trunk.
        ValueError: the trunk is another one.
    """
    if not isinstance(trunk, CSPNeXtTrunk):
        raise ValueError(
            f'only a CSPNeXtTrunk can start from a detector, this is a {type(trunk).__name__}; use '
            'configs/compact/sam2.1_cspnext_compact.yaml'
        )
    state, _ = load_state(checkpoint)
    weights = {name: value for name, value in state.items() if name.startswith(PARTS)}
    if FIRST_CONV not in weights:
        raise CheckpointError(f'{checkpoint} holds no RTMDet: {FIRST_CONV} is absent')
    weights[FIRST_CONV] = torch.flip(weights[FIRST_CONV], dims=(1,))
    load_into(trunk, weights, checkpoint)
