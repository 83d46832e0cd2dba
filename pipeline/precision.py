"""Half precision for the heavy part of a model, float32 around it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class HalfPrecision(nn.Module):
    """Runs a module under autocast and hands float32 on.

    The heads of the OpenMMLab models convert to numpy (which has no bfloat16) and sort scores, so
    only backbones, necks and image encoders, where the time goes, are worth wrapping.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self.dtype = dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Output of the module with every floating tensor as float32."""
        device = next(self.module.parameters()).device.type
        with torch.autocast(device, dtype=self.dtype):
            return to_float32(self.module(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__('module'), name)


def wrap_half(model: nn.Module, names: tuple[str, ...], precision: str) -> None:
    """Run the named children of ``model`` in half precision; ``fp32`` leaves them alone."""
    if precision == 'fp32':
        return
    for name in names:
        child = getattr(model, name, None)
        if isinstance(child, nn.Module):
            setattr(model, name, HalfPrecision(child, DTYPES[precision]))


def to_float32(value: Any) -> Any:
    """Floating tensors inside nested lists, tuples and dicts as float32."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {k: to_float32(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_float32(v) for v in value)
    return value
