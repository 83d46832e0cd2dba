"""How the parts of a model run: half precision, tensor layout, compilation, matrix products.

The heads of the OpenMMLab models convert to numpy (which has no bfloat16), sort scores and change
shapes from call to call, so only their layers run in half precision.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from torch import nn

from .options import Precision, RuntimeOptions
from .products import onednn_is_faster, use_onednn

logger = logging.getLogger(__name__)
LAYERS = (nn.Sequential, nn.Linear, nn.Conv2d)


def cpu_computes_in_bf16() -> bool:
    """Whether this processor has instructions for bfloat16 (AVX512-BF16, AMX or the like).

    Others emulate it, at a tenth of the speed of float32.
    """
    mkldnn, operators = cast(Any, torch.backends.mkldnn), cast(Any, torch.ops.mkldnn)
    return bool(mkldnn.is_available() and operators._is_mkldnn_bf16_supported())


def fastest_precision(device: str) -> Precision:
    """Return the half precision that a device (not 'auto') computes in, else fp32."""
    if device.startswith('cpu'):
        return 'bf16' if cpu_computes_in_bf16() else 'fp32'
    has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return 'bf16' if has_bf16 else 'fp16'


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
    """Change how parts of ``model`` run, in place; the names of its weights stay.

    Args:
        model: in evaluation mode.
        names: submodules to change; the first one is the one that is compiled.
        runtime: precision, memory format and compiler.
    """
    modules = dict(model.named_modules())
    for name in names:
        child = modules.get(name)
        if child is None:
            continue
        if runtime.memory_format == 'channels_last':
            child.to(memory_format=torch.channels_last)
        if runtime.precision != 'fp32' and next(child.parameters(), None) is not None:
            from .wrappers import DTYPES, compute_in

            compute_in(child, DTYPES[runtime.precision])
        if runtime.compile is not None and name == names[0]:
            from .wrappers import Compiled

            setattr(model, name, Compiled(child, runtime.compile))
    if runtime.on_cpu and runtime.compile is None and onednn_is_faster():
        use_onednn(model)


def layers_of(model: nn.Module, head: str) -> tuple[str, ...]:
    """Names of the submodules of a head that map tensors to tensors."""
    parts = getattr(model, head, nn.Module()).named_children()
    return tuple(f'{head}.{name}' for name, part in parts if isinstance(part, LAYERS))
