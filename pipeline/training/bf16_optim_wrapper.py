"""Training in bfloat16 on any device; MMEngine's mixed-precision wrapper needs a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from ..runtime.precision import cpu_computes_in_bf16


@OPTIM_WRAPPERS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class Bf16OptimWrapper(OptimWrapper):  # type: ignore[misc,unused-ignore]
    """`OptimWrapper` with autocast to bfloat16 in the forward pass.

    bfloat16 has the range of float32, so no loss scaling is needed. Weights, gradients and
    optimizer state stay float32. On a processor that only emulates bfloat16 (ten times slower), the
    forward pass stays float32 too, with one log message.
    """

    _fallback_is_logged = False

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter the context of the forward pass of one training step."""
        device = next(model.parameters()).device.type
        enabled = device != 'cpu' or cpu_computes_in_bf16()
        if not enabled and not self._fallback_is_logged:
            self._fallback_is_logged = True
            print_log('This processor has no bfloat16: training in float32', logger='current')
        with (
            super().optim_context(model),
            torch.autocast(device, dtype=torch.bfloat16, enabled=enabled),
        ):
            yield
