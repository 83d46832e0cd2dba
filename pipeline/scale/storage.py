"""Folders and files at any address of fsspec: a path, ``s3://``, ``gs://``, ``http(s)://``, ..."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ..io.atomic import atomic_file
from ..io.images import InputError
from ..io.runner import DISK_ERRORS
from ..values import install_hint

PAUSES_S = (0.2, 1.0, 4.0)  # between attempts, after those of the file system itself
DRAFTS = 'tmp'  # folder of unfinished files
OLD_DRAFT_S = 3600.0
# Another attempt does not help.
FINAL_ERRORS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
_TIMES = ('mtime', 'LastModified', 'last_modified', 'updated', 'created')
T = TypeVar('T')


def is_address(text: str) -> bool:
    """Return whether a text is an address of fsspec and not a plain path."""
    return '://' in text


def open_file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, without a cache of listings, and the path in it.

    Raises:
        InputError: The protocol is not known, or its package is not installed.
    """
    try:
        # With more connections per file, each read of S3 begins with a request for its size.
        options = {'max_concurrency': 1} if address.startswith('s3') else {}
        files, path = fsspec.core.url_to_fs(address, use_listings_cache=False, **options)
    except ImportError as error:  # the package of a protocol
        raise InputError(f'{address}: {error}; for s3://, {install_hint("s3")}') from None
    except ValueError as error:
        raise InputError(f'{address}: {error}') from error
    return files, str(path)


def retry(function: Callable[[], T]) -> T:
    """Call ``function``; again after a pause if it raises an error that may pass.

    Raises:
        OSError: It raises an error of the client of an object store each time.
    """
    for pause in PAUSES_S:
        try:
            return function()
        except FINAL_ERRORS:
            raise
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise
        except Exception:  # noqa: BLE001 - clients of object stores raise errors of any type
            pass
        time.sleep(pause)
    try:
        return function()
    except (OSError, ValueError):
        raise
    except Exception as error:  # such as absent credentials
        raise OSError(f'{type(error).__name__}: {error}') from error


@dataclass(frozen=True)
class Entry:
    """A file in a listing."""

    name: str
    size: int
    modified: float  # seconds since 1970; 0: unknown


class Folder:
    """A folder; paths of its files are relative, with ``/``."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip('/') if is_address(address) else os.path.abspath(address)
        self._files, self.root = open_file_system(self.address)
        self.is_local = isinstance(self._files, LocalFileSystem)

    def join(self, path: str) -> str:
        """Return the path of a file in its file system."""
        return posixpath.join(self.root, path)

    def read(self, path: str) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: There is no such file.
        """
        return bytes(retry(lambda: self._files.cat_file(self.join(path))))

    def write(self, path: str, data: bytes) -> None:
        """Write a file that is complete as soon as it exists: by renaming, or by one PUT."""
        if not self.is_local:
            retry(lambda: self._files.pipe_file(self.join(path), data))
            return
        # Two processes may write the same file at the same time, so each has its own draft.
        draft = Path(self.join(f'{DRAFTS}/{uuid4().hex}'))
        with atomic_file(Path(self.join(path)), draft) as stream:
            stream.write(data)

    def put(self, source: str, path: str) -> None:
        """Copy a local file into the folder of an object store."""
        retry(lambda: self._files.put_file(source, self.join(path)))

    def remove(self, path: str) -> None:
        """Remove a file, if it exists."""
        try:
            retry(lambda: self._files.rm_file(self.join(path)))
        except FileNotFoundError:
            pass

    def list(self, path: str) -> Iterator[Entry]:
        """List the files of one folder; none if it does not exist."""
        try:
            rows = retry(lambda: self._files.ls(self.join(path), detail=True))
        except FileNotFoundError:
            return
        for row in rows:
            if row['type'] == 'file' and not row['name'].endswith('/'):
                name = posixpath.basename(row['name'])
                yield Entry(name, int(row.get('size') or 0), _read_time(row))

    def remove_old_drafts(self) -> None:
        """Remove what killed processes left."""
        if self.is_local:
            for entry in self.list(DRAFTS):
                if entry.modified < time.time() - OLD_DRAFT_S:
                    self.remove(f'{DRAFTS}/{entry.name}')


@lru_cache(8)
def open_folder(address: str) -> Folder:
    """Open a folder, once per process."""
    return Folder(address)


def read_range(address: str, offset: int, size: int) -> bytes:
    """Read a file of any address; ``size`` bytes from ``offset``, or all for a negative offset.

    Raises:
        EOFError: The file has fewer bytes.
    """
    files, path = open_file_system(address)
    if offset < 0:
        return bytes(files.cat_file(path))
    data = bytes(files.cat_file(path, start=offset, end=offset + size))
    if len(data) != size:
        raise EOFError(f'{address}: {len(data)} bytes at {offset} instead of {size}')
    return data


def _read_time(row: dict[str, Any]) -> float:
    for name in _TIMES:
        value = row.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return 0.0
