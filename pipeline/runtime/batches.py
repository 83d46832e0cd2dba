"""Batches of people that become smaller when the GPU is out of memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy.typing as npt
import torch

logger = logging.getLogger(__name__)
R = TypeVar('R')
Indices = npt.NDArray[Any]


class AdaptiveBatcher:
    """Runs people in batches of adaptive size.

    Args:
        size: maximum batch size; halved for this and later batches when CUDA is out of memory.
        setting: name of the setting, for the message.
    """

    def __init__(self, size: int, setting: str) -> None:
        self.size = size
        self.setting = setting

    def run(self, rows: Indices, function: Callable[[Indices], R]) -> Iterator[tuple[Indices, R]]:
        """Yield batches of ``rows`` (N, ...), in order, each with the result of ``function``.

        Raises:
            torch.cuda.OutOfMemoryError: there is no memory for a single row.
        """
        start = 0
        while start < len(rows):
            part = rows[start : start + self.size]
            try:
                result = function(part)
            except torch.cuda.OutOfMemoryError:
                if len(part) == 1:
                    raise
            else:
                yield part, result
                start += len(part)
                continue
            # Outside of the handler: its traceback keeps the tensors alive.
            self._halve(len(part))

    def _halve(self, tried: int) -> None:
        torch.cuda.empty_cache()
        self.size = max(tried // 2, 1)
        logger.warning(
            'out of GPU memory with %d people at once; going on with %d; %s=%d avoids the retry',
            tried, self.size, self.setting, self.size,
        )  # fmt: skip
