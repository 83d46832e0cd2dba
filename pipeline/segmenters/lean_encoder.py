"""SAM 2's image encoder with the same weights and the same results in half of the memory.

Attention inside windows and the MLPs treat windows and pixels one by one, so they can run in
groups whose intermediate results stay small, in the cache of a processor at best. The maps at
strides 4 and 8 are used by nothing but a projection in the mask decoder: convolution and projection
are one matrix. Position encodings are for videos. Nothing of `sam2` is replaced but modules of the
one model that is given.

Legend: B images, H x W cells, C channels, N windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base


def lean_encoder(model: SAM2Base, *, grouped: bool) -> None:
    """Changes modules of the image encoder and the two projections of the mask decoder, in place.

    For inference on images: the weights no longer have the names that `sam2` gives them.

    Args:
        model: with its weights, in evaluation mode.
        grouped: also run a Hiera's attention and MLPs in groups; on a GPU these would be slower.
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
    """Zeros in the shape of a feature map, in the memory of one number."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return features.new_zeros(()).expand(features.shape)


@torch.no_grad()
def _join_projections(model: SAM2Base) -> None:
    """Puts `conv_s0` and `conv_s1` of the mask decoder into the convolutions before them."""
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
