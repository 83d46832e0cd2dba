"""How the three models run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal['fp32', 'bf16', 'fp16']
Compile = Literal['default', 'max-autotune-no-cudagraphs']


@dataclass(frozen=True)
class RuntimeOptions:
    """Where and how the three models run."""

    device: str = 'auto'  # auto: cuda when there is one, else cpu
    precision: Precision = 'fp32'  # number format of the layers; bf16 and fp16 use autocast
    # Memory layout of the backbones; None: PyTorch's default, for models without support.
    memory_format: Literal['channels_last'] | None = 'channels_last'
    compile: Compile | None = None  # mode of torch.compile; None: off
    # Memory of freed tensors on a CPU: 'give_back' returns it to the system after each stage; None:
    # the C library keeps much of it.
    freed_memory: Literal['give_back'] | None = None
    note: str | None = None  # one line shown to the user

    @property
    def on_cpu(self) -> bool:
        """Whether the device is a CPU; ``auto`` must be resolved before."""
        return self.device.startswith('cpu')


ON_CPU = RuntimeOptions(device='cpu')
