"""Peak memory of a block of code."""

from __future__ import annotations

import ctypes
import gc
from types import TracebackType

from typing_extensions import Self

from ..runtime.memory import peak_bytes, reset_peak, resident_bytes


class PeakMemory:
    """Measures how far memory grows inside a ``with`` block.

    On a CUDA device it is the memory of PyTorch's tensors there, elsewhere that of the process.

    Attributes:
        mib: growth in MiB, after the block.
        exact: False where the system cannot reset its peak; then ``mib`` is an upper bound.
    """

    def __init__(self, device: str = 'cpu') -> None:
        self.device = device
        self.mib = 0.0
        self.exact = True

    def __enter__(self) -> Self:
        if self._on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            _give_back()
            self._before = resident_bytes()
            self.exact = reset_peak()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._on_gpu:
            import torch

            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = peak_bytes()
        self.mib = (peak - self._before) / 2**20

    @property
    def _on_gpu(self) -> bool:
        return self.device.startswith('cuda')


def _give_back() -> None:
    """Returns freed memory to the system: what an earlier run left there would hide growth."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # glibc only
    if trim is not None:
        trim(0)
