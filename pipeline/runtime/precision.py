"""Half precision, tensor layout and compilation of the expensive part of a model.

The heads of the OpenMMLab models convert to numpy (which has no bfloat16), sort scores and change
shapes from call to call. Backbones, necks and image encoders take most of the time and have none
of these problems.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from torch import nn

from .options import RuntimeOptions

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
            from .wrappers import Compiled

            child = Compiled(child, runtime.compile)
        if runtime.precision != 'fp32':
            from .wrappers import DTYPES, HalfPrecision

            child = HalfPrecision(child, DTYPES[runtime.precision])
        setattr(model, name, child)
