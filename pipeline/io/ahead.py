"""Preparing what comes next in a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

T = TypeVar('T')
R = TypeVar('R')


def ahead(
    pool: Executor, prepare: Callable[[T], R], items: Iterable[T], depth: int = 1
) -> Generator[tuple[T, Future[R]], None, None]:
    """Every item with what ``prepare`` makes of it, in order.

    While an item is worked on, the next ``depth`` are being prepared; errors of ``prepare`` are
    raised by ``result()`` of the future. What has not begun is cancelled when the caller stops.
    """
    rest = iter(items)
    begun: deque[tuple[T, Future[R]]] = deque()
    try:
        begun.extend((item, pool.submit(prepare, item)) for item in islice(rest, depth + 1))
        while begun:
            yield begun.popleft()
            begun.extend((item, pool.submit(prepare, item)) for item in islice(rest, 1))
    finally:
        for _, future in begun:
            future.cancel()
