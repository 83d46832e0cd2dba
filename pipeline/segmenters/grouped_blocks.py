"""Blocks of SAM 2's Hiera that run in groups of windows and pixels, with the same results.

Attention inside windows and the MLPs process windows and pixels independently. In groups, their
intermediate results stay small, ideally in the processor's cache.

Legend: B images, H x W cells, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

MAX_BYTES = 4 << 20
"""Largest intermediate result of a group. On a CPU, 2 to 30 MiB take the same time."""


class InGroups(nn.Module):
    """Runs a module on groups of rows of its input.

    Args:
        inner: Module that processes rows independently.
        bytes_per_row: Size of its largest intermediate result per row.
        multiple: Group sizes are multiples of this.
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
        ratio = len(first) / self.size  # pooling leaves fewer rows
        out = first.new_empty(round(len(x) * ratio), *first.shape[1:])
        out[: len(first)] = first
        for start in range(self.size, len(x), self.size):
            part = self.inner(x[start : start + self.size])
            at = round(start * ratio)
            out[at : at + len(part)] = part
        return out


class FlatRows(nn.Module):
    """Flattens (..., C) to rows (n, C) for a module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C')."""
        out: Tensor = self.inner(x.flatten(0, -2))
        return out.view(*x.shape[:-1], out.shape[-1])


class PooledProjection(nn.Module):
    """Shortcut of a downsampling block: projection and pooling in stripes of rows."""

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


def group_block(block: Any) -> None:
    """Change a `MultiScaleBlock` of `sam2` in place."""
    weight: Tensor = block.mlp.layers[0].weight
    hidden = len(weight) * weight.element_size()
    block.mlp = FlatRows(InGroups(nn.Sequential(block.norm2, block.mlp), hidden))
    block.norm2 = nn.Identity()
    if block.window_size:
        tokens = block.window_size**2
        values = block.attn.qkv.out_features * weight.element_size()
        block.attn = InGroups(block.attn, tokens * values)
    if block.pool is not None and block.dim != block.dim_out:
        # The attention pools its queries by a separate attribute.
        block.proj = PooledProjection(block.proj, block.pool)
        block.pool = None
