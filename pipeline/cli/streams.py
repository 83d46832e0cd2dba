"""Output that survives any terminal."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any


class OutputStream:
    """A text stream that survives what its other end does.

    Characters that it cannot encode are written as escapes. When a pipe is closed (``| head``) or
    the terminal is gone, the rest goes nowhere, so that the command finishes its work.
    """

    def __init__(self, stream: TextIOWrapper) -> None:
        stream.reconfigure(errors='backslashreplace')
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        with self._until_closed():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what waits."""
        with self._until_closed():
            self._stream.flush()

    @contextmanager
    def _until_closed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def robust_output() -> Iterator[None]:
    """Make stdout and stderr survive any terminal inside the block; see `OutputStream`."""
    before = sys.stdout, sys.stderr
    for name, stream in zip(('stdout', 'stderr'), before, strict=True):
        if stream is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, 'w', errors='backslashreplace'))
        elif stream is getattr(sys, f'__{name}__') and isinstance(stream, TextIOWrapper):
            setattr(sys, name, OutputStream(stream))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
