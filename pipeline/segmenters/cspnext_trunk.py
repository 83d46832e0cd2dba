"""The backbone and neck of an RTMDet as the trunk of SAM 2's image encoder.

A Hiera learns slowly from random weights; the features of a trained detector know people already.
The parts are MMDetection's and keep the names of their weights, so a detector's weights load as
they are, but for the order of the colours.

Legend: B images, S side of the square in px.
"""

from __future__ import annotations

from pathlib import Path

import torch
from mmdet.models.backbones import CSPNeXt
from mmdet.models.necks import CSPNeXtPAFPN
from torch import Tensor, nn

from ..weights.checkpoints import CheckpointError
from ..weights.loading import load_into, load_state

PARTS = ('backbone.', 'neck.')
FIRST_CONV = 'backbone.stem.0.conv.weight'


class CSPNeXtTrunk(nn.Module):
    """CSPNeXt and CSPNeXt-PAFPN, as in RTMDet (Lyu et al., 2022), for `sam2`'s `ImageEncoder`.

    Args:
        deepen_factor: of the backbone.
        widen_factor: of the backbone, whose stages have 128, 256, 512 and 1024 times as many
            channels.
        neck_channels: of the three levels of the neck.
        num_csp_blocks: of each stage of the neck.
    """

    def __init__(
        self,
        deepen_factor: float,
        widen_factor: float,
        neck_channels: int,
        num_csp_blocks: int = 1,
    ) -> None:
        super().__init__()
        common = {
            'expand_ratio': 0.5,
            'norm_cfg': {'type': 'BN'},
            'act_cfg': {'type': 'SiLU', 'inplace': True},
        }
        finest, *others = (int(widen_factor * width) for width in (128, 256, 512, 1024))
        self.backbone = CSPNeXt(
            arch='P5',
            deepen_factor=deepen_factor,
            widen_factor=widen_factor,
            out_indices=(1, 2, 3, 4),
            channel_attention=True,
            **common,
        )
        self.neck = CSPNeXtPAFPN(
            in_channels=others,
            out_channels=neck_channels,
            num_csp_blocks=num_csp_blocks,
            **common,
        )
        # From coarse to fine, as `sam2` lists them.
        self.channel_list = [neck_channels] * 3 + [finest]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features at strides 4 (backbone), 8, 16 and 32 (neck) of RGB images (B, 3, S, S)."""
        finest, *others = self.backbone(images)
        return [finest, *self.neck(tuple(others))]


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
