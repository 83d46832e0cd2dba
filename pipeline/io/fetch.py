"""Inputs that are no files: images from the web and from stdin."""

from __future__ import annotations

import hashlib
import sys
import urllib.request
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from ..values import in_line
from .atomic import write_bytes
from .images import STREAMS, ImageReadError, WrongInputError

MAX_BYTES = 200 * 2**20
TIMEOUT_S = 30


def fetch_input(source: str, folder: Path) -> Path:
    """Save the image of an http(s) URL, or of stdin for ``-``, in ``folder``.

    Raises:
        WrongInputError: The source is a video, a camera or another kind of URL.
        ImageReadError: The server does not answer, or there are no bytes or more than `MAX_BYTES`.
    """
    if source == '-':
        data = _read(sys.stdin.buffer, 'stdin')
        path = folder / f'stdin_{hashlib.sha256(data).hexdigest()[:8]}'
    elif source.lower().startswith(('http://', 'https://')):
        try:
            parts = urlsplit(source)
            request = urllib.request.Request(source, headers={'User-Agent': 'bbox-mask-pose'})
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                data = _read(answer, source)
        except ImageReadError:
            raise
        except (OSError, ValueError, HTTPException) as error:  # ValueError: no valid URL
            reason = f'cannot be downloaded ({in_line(error)})'
            raise ImageReadError(source, reason, 'download it and pass the file') from error
        # Images of different URLs may have the same name.
        digest = hashlib.sha256(source.encode()).hexdigest()[:8]
        path = folder / digest / (PurePosixPath(unquote(parts.path)).name or parts.netloc)
    else:
        raise WrongInputError(_describe_video(source))
    write_bytes(path, data)
    return path


def _describe_video(source: str) -> str:
    if '://' in source and not source.lower().startswith(STREAMS):
        return f'{source}: not an http or https URL; pass a file'
    return (
        f'{source}: a video; pass it to the command `bmp run` itself, not in a list, or to '
        '`model.track` in Python'
    )


def _read(stream: IO[bytes], source: str) -> bytes:
    data = stream.read(MAX_BYTES + 1)
    if not data:
        raise ImageReadError(source, 'no bytes', 'pass one image')
    if len(data) > MAX_BYTES:
        raise ImageReadError(source, f'more than {MAX_BYTES >> 20} MiB', 'pass a smaller image')
    return data
