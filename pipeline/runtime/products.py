"""Matrix products by oneDNN in place of MKL, where that is faster.

PyTorch computes float32 products by MKL, which leaves AVX-512 out on processors that are not
Intel's; oneDNN uses it. The choice rests on the processor alone: a measurement could choose
otherwise next time, and two runs on one computer would differ in the last bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_CPU_INFO = Path('/proc/cpuinfo')
_WRAPPERS = 'mmcv.cnn.bricks.wrappers'  # mmcv's layers add only empty inputs for old PyTorch


def onednn_is_faster() -> bool:
    """Whether this processor has AVX-512 and is not Intel's."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    is_wide = torch.backends.cpu.get_cpu_capability() == 'AVX512'
    return is_wide and _CPU_INFO.exists() and 'Intel' not in _CPU_INFO.read_text()


def use_onednn(model: nn.Module) -> None:
    """Compute linear layers and 1 x 1 convolutions by oneDNN, in place; for inference only.

    Only the classes of layers change: weights keep their places and names.
    """
    for module in model.modules():
        kind = type(module)
        if kind.__module__ == _WRAPPERS:
            kind = kind.__mro__[1]
        if kind is nn.Linear:
            module.__class__ = Linear
        elif kind is nn.Conv2d and _is_pointwise(module):
            module.__class__ = PointwiseConv


def _is_pointwise(conv: Any) -> bool:
    unit = conv.kernel_size == conv.stride == (1, 1)
    return bool(unit and conv.padding in ((0, 0), 0) and conv.groups == 1)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`functional.linear` by oneDNN: (..., C) to (..., C')."""
    # Autocast converts; oneDNN has no float16 on many processors.
    if x.numel() == 0 or x.dtype != weight.dtype or x.dtype == torch.float16:
        return functional.linear(x, weight, bias)
    operators: Any = torch.ops.mkldnn
    out: Tensor = operators._linear_pointwise(x, weight, bias, 'none', [], '')
    return out


class Linear(nn.Linear):
    """`nn.Linear` by oneDNN."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C')."""
        return multiply(x, self.weight, self.bias)


class PointwiseConv(nn.Conv2d):
    """1 x 1 `nn.Conv2d` by oneDNN where the input is stored pixel by pixel (channels-last)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H, W)."""
        pixels = x.movedim(-3, -1)
        if not pixels.is_contiguous():
            return super().forward(x)
        return multiply(pixels, self.weight.flatten(1), self.bias).movedim(-1, -3)
