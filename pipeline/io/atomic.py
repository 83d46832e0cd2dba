"""Atomic writing of files, and their checksums."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_file(path: Path, draft: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a file for writing that replaces ``path`` only if the ``with`` block succeeds.

    The bytes go to a hidden file in the same folder, are synced to the disk and renamed. A killed
    process leaves the old content or the new content, never a part. The next write replaces a
    hidden file that a killed process left, and a link of that name, which it does not follow.
    ``draft`` takes the place of the hidden file, in a folder of the same file system.
    """
    draft = draft or _draft(path)
    for folder in {path.parent, draft.parent}:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        draft.unlink(missing_ok=True)
        with open(draft, 'xb', opener=open_no_link) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_file(path) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8 to ``path`` atomically."""
    write_bytes(path, text.encode('utf-8', 'backslashreplace'))


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:
    """Write ``content`` as strict JSON to ``path`` atomically.

    Raises:
        ValueError: The content has NaN or infinity, which JSON does not support.
    """
    write_text(path, dump_json(content, indent=indent) + '\n')


def dump_json(content: Any, *, indent: int | None = None) -> str:
    """Serialize ``content`` as strict JSON; see `write_json`."""
    return json.dumps(content, indent=indent, allow_nan=False)


def remove(path: Path) -> None:
    """Remove a file, and the hidden file of an interrupted write."""
    path.unlink(missing_ok=True)
    _draft(path).unlink(missing_ok=True)


def compute_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def open_no_link(path: str, flags: int) -> int:
    """Open a file, unless it is a symbolic link; an ``opener`` of `open`."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _draft(path: Path) -> Path:
    name = f'.{path.name}.part'
    if len(os.fsencode(name)) > 255:  # more than a file system allows
        name = f'.{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.part'
    return path.with_name(name)
