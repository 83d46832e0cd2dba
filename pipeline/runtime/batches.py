"""People in bounded groups, and in smaller ones when the GPU has no memory for them."""

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
    """How many people run at once.

    Args:
        size: at most so many; halved whenever CUDA is out of memory, and for all that follows.
        setting: name of the setting behind it, for the message.
    """

    def __init__(self, size: int, setting: str) -> None:
        self.size = size
        self.setting = setting

    def run(self, rows: Indices, function: Callable[[Indices], R]) -> Iterator[tuple[Indices, R]]:
        """Groups of ``rows`` (N, ...), in order, each with what ``function`` makes of it.

        Raises:
            torch.cuda.OutOfMemoryError: there is no room for a single one.
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
