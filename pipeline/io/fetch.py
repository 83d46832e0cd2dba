"""Inputs that are no files: images from the web and from stdin."""

from __future__ import annotations

import hashlib
import sys
import urllib.request
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from .atomic import write_bytes
from .images import ImageReadError

MAX_BYTES = 200 * 2**20
TIMEOUT_S = 30


def fetch_input(source: str, folder: Path) -> Path:
    """Save the image of an http(s) URL, or of stdin for ``-``, in ``folder``.

    Raises:
        ImageReadError: The server does not answer, or there are no bytes or more than `MAX_BYTES`.
    """
    if source == '-':
        data = _read(sys.stdin.buffer, 'stdin')
        path = folder / f'stdin_{hashlib.sha256(data).hexdigest()[:8]}'
    else:
        parts = urlsplit(source)
        request = urllib.request.Request(source, headers={'User-Agent': 'bbox-mask-pose'})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                data = _read(answer, source)
        except OSError as error:  # also of urllib and http.client
            reason = getattr(error, 'reason', None) or error
            code = f'HTTP {error.code} ' if hasattr(error, 'code') else ''
            step = 'download it and pass the file'
            raise ImageReadError(source, f'cannot be downloaded ({code}{reason})', step) from error
        # Images of different URLs may have the same name.
        digest = hashlib.sha256(source.encode()).hexdigest()[:8]
        path = folder / digest / (PurePosixPath(unquote(parts.path)).name or parts.netloc)
    write_bytes(path, data)
    return path


def _read(stream: IO[bytes], source: str) -> bytes:
    data = stream.read(MAX_BYTES + 1)
    if not data:
        raise ImageReadError(source, 'no bytes', 'pass one image')
    if len(data) > MAX_BYTES:
        raise ImageReadError(source, f'more than {MAX_BYTES >> 20} MiB', 'pass a smaller image')
    return data
