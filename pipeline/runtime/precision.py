"""Half precision, tensor layout and compilation of the expensive part of a model.

The heads of the OpenMMLab models convert to numpy (which has no bfloat16), sort scores and change
shapes from call to call. Backbones, necks and image encoders take most of the time and have none
of these problems.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from torch import Tensor, nn

from .options import Compile, RuntimeOptions

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
logger = logging.getLogger(__name__)


def cpu_computes_in_bf16() -> bool:
    """Whether this processor has instructions for bfloat16 (AVX512-BF16, AMX or the like).

    Others emulate it, at a tenth of the speed of float32.
    """
    mkldnn, operators = cast(Any, torch.backends.mkldnn), cast(Any, torch.ops.mkldnn)
    return bool(mkldnn.is_available() and operators._is_mkldnn_bf16_supported())


def warn_of_emulation(runtime: RuntimeOptions) -> None:
    """Log a warning where half precision makes a model slower, not faster."""
    if not runtime.on_cpu or runtime.precision == 'fp32':
        return
    if runtime.precision == 'fp16' or not cpu_computes_in_bf16():
        logger.warning(
            'runtime.precision=%s: this processor only emulates it, many times slower than fp32',
            runtime.precision,
        )


class Wrapper(nn.Module):
    """A module that wraps another one and forwards its attributes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__('module'), name)


class HalfPrecision(Wrapper):
    """Runs a module under autocast and returns float32."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__(module)
        self.dtype = dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Output of the module with every floating tensor as float32."""
        device = next(self.module.parameters()).device.type
        with torch.autocast(device, dtype=self.dtype):
            return to_float32(self.module(*args, **kwargs))


class Compiled(Wrapper):
    """Runs a module through `torch.compile`, for batches of a few fixed sizes.

    Every new shape costs a compilation, so batches are filled up to the next power of two.

    Args:
        module: takes a batch of images (B, ...) and returns tensors (B, ...), nested in lists,
            tuples and dicts.
        mode: of `torch.compile`.
        backend: of `torch.compile`.
    """

    def __init__(self, module: nn.Module, mode: Compile, backend: str = 'inductor') -> None:
        super().__init__(module)
        # No submodule: its weights are those of `module`.
        self.run = [torch.compile(module, mode=mode, dynamic=False, backend=backend)]

    def forward(self, images: Tensor) -> Any:
        """Output of the module for images (B, ...)."""
        count = len(images)
        size = 1 << (count - 1).bit_length()
        if size == count:
            return self.run[0](images)
        filled = torch.cat([images, images.new_zeros(size - count, *images.shape[1:])])
        return _map(self.run[0](filled), lambda tensor: tensor[:count])


def optimize_modules(model: nn.Module, names: tuple[str, ...], runtime: RuntimeOptions) -> None:
    """Change how the named children of ``model`` run, in place; missing children are skipped.

    Args:
        model: in evaluation mode.
        names: children to change; the first one is the one that is compiled.
        runtime: precision, memory format and compiler.
    """
    for name in names:
        child = getattr(model, name, None)
        if not isinstance(child, nn.Module):
            continue
        if runtime.memory_format == 'channels_last':
            child.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if runtime.compile is not None and name == names[0]:
            child = Compiled(child, runtime.compile)
        if runtime.precision != 'fp32':
            child = HalfPrecision(child, DTYPES[runtime.precision])
        setattr(model, name, child)


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
