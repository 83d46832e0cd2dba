"""SAM 2's image encoder with the same weights and the same results in half of the memory.

Attention inside windows and the MLPs treat windows and pixels one by one, so they can run in
groups whose intermediate results stay small, in the cache of a processor at best. The maps at
strides 4 and 8 are used by nothing but a projection in the mask decoder: convolution and projection
are one matrix. Position encodings are for videos. Nothing of `sam2` is replaced but modules of the
one model that is given.

Legend: B images, H x W cells, C channels, N windows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

MAX_BYTES = 4 << 20
"""The largest intermediate result of a group. On a CPU 2 to 30 MiB took the same time."""


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
    if grouped:
        for block in getattr(encoder.trunk, 'blocks', ()):
            _group(block)


class NoPositions(nn.Module):
    """Zeros in the shape of a feature map, in the memory of one number."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return features.new_zeros(()).expand(features.shape)


class InGroups(nn.Module):
    """Runs a module on groups of rows of its input.

    Args:
        inner: treats the rows one by one.
        bytes_per_row: of its largest intermediate result.
        multiple: rows that belong together.
    """

    def __init__(
        self, inner: Callable[[Tensor], Tensor], bytes_per_row: float, multiple: int = 1
    ) -> None:
        super().__init__()
        self.inner = inner
        self.size = max(int(MAX_BYTES / bytes_per_row) // multiple, 1) * multiple

    def forward(self, x: Tensor) -> Tensor:
        """(rows, ...) to (rows', ...)."""
        if len(x) <= self.size:
            return self.inner(x)
        first = self.inner(x[: self.size])
        share = len(first) / self.size  # pooling leaves fewer rows
        out = first.new_empty(round(len(x) * share), *first.shape[1:])
        out[: len(first)] = first
        for start in range(self.size, len(x), self.size):
            part = self.inner(x[start : start + self.size])
            at = round(start * share)
            out[at : at + len(part)] = part
        return out


class FlatRows(nn.Module):
    """Gives a module (..., C) as rows (n, C)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C')."""
        out: Tensor = self.inner(x.flatten(0, -2))
        return out.view(*x.shape[:-1], out.shape[-1])


class PooledProjection(nn.Module):
    """The shortcut of a block that halves the map: projection and pooling of stripes of rows."""

    def __init__(self, projection: nn.Linear, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.projection = projection
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H / 2, W / 2, C')."""
        bytes_per_row = x.shape[2] * self.projection.out_features * x.element_size()
        stripes = InGroups(self._stripe, bytes_per_row, multiple=2)
        return torch.stack([stripes(image) for image in x])

    def _stripe(self, rows: Tensor) -> Tensor:
        projected = self.projection(rows).permute(2, 0, 1)
        pooled: Tensor = self.pool(projected[None])[0]
        return pooled.permute(1, 2, 0)


def _group(block: Any) -> None:
    """Changes a `MultiScaleBlock` of `sam2`."""
    weight: Tensor = block.mlp.layers[0].weight
    hidden = len(weight) * weight.element_size()
    block.mlp = FlatRows(InGroups(nn.Sequential(block.norm2, block.mlp), hidden))
    block.norm2 = nn.Identity()
    if block.window_size:
        tokens = block.window_size**2
        values = block.attn.qkv.out_features * weight.element_size()
        block.attn = InGroups(block.attn, tokens * values)
    if block.pool is not None and block.dim != block.dim_out:
        # The attention has the pooling of its queries by a name of its own.
        block.proj = PooledProjection(block.proj, block.pool)
        block.pool = None


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
