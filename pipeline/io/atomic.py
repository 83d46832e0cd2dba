"""Files that are either there in full or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file open for writing that takes its name only when the ``with`` block ends well.

    The bytes go to a hidden file in the same folder, reach the disk (fsync) and are then renamed,
    so a killed process leaves the old content or the new one, never a part. The hidden name is
    always the same, so that what a killed process leaves behind is overwritten by the next one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path)
    try:
        with draft.open('wb') as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` as in `atomic_file`."""
    with atomic_file(path) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8 to ``path`` as in `atomic_file`."""
    write_bytes(path, text.encode('utf-8', 'backslashreplace'))


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:
    """Write ``content`` as strict JSON to ``path`` as in `atomic_file`.

    Raises:
        ValueError: the content holds NaN or infinity, which JSON does not have.
    """
    write_text(path, dump_json(content, indent=indent) + '\n')


def dump_json(content: Any, *, indent: int | None = None) -> str:
    """``content`` as strict JSON; see `write_json`."""
    return json.dumps(content, indent=indent, allow_nan=False)


def remove(path: Path) -> None:
    """Remove a file, and what a killed process may have left of it."""
    path.unlink(missing_ok=True)
    _draft(path).unlink(missing_ok=True)


def _draft(path: Path) -> Path:
    return path.with_name(f'.{path.name}.part')
