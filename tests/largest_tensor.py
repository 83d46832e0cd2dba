"""The largest tensor that a block of code makes."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LargestTensor(TorchDispatchMode):
    """Record the numbers and bytes of the largest tensors made inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (list, tuple)) else [result]:
            # A view takes no memory of its own.
            if isinstance(value, torch.Tensor) and not value._is_view():
                self.numel = max(self.numel, value.numel())
                self.bytes = max(self.bytes, value.numel() * value.element_size())
        return result
