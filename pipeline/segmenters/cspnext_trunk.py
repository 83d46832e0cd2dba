"""The backbone and neck of an RTMDet as the trunk of SAM 2's image encoder.

The parts are MMDetection's, with the same weight names.

Legend: B images, S side of the square in px.
"""

from __future__ import annotations

from mmdet.models.backbones import CSPNeXt
from mmdet.models.necks import CSPNeXtPAFPN
from torch import Tensor, nn


class CSPNeXtTrunk(nn.Module):
    """CSPNeXt and CSPNeXt-PAFPN, as in RTMDet (Lyu et al., 2022), for `sam2`'s `ImageEncoder`.

    Args:
        deepen_factor: Depth factor of the backbone.
        widen_factor: Width factor of the backbone; stages have 128, 256, 512, 1024 channels at 1.
        neck_channels: Channels of the three levels of the neck.
        num_csp_blocks: Blocks in each stage of the neck.
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
        # From coarse to fine, the order of `sam2`.
        self.channel_list = [neck_channels] * 3 + [finest]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features at strides 4 (backbone), 8, 16 and 32 (neck) of RGB images (B, 3, S, S)."""
        finest, *others = self.backbone(images)
        return [finest, *self.neck(tuple(others))]
