"""SAM 2's image encoder with half of the memory and the same results.

The mask decoder only projects the maps at strides 4 and 8, so convolution and projection become one
matrix. Position encodings serve videos only and are removed. Hiera blocks run in groups
(`grouped_blocks`). Only modules of this model change.

Legend: B images, H x W cells, C channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base


def lean_encoder(model: SAM2Base, *, grouped: bool) -> None:
    """Change modules of the image encoder and the mask decoder for inference on images, in place.

    Weight names change, so load the weights first.

    Args:
        model: Model with its weights, in evaluation mode.
        grouped: Also run attention and MLPs of a Hiera in groups; slower on a GPU.
    """
    encoder = model.image_encoder
    encoder.neck.position_encoding = NoPositions()
    _join_projections(model)
    blocks = getattr(encoder.trunk, 'blocks', ()) if grouped else ()
    if blocks:
        from .grouped_blocks import group_block  # not every trunk has blocks

        for block in blocks:
            group_block(block)


class NoPositions(nn.Module):
    """Zeros in the shape of a feature map, stored as one number."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return features.new_zeros(()).expand(features.shape)


@torch.no_grad()
def _join_projections(model: SAM2Base) -> None:
    """Merge `conv_s0` and `conv_s1` of the mask decoder into the preceding convolutions."""
    neck: Any = model.image_encoder.neck
    decoder = model.sam_mask_decoder
    if not model.use_high_res_features_in_sam:
        return
    for level, name in enumerate(('conv_s0', 'conv_s1')):
        place, projection = neck.convs[-1 - level], getattr(decoder, name)  # coarse to fine
        lateral = place.conv
        alone = level not in neck.fpn_top_down_levels and lateral.kernel_size == (1, 1)
        if not alone or not isinstance(projection, nn.Conv2d):
            continue
        outer = projection.weight.flatten(1)
        joined = nn.Conv2d(lateral.in_channels, projection.out_channels, 1)
        joined.load_state_dict(
            {
                'weight': (outer @ lateral.weight.flatten(1))[..., None, None],
                'bias': outer @ lateral.bias + projection.bias,
            }
        )
        place.conv = joined.to(lateral.weight)
        setattr(decoder, name, nn.Identity())
