"""Changes of how a module runs: in half precision, or compiled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .options import Compile

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def compute_in(module: nn.Module, dtype: torch.dtype) -> None:
    """Let a module compute under autocast and return float32, in place.

    The weights of its products are converted once; norms and position encodings stay float32.
    """
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            part.to(dtype)
    forward = module.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(next(module.parameters()).device.type, dtype=dtype):
            return to_float32(forward(*args, **kwargs))

    module.forward = run


class Compiled(nn.Module):
    """Runs a module through `torch.compile`, for batches of a few fixed sizes; has its attributes.

    Every new shape costs a compilation, so batches are filled up to the next power of two.

    Args:
        module: takes a batch of images (B, ...), and gives tensors (B, ...), nested in lists,
            tuples and dicts.
        mode: of `torch.compile`.
        backend: of `torch.compile`.
    """

    def __init__(self, module: nn.Module, mode: Compile, backend: str = 'inductor') -> None:
        super().__init__()
        self.module = module
        # No submodule: its weights are those of `module`.
        self.run = [torch.compile(module, mode=mode, dynamic=False, backend=backend)]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__('module'), name)

    def forward(self, images: Tensor) -> Any:
        """Output of the module for images (B, ...)."""
        count = len(images)
        size = 1 << (count - 1).bit_length()
        if size == count:
            return self.run[0](images)
        filled = torch.cat([images, images.new_zeros(size - count, *images.shape[1:])])
        return _map(self.run[0](filled), lambda tensor: tensor[:count])


def to_float32(value: Any) -> Any:
    """Floating tensors inside nested lists, tuples and dicts as float32."""
    return _map(value, lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)


def _map(value: Any, change: Any) -> Any:
    """Every tensor inside nested lists, tuples and dicts changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {k: _map(v, change) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_map(v, change) for v in value)
    return value
